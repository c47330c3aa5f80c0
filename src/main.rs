//! The binary: arguments, configuration, logging, run. All else is in the library.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use chat_server::cli::{self, Cli, Command};
use chat_server::config::{self, Config};
use clap::Parser;

/// The exit code for a configuration that cannot be used (EX_USAGE of sysexits.h).
const BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    if let Command::Config { example: true } = command {
        print(config::example::example_text().trim_end().to_owned());
        return ExitCode::SUCCESS;
    }
    let config = match config::load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("error: {errors}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match command {
        Command::Serve => finish(serve(config)),
        Command::Token(args) => finish(cli::run_token(&config, &args).map(print)),
        Command::Config { .. } => {
            print(cli::run_config(&config));
            ExitCode::SUCCESS
        }
    }
}

fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    pretty_env_logger::formatted_builder()
        .parse_filters(&config::log_filter())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
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
