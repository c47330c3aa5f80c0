//! Shows the progress of an import on standard error: as a bar on a terminal, otherwise as a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The interval between two updates of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// The interval between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The width of the bar in characters.
const BAR_WIDTH: u64 = 30;

/// Shows how much of the work is done.
pub(super) struct Progress {
    is_terminal: bool,
    told: Instant,
    /// Whether the bar is on the screen.
    drawn: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            told: Instant::now(),
            drawn: false,
        }
    }

    /// Shows how many rooms have been found so far.
    pub(super) fn found(&mut self, rooms: usize) {
        self.tell(|_| format!("reading the old keys: {rooms} chats found"));
    }

    /// Shows how many of all rooms are done.
    pub(super) fn done(&mut self, rooms: u64, of: u64, messages: u64) {
        self.tell(|is_terminal| {
            let percent = (100 * rooms).checked_div(of).unwrap_or(100);
            let bar = match is_terminal {
                true => bar(rooms, of),
                false => String::new(),
            };
            format!("{bar}{rooms} of {of} chats ({percent} %), {messages} messages")
        });
    }

    fn tell(&mut self, text: impl FnOnce(bool) -> String) {
        let every = if self.is_terminal {
            BAR_EVERY
        } else {
            LINE_EVERY
        };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let text = text(self.is_terminal);
        let mut stderr = io::stderr();
        // If standard error is closed, nobody is watching.
        let _ = match self.is_terminal {
            true => write!(stderr, "\r{text}\x1b[K"),
            false => writeln!(stderr, "{text}"),
        };
        self.drawn = self.is_terminal;
    }

    /// Removes the bar, so that a line can be printed.
    pub(super) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

fn bar(done: u64, of: u64) -> String {
    let full = (BAR_WIDTH * done)
        .checked_div(of)
        .unwrap_or(BAR_WIDTH)
        .min(BAR_WIDTH);
    let part = |sign: &str, count: u64| sign.repeat(usize::try_from(count).unwrap_or_default());
    format!("[{}{}] ", part("#", full), part("-", BAR_WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!(bar(0, 10), format!("[{}] ", "-".repeat(30)));
        assert_eq!(
            bar(5, 10),
            format!("[{}{}] ", "#".repeat(15), "-".repeat(15))
        );
        assert_eq!(bar(0, 0), format!("[{}] ", "#".repeat(30)));
    }
}
