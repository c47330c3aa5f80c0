//! `chat-server healthcheck`: asks the server with the same settings whether it is healthy. It is for containers whose
//! image has no program that could ask.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use crate::config::Config;

/// How long connecting, asking and each read of the answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many bytes of the answer are read, at most: far more than it has.
const ANSWER_MAX_BYTES: u64 = 8 * 1024;

/// The arguments of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Ask whether it can serve clients now (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    pub ready: bool,
}

/// Why the server is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error("PORT is 0, so the port of the server is not known: set a fixed one")]
    NoPort,
    #[error("no answer from {address}: {source}")]
    NoAnswer {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{address} does not answer in HTTP")]
    NotHttp { address: SocketAddr },
    #[error("{address} answers {status}: {body}")]
    Refused {
        address: SocketAddr,
        status: u16,
        body: String,
    },
}

/// Asks the server with these settings, and returns its answer.
///
/// # Errors
/// The server cannot be reached, or says that it is not healthy.
pub fn run_healthcheck(config: &Config, args: &HealthcheckArgs) -> Result<String, Unhealthy> {
    if config.port == 0 {
        return Err(Unhealthy::NoPort);
    }
    let address = SocketAddr::new(config.own_host(), config.port);
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = get(address, path).map_err(|source| Unhealthy::NoAnswer { address, source })?;
    match parse(&answer) {
        Some((200, body)) => Ok(body.to_owned()),
        Some((status, body)) => Err(Unhealthy::Refused {
            address,
            status,
            body: body.to_owned(),
        }),
        None => Err(Unhealthy::NotHttp { address }),
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status and the body of an answer.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    Some((status.parse().ok()?, body.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\n{\"a\"";
        assert_eq!(parse(answer), Some((503, "{\"a\"")));
        for other in ["", "+PONG\r\n", "HTTP/1.1 abc\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert_eq!(parse(other), None);
        }
    }
}
