//! The arguments of `chat-server import`.

use clap::Args;

/// What to import, and how.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The Redis of the replaced server, such as redis://old:6379/0; it is only read from
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Check and count everything, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}
