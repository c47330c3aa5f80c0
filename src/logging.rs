//! What is logged, to standard error.
//!
//! Tokens, secrets and what people write are never logged, whatever the filter says. Libraries log frames and requests as
//! they pass, in their most detailed records: those are left out.

use log::{LevelFilter, Log, Metadata, Record};

/// The target of this crate's own records.
const OWN: &str = "chat_server";
/// The most detailed records of libraries that are logged.
const LIBRARIES: LevelFilter = LevelFilter::Debug;
/// Libraries that log payloads in less detailed records too, and what of theirs is logged.
const TALKATIVE: [(&str, LevelFilter); 2] = [
    ("tungstenite", LevelFilter::Info),
    ("tokio_tungstenite", LevelFilter::Info),
];

/// Begins to log. `filter` is an `env_logger` filter, such as `info,chat_server=debug`.
///
/// # Errors
/// Something logs already.
pub fn init(filter: &str) -> Result<(), log::SetLoggerError> {
    let logger = pretty_env_logger::formatted_builder()
        .parse_filters(filter)
        .build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Discreet(logger)))
}

/// Leaves out what may hold payloads.
struct Discreet<L>(L);

impl<L: Log> Log for Discreet<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= most_detailed(metadata.target()) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= most_detailed(record.target()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn most_detailed(target: &str) -> LevelFilter {
    let name = target.split("::").next().unwrap_or_default();
    let talkative = TALKATIVE.iter().find(|(library, _)| *library == name);
    match talkative {
        Some((_, level)) => *level,
        None if name == OWN => LevelFilter::Trace,
        None => LIBRARIES,
    }
}
