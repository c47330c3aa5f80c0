//! The binary: arguments, configuration, logging, run. All else is in the library.

use std::fmt::Display;
use std::io::{self, Write};
use std::num::NonZero;
use std::process::ExitCode;

use chat_server::cli::healthcheck::run_healthcheck;
use chat_server::cli::import::ImportArgs;
use chat_server::cli::scripts::ScriptsCommand;
use chat_server::cli::{self, Cli, Command};
use chat_server::config::{self, Config, OperatorConfig};
use chat_server::import;
use chat_server::logging;
use chat_server::scripts::commands;
use clap::Parser;
use rustix::fs::Mode;
use rustix::process::umask;

/// Events are made in one thread and freed in another: the C library's allocator spends a tenth of a send on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for a configuration that cannot be used (EX_USAGE of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;
/// The exit code of an import that could not be done.
const NOT_IMPORTED: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => configured(|config| finish(serve(config))),
        Command::Token(args) => {
            configured(|config| finish(cli::run_token(&config, &args).map(print)))
        }
        Command::Scripts(command) => run_scripts(command),
        Command::Import(args) => run_import(&args),
        Command::Healthcheck(args) => {
            configured(|config| finish(run_healthcheck(&config, &args).map(print)))
        }
        Command::Config { example: true } => {
            print(config::example::example_text().trim_end().to_owned());
            ExitCode::SUCCESS
        }
        Command::Config { example: false } => configured(|config| {
            for warning in config::warnings() {
                eprintln!("warning: {warning}");
            }
            print(cli::run_config(&config));
            ExitCode::SUCCESS
        }),
    }
}

fn configured(run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config::load() {
        Ok(config) => run(config),
        Err(errors) => refuse(&errors),
    }
}

fn run_scripts(command: ScriptsCommand) -> ExitCode {
    operated(async |config| finish(commands::run(command, config).await))
}

fn run_import(args: &ImportArgs) -> ExitCode {
    operated(async |config| match import::run(args, config).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(NOT_IMPORTED)
        }
    })
}

/// Runs what an operator needs no token settings for.
fn operated(run: impl AsyncFnOnce(OperatorConfig) -> ExitCode) -> ExitCode {
    let config = match config::load_for_operator() {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => finish(Err(error)),
    }
}

fn refuse(errors: &config::ConfigErrors) -> ExitCode {
    eprintln!("error: {errors}");
    ExitCode::from(BAD_CONFIGURATION)
}

fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // What the server and a Redis of its own write is for nobody else.
    umask(Mode::RWXG | Mode::RWXO);
    logging::init(&config::log_filter())?;
    for warning in config::warnings() {
        log::warn!("{warning}");
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads_on(cores))
        .enable_all()
        .build()?;
    Ok(runtime.block_on(chat_server::serve(config))?)
}

/// Prints a result. A reader that has gone away (`| head`) is no failure.
fn print(text: String) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn finish<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
