//! The command line: its commands, and the two that only print. What `scripts` does is in [`crate::scripts::commands`].

pub mod healthcheck;
pub mod import;
pub mod scripts;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value};

use crate::auth::{self, SignError};
use crate::config::{self, Config};

/// A real-time chat server: WebSocket clients in front, Redis behind.
#[derive(Debug, Parser)]
#[command(
    name = "chat-server",
    version,
    about,
    after_help = "\
Settings come from the environment and from .env.dev or .env.prod in the current folder, \
as APP_ENV says (unset: production); .env.example describes each of them.

Examples:
  APP_ENV=dev chat-server                 run the server for development
  APP_ENV=dev chat-server token alice     print a token to connect as alice
  chat-server config                      show the settings in effect
  chat-server scripts list                show which scripts run, and how long they take
  chat-server import --from redis://old   take over the chats of the replaced server

Exit codes: 0 after a clean shutdown, 1 after a failure, 2 if the command line is wrong,
64 if a setting is. `chat-server import --help` lists those of an import."
)]
pub struct Cli {
    /// What to do; `serve` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve,
    /// Print a token for a user, signed with JWT_SECRET, to try things out with
    #[command(after_help = "\
Only the token goes to standard output, so it can be used in a command:
  TOKEN=$(APP_ENV=dev chat-server token alice)

Examples:
  chat-server token alice
  chat-server token alice --ttl 15m
  chat-server token 42 --claims '{\"role\": \"admin\"}'")]
    Token(TokenArgs),
    /// Inspect, check, replace and try the Lua scripts that contain the chat rules
    #[command(subcommand)]
    Scripts(scripts::ScriptsCommand),
    /// Take over the chats of the NestJS server that this one replaces; may be repeated
    #[command(after_help = "\
The chats go to the Redis of REDIS_URL, under KEY_PREFIX; without REDIS_URL to that of the server that
runs on REDIS_DATA_DIR. MAX_CONTENT_BYTES, MAX_PARTICIPANTS and MAX_ROOMS_PER_USER apply.
Each thing that is not imported is a line on standard output, with its reason; a summary follows.
docs/moving.md describes the whole move.

Exit codes: 0 everything is there, 1 something was not imported, 2 it could not start or continue,
64 a setting is wrong.

Examples:
  chat-server import --from redis://old:6379 --dry-run
  chat-server import --from redis://:password@old:6379/2")]
    Import(import::ImportArgs),
    /// Ask the server that runs with the same settings whether it is healthy; exit code 0 if it is, otherwise 1
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the settings in effect; secrets are not shown
    Config {
        /// Print all settings with their defaults instead: the text of .env.example
        #[arg(long)]
        example: bool,
    },
}

/// The arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The user that the token is for
    #[arg(value_name = "USER-ID")]
    pub user_id: String,
    /// More claims, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_claims)]
    pub claims: Option<Map<String, Value>>,
    /// How long the token is valid, such as 30s, 15m, 1h, 7d, or never [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<Ttl>,
    /// Sign in production too
    #[arg(long)]
    pub force: bool,
}

/// How long a token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// This long from now.
    For(Duration),
    /// Forever.
    Never,
}

/// A day: long enough for a day's work, and a forgotten token soon expires.
const DEFAULT_TTL: Ttl = Ttl::For(Duration::from_secs(86_400));

/// Why `token` prints no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A token lets its holder act as that user, so production takes a deliberate step.
    #[error(
        "refused: this is production, where tokens come from your own login; \
         set APP_ENV=dev, or add --force if you mean it"
    )]
    Production,
    /// The lifetime was given twice.
    #[error("the claims have an exp and --ttl is given too; leave one of them out")]
    TwoLifetimes,
    /// As [`auth::sign`].
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The token that `chat-server token` prints.
///
/// # Errors
/// Production without `--force`, or what [`auth::sign`] refuses.
pub fn run_token(config: &Config, args: &TokenArgs) -> Result<String, TokenError> {
    if !config.environment.is_development() && !args.force {
        return Err(TokenError::Production);
    }
    let claims = args.claims.clone().unwrap_or_default();
    let ttl = match (claims.contains_key("exp"), args.ttl) {
        (true, Some(_)) => return Err(TokenError::TwoLifetimes),
        (true, None) => Ttl::Never,
        (false, ttl) => ttl.unwrap_or(DEFAULT_TTL),
    };
    let ttl = match ttl {
        Ttl::For(ttl) => Some(ttl),
        Ttl::Never => None,
    };
    Ok(auth::sign(&config.auth, &args.user_id, claims, ttl)?)
}

/// What `chat-server config` prints: a line `NAME=value` for each setting, secrets masked.
#[must_use]
pub fn run_config(config: &Config) -> String {
    let mut settings = config.describe();
    settings.push((config::settings::RUST_LOG.name, config::log_filter()));
    settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "never" {
        return Ok(Ttl::Never);
    }
    match humantime::parse_duration(text) {
        Ok(ttl) if !ttl.is_zero() => Ok(Ttl::For(ttl)),
        _ => Err("give a time such as 30s, 15m, 1h or 7d, or never".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::auth::{AuthError, Verifier};
    use clap::CommandFactory;
    use serde_json::json;

    fn config(environment: &str) -> Config {
        Config::from_lookup(&|name| match name {
            "APP_ENV" => Some(environment.to_owned()),
            "JWT_SECRET" => Some("s3cret-s3cret-s3cret-s3cret-s3cret".to_owned()),
            "REDIS_URL" => Some("redis://bob:hunter2@localhost".to_owned()),
            _ => None,
        })
        .unwrap()
    }

    fn token_args(arguments: &[&str]) -> TokenArgs {
        let line = ["chat-server", "token"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Some(Command::Token(args)) => args,
            other => panic!("not the token command: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
        assert!(
            Cli::try_parse_from(["chat-server"])
                .unwrap()
                .command
                .is_none()
        );
    }

    #[test]
    fn a_token_for_alice_is_accepted_as_hers() {
        let config = config("dev");
        let args = token_args(&["alice", "--claims", r#"{"role":"admin"}"#, "--ttl", "1h"]);
        let token = run_token(&config, &args).unwrap();
        let identity = Verifier::new(&config.auth).unwrap().verify(&token).unwrap();
        assert_eq!(identity.user_id, "alice");
        let left = identity
            .expires_at
            .unwrap()
            .duration_since(std::time::SystemTime::now());
        assert!((3590..=3600).contains(&left.unwrap().as_secs()));
    }

    #[test]
    fn the_lifetime_is_a_day_or_what_is_said() {
        let config = config("dev");
        let expiry = |arguments: &[&str]| {
            let token = run_token(&config, &token_args(arguments)).unwrap();
            Verifier::new(&config.auth)
                .unwrap()
                .verify(&token)
                .map(|id| id.expires_at)
        };
        assert!(expiry(&["alice"]).unwrap().is_some());
        assert_eq!(expiry(&["alice", "--ttl", "never"]), Ok(None));
        assert_eq!(
            expiry(&["alice", "--claims", r#"{"exp":1}"#]),
            Err(AuthError::Expired)
        );
        let twice = token_args(&["alice", "--claims", r#"{"exp":1}"#, "--ttl", "1h"]);
        assert!(matches!(
            run_token(&config, &twice),
            Err(TokenError::TwoLifetimes)
        ));
    }

    #[test]
    fn production_signs_only_by_force() {
        let config = config("production");
        let refused = run_token(&config, &token_args(&["alice"]));
        assert!(matches!(refused, Err(TokenError::Production)));
        assert!(run_token(&config, &token_args(&["alice", "--force"])).is_ok());
    }

    #[test]
    fn bad_arguments_are_refused() {
        for arguments in [
            vec!["alice", "--ttl", "soon"],
            vec!["alice", "--ttl", "0s"],
            vec!["alice", "--claims", "[]"],
            vec!["alice", "--claims", "{"],
            vec![],
        ] {
            let line = ["chat-server", "token"]
                .into_iter()
                .chain(arguments.clone());
            assert!(Cli::try_parse_from(line).is_err(), "{arguments:?}");
        }
        let other_user = TokenArgs {
            claims: json!({"id": "bob"}).as_object().cloned(),
            ..token_args(&["alice"])
        };
        let refused = run_token(&config("dev"), &other_user)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("bob"), "{refused}");
        assert!(run_token(&config("dev"), &token_args(&["a\nb"])).is_err());
    }

    #[test]
    fn config_shows_no_secret() {
        let text = run_config(&config("prod"));
        assert!(text.contains("APP_ENV=production\n"), "{text}");
        assert!(
            text.contains("REDIS_URL=redis://bob:***@localhost"),
            "{text}"
        );
        assert!(
            !text.contains("s3cret") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
