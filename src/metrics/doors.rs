//! Connections: over which protocol they come, which are refused, and how they end.

use std::sync::Arc;

use ::metrics::{Counter, Gauge};

use super::{counter, gauge, label};
use crate::error::ErrorCode;
use crate::hub::device::Close;

/// How a device came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorLabel {
    /// `/ws`.
    Native,
    /// `/socket.io/`, WebSocket from the first request on.
    SocketIoWebsocket,
    /// `/socket.io/`, begun with long-polling, whether or not it was upgraded later.
    SocketIoPolling,
}

impl DoorLabel {
    const ALL: [Self; 3] = [Self::Native, Self::SocketIoWebsocket, Self::SocketIoPolling];

    fn text(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::SocketIoWebsocket => "socket_io_websocket",
            Self::SocketIoPolling => "socket_io_polling",
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it, or is gone.
    Client,
    /// The client broke a rule of the transport's.
    Broken,
    Server(Close),
}

impl Ending {
    const ALL: [Self; 7] = [
        Self::Client,
        Self::Broken,
        Self::Server(Close::TooSlow),
        Self::Server(Close::TokenExpired),
        Self::Server(Close::TooManyBadRequests),
        Self::Server(Close::ShuttingDown),
        Self::Server(Close::StoreUnavailable),
    ];

    fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Broken => 1,
            Self::Server(Close::TooSlow) => 2,
            Self::Server(Close::TokenExpired) => 3,
            Self::Server(Close::TooManyBadRequests) => 4,
            Self::Server(Close::ShuttingDown) => 5,
            Self::Server(Close::StoreUnavailable) => 6,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Broken => "broken_frame",
            Self::Server(Close::TooSlow) => "too_slow",
            Self::Server(Close::TokenExpired) => "token_expired",
            Self::Server(Close::TooManyBadRequests) => "bad_requests",
            Self::Server(Close::ShuttingDown) => "shutting_down",
            Self::Server(Close::StoreUnavailable) => "store_unavailable",
        }
    }
}

#[derive(Debug, Clone)]
pub struct DoorMetrics {
    doors: [PerDoor; DoorLabel::ALL.len()],
    endings: Arc<[Counter; Ending::ALL.len()]>,
    refused: Arc<[Counter; ErrorCode::ALL.len()]>,
}

#[derive(Debug, Clone)]
struct PerDoor {
    open: Gauge,
    opened: Counter,
    frames: Counter,
}

impl DoorMetrics {
    pub(super) fn register() -> Self {
        let door = |door: DoorLabel| {
            let labels = [label("door", door.text())];
            PerDoor {
                open: gauge("chat_connections", "Devices that are connected.", &labels),
                opened: counter(
                    "chat_connections_opened_total",
                    "Devices that were let in.",
                    &labels,
                ),
                frames: counter(
                    "chat_frames_sent_total",
                    "Frames and packets that were taken from devices' queues to be written.",
                    &labels,
                ),
            }
        };
        let ending = |ending: Ending| {
            counter(
                "chat_connections_closed_total",
                "Connections of devices that ended, by the reason.",
                &[label("reason", ending.text())],
            )
        };
        let refused = |code: ErrorCode| {
            counter(
                "chat_connections_refused_total",
                "Attempts to connect that were refused, by the error code that the client got.",
                &[label("code", code)],
            )
        };
        Self {
            doors: DoorLabel::ALL.map(door),
            endings: Arc::new(Ending::ALL.map(ending)),
            refused: Arc::new(ErrorCode::ALL.map(refused)),
        }
    }

    /// A device is there, until the presence is dropped.
    pub fn enter(&self, door: DoorLabel) -> Presence {
        let PerDoor { open, opened, .. } = &self.doors[door as usize];
        opened.increment(1);
        open.increment(1);
        Presence {
            open: open.clone(),
            endings: self.endings.clone(),
            ending: Ending::Client,
        }
    }

    /// So many frames were taken from a queue, to be written at once.
    pub fn sent(&self, door: DoorLabel, frames: usize) {
        if frames > 0 {
            self.doors[door as usize].frames.increment(frames as u64);
        }
    }

    pub fn refused(&self, code: ErrorCode) {
        self.refused[code as usize].increment(1);
    }
}

/// One connected device.
#[derive(Debug)]
pub struct Presence {
    open: Gauge,
    endings: Arc<[Counter; Ending::ALL.len()]>,
    ending: Ending,
}

impl Presence {
    /// The device leaves for this reason; without one, it left by itself.
    pub fn leave(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.open.decrement(1);
        self.endings[self.ending.index()].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_at_its_index() {
        for (index, door) in DoorLabel::ALL.into_iter().enumerate() {
            assert_eq!(door as usize, index, "{door:?}");
        }
        for (index, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending.index(), index, "{ending:?}");
        }
    }
}
