//! The arguments of `chat-server scripts`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use crate::scripts::Script;
use crate::scripts::applied::Target;
use crate::scripts::verify::Wanted;

/// The `scripts` commands.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
REDIS_URL, KEY_PREFIX and LUA_DIR are read from where the server reads them; without REDIS_URL the
Redis of the server that runs on REDIS_DATA_DIR is used. No token settings are needed.

To change a rule:
  chat-server scripts export my-rules
  $EDITOR my-rules/send_message.lua
  chat-server scripts check my-rules
  chat-server scripts apply my-rules --note 'no links in send_message'
  chat-server scripts rollback")]
pub enum ScriptsCommand {
    /// Show each script, where it comes from, and what every running server does with it
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the text of a script
    Show {
        #[arg(value_parser = parse_script)]
        script: Script,
        /// The script in this folder
        #[arg(long, conflicts_with_all = ["set", "embedded"])]
        dir: Option<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Print what differs from the embedded scripts, as a unified diff
    Diff {
        /// A folder of scripts
        #[arg(conflicts_with_all = ["set", "embedded"])]
        dir: Option<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Write the scripts in effect and their README into a folder; the embedded ones if there is no Redis
    Export {
        dir: PathBuf,
        #[command(flatten)]
        which: Which,
        /// Overwrite files that have another text
        #[arg(long)]
        force: bool,
    },
    /// Check scripts statically, and by running them on a scratch Redis
    Check {
        /// A folder of scripts [default: LUA_DIR, or the embedded scripts]
        dir: Option<PathBuf>,
        #[command(flatten)]
        how: How,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a folder's scripts, store them in Redis as a set, and have every server run it
    Apply(ApplyArgs),
    /// Show the sets that were applied; ten are kept, and those that were in effect for a day
    History {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have every server run an earlier set
    Rollback {
        /// A set's number, or `embedded` for the binary's own scripts [default: what was in effect before]
        #[arg(value_parser = parse_target)]
        target: Option<Target>,
    },
    /// Call a script with real keys and print what it returns
    Run(RunArgs),
}

/// The arguments of `scripts apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    pub dir: PathBuf,
    /// What the set is for
    #[arg(long, default_value = "")]
    pub note: String,
    /// Who applies it [default: this system's user and host]
    #[arg(long)]
    pub by: Option<String>,
    /// Apply it even if others have changed what is in effect since this folder was made
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub how: How,
}

/// How scripts are checked.
#[derive(Debug, Clone, Default, Args)]
pub struct How {
    /// Do not run them on a scratch Redis
    #[arg(long)]
    pub no_behaviour: bool,
    /// A command that the server's Redis user may run besides those of deploy/redis.acl; may be given many times
    #[arg(long, value_name = "COMMAND")]
    pub allow: Vec<String>,
}

impl How {
    pub fn wanted(self) -> Wanted {
        let Self {
            no_behaviour,
            allow,
        } = self;
        Wanted {
            no_behaviour,
            allow,
            own: Vec::new(),
        }
    }
}

/// Which scripts to use if no folder is given; by default those that a server with these settings runs.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct Which {
    /// The scripts of an applied set
    #[arg(long, value_name = "N")]
    pub set: Option<u64>,
    /// The scripts of the binary
    #[arg(long)]
    pub embedded: bool,
}

/// The arguments of `scripts run`; each script needs some of them and says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat-server scripts run get_chat_list --user alice
  chat-server scripts run get_history --room 5b534b82-d924-5ce9-a884-b847bb4d73be --user alice --limit 3
  chat-server scripts run send_message --room 5b534b82-d924-5ce9-a884-b847bb4d73be --user alice --content 'Hello'
  chat-server scripts run initialize_chat --user alice --with bob --with carol --name 'Book club'")]
pub struct RunArgs {
    #[arg(value_parser = parse_script)]
    pub script: Script,
    /// Do not ask before running a script that writes
    #[arg(long)]
    pub yes: bool,
    /// The room's id
    #[arg(long, value_parser = parse_room)]
    pub room: Option<RoomId>,
    /// The user who makes the call
    #[arg(long, value_parser = parse_user)]
    pub user: Option<UserId>,
    /// Another member of the room to create; may be given many times
    #[arg(long, value_parser = parse_user, value_name = "USER")]
    pub with: Vec<UserId>,
    /// The name of the group to create
    #[arg(long)]
    pub name: Option<String>,
    /// The message's text
    #[arg(long)]
    pub content: Option<String>,
    /// The sender's own id for the message
    #[arg(long)]
    pub client_id: Option<String>,
    /// The message to mark
    #[arg(long, value_parser = parse_message)]
    pub message: Option<MessageId>,
    /// Only messages before this one
    #[arg(long, value_parser = parse_message, conflicts_with = "after")]
    pub before: Option<MessageId>,
    /// Only messages after this one
    #[arg(long, value_parser = parse_message)]
    pub after: Option<MessageId>,
    /// Messages in the page, at most
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    /// A connection's id, 32 hexadecimal digits, as in the room's `viewing`
    #[arg(long, value_parser = parse_device)]
    pub device: Option<DeviceId>,
    /// sync_room, compare_rooms: the epoch of the last event delivered
    #[arg(long)]
    pub epoch: Option<String>,
    /// sync_room, compare_rooms: the rev of that event
    #[arg(long, default_value_t = 0)]
    pub rev: u64,
    /// sync_room, compare_rooms: the last message delivered
    #[arg(long, value_parser = parse_message, default_value = "0-0")]
    pub last: MessageId,
}

fn parse_script(text: &str) -> Result<Script, String> {
    let name = text.strip_suffix(".lua").unwrap_or(text);
    Script::of_name(name).ok_or_else(|| {
        let names: Vec<&str> = Script::ALL.iter().map(|script| script.name()).collect();
        format!(
            "there is no script of this name; the scripts are {}",
            names.join(", ")
        )
    })
}

fn parse_target(text: &str) -> Result<Target, String> {
    match (text, text.parse()) {
        ("embedded", _) => Ok(Target::Embedded),
        (_, Ok(number)) => Ok(Target::Set(number)),
        _ => Err("give a set's number, or `embedded`".to_owned()),
    }
}

fn parse_room(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).ok_or_else(|| "a room id is a UUID".to_owned())
}

fn parse_user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| "that is not a user id".to_owned())
}

fn parse_message(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).ok_or_else(|| "a message id is like 1750000000000-12".to_owned())
}

fn parse_device(text: &str) -> Result<DeviceId, String> {
    DeviceId::parse(text).ok_or_else(|| "a device id has 32 hexadecimal digits".to_owned())
}
