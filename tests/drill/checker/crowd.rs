//! Light clients: how often they had to connect, and whether they got what they came for.

/// A server that puts a client off must name a time at which it can connect. It may be wrong this many times.
const PUT_OFF_AT_MOST: u64 = 10;

/// What one light client went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) name: String,
    /// Connections that became WebSockets.
    pub(crate) connections: u64,
    /// Servers that were killed while they served it.
    pub(crate) kills: u64,
    /// Connections on which a chat list came.
    pub(crate) lists: u64,
    /// How often it was asked to come back later, before it had a WebSocket.
    pub(crate) put_off: u64,
    /// The message that was sent after the last fault reached it.
    pub(crate) heard: bool,
    /// Why a running server let it down, if one did. It does not come back then.
    pub(crate) let_down: Option<String>,
}

/// Every finding, in words.
pub(crate) fn judge(lives: &[Life]) -> Vec<String> {
    let told = |life: &Life| what_is_wrong(life).map(|what| format!("{}: {what}", life.name));
    lives.iter().filter_map(told).collect()
}

fn what_is_wrong(life: &Life) -> Option<String> {
    let Life {
        connections, lists, ..
    } = life;
    let needed = life.kills + 1;
    if let Some(why) = &life.let_down {
        return Some(why.clone());
    }
    if life.put_off > PUT_OFF_AT_MOST {
        return Some(format!("was put off {} times", life.put_off));
    }
    if *connections != needed {
        return Some(format!(
            "connected {connections} times, and {needed} were needed"
        ));
    }
    if lists < connections {
        return Some(format!(
            "got {lists} chat lists on {connections} connections"
        ));
    }
    let deaf = !life.heard;
    deaf.then(|| "did not hear the message after the last fault".to_owned())
}
