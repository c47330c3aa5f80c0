//! Chat lists that are to be read: in turn, several at once, one for all devices of a user that ask for it.
//!
//! A list takes the store as long as dozens of messages do. After a server restart everybody's list is asked for at
//! once; the requests then wait here, and not in the store ahead of those who chat. Lists that are read at the same
//! time share the reads of their rooms (see [`entry_reads`](super::entry_reads)).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::list::ChatList;
use crate::error::ChatError;
use crate::hub::device::Device;
use crate::protocol::content::ContentShape;
use crate::protocol::ids::{DeviceId, UserId};

/// Lists that are read at once. The more there are, the more of them share a room; each is held in memory meanwhile.
pub const AT_ONCE: usize = 16;
/// The pace of reading is averaged over about this many lists.
const PACE_OVER: u32 = 32;

/// The outcome of reading a list. Shared by all who asked for it.
pub type Outcome = Result<Arc<ChatList>, ChatError>;

/// The lists that are to be read. Bounded by the number of connected devices: each asks for one at a time.
#[derive(Default)]
pub struct ListReads {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Default)]
struct Queue {
    /// Users whose lists are to be read, each once.
    order: VecDeque<UserId>,
    readers: HashMap<UserId, Vec<Reader>>,
    under_way: HashSet<UserId>,
    /// The recent average time from one finished list to the next, while others waited.
    pace: Duration,
    /// When the last one was finished; `None` if nobody waited then.
    ended_at: Option<Instant>,
}

struct Reader {
    device: Arc<Device>,
    answer: oneshot::Sender<Outcome>,
}

/// A list to read now. [`Turn::end`] has to follow.
pub struct Turn {
    pub user: UserId,
    readers: Vec<Reader>,
}

impl ListReads {
    /// The list of the device's user, read after this moment. Waits for its turn. `None` if the server stops first.
    pub async fn read(&self, device: &Arc<Device>) -> Option<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let device = device.clone();
        self.lock().add(Reader { device, answer });
        self.added.notify_one();
        outcome.await.ok()
    }

    /// The next list to read; waits for one. For a single consumer.
    pub async fn take(&self) -> Turn {
        loop {
            if let Some(turn) = self.lock().take() {
                return turn;
            }
            self.added.notified().await;
        }
    }

    /// Gives the list to all who asked for it before it was read.
    pub fn end(&self, turn: Turn, outcome: &Outcome) {
        for reader in turn.readers {
            // A device that has disconnected meanwhile does not listen.
            let _ = reader.answer.send(outcome.clone());
        }
        self.lock().end(turn.user, Instant::now());
        self.added.notify_one();
    }

    /// Approximately how long a list that is asked for now will have to wait.
    pub fn expected_wait(&self) -> Duration {
        self.lock().expected_wait()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under this lock panics halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The devices that asked for the list. Changes from now on are news to them.
    pub fn begin(&self) -> Vec<DeviceId> {
        let begin = |reader: &Reader| {
            reader.device.clear_list_due();
            reader.device.id
        };
        self.readers.iter().map(begin).collect()
    }

    /// The shapes of contents in which they want it.
    pub fn shapes(&self) -> Vec<ContentShape> {
        let shape = |reader: &Reader| reader.device.shape;
        self.readers.iter().map(shape).collect()
    }
}

impl Queue {
    fn add(&mut self, reader: Reader) {
        let user = reader.device.user.clone();
        let readers = self.readers.entry(user.clone()).or_default();
        readers.push(reader);
        // While the user's list is being read it is too late to join.
        if readers.len() == 1 && !self.under_way.contains(&user) {
            self.order.push_back(user);
        }
    }

    fn take(&mut self) -> Option<Turn> {
        while let Some(user) = self.order.pop_front() {
            let mut readers = self.readers.remove(&user).unwrap_or_default();
            readers.retain(|reader| !reader.answer.is_closed());
            if !readers.is_empty() {
                self.under_way.insert(user.clone());
                return Some(Turn { user, readers });
            }
        }
        None
    }

    fn expected_wait(&self) -> Duration {
        let waiting = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        self.pace.saturating_mul(waiting)
    }

    fn end(&mut self, user: UserId, now: Instant) {
        if let Some(before) = self.ended_at {
            let took = now.saturating_duration_since(before);
            self.pace = (self.pace * (PACE_OVER - 1) + took) / PACE_OVER;
        }
        self.ended_at = Some(now).filter(|_| !self.order.is_empty());
        self.under_way.remove(&user);
        if self.readers.contains_key(&user) {
            self.order.push_back(user);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hub::device::ListMode;
    use crate::hub::lane::QueueLimits;

    fn reader(name: &str) -> (Reader, oneshot::Receiver<Outcome>) {
        let (answer, outcome) = oneshot::channel();
        let user = UserId::parse(name).unwrap();
        let limits = QueueLimits {
            max_frames: 50,
            max_bytes: 100_000,
            answers_max_bytes: 100_000,
        };
        let device = Device::connecting(user, ListMode::Full, limits, Arc::default());
        let device = Arc::new(device);
        (Reader { device, answer }, outcome)
    }

    #[test]
    fn all_who_asked_before_a_list_is_read_share_it_and_those_after_share_the_next() {
        let mut queue = Queue::default();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let (reader, outcome) = reader("alice");
            queue.add(reader);
            waiting.push(outcome);
        }
        let turn = queue.take().unwrap();
        assert_eq!(turn.begin().len(), 3);
        for _ in 0..2 {
            let (reader, outcome) = reader("alice");
            queue.add(reader);
            waiting.push(outcome);
        }
        assert!(queue.take().is_none(), "a user's lists are read one by one");
        queue.end(turn.user, Instant::now());
        assert_eq!(queue.take().unwrap().begin().len(), 2);
    }

    #[test]
    fn the_slower_lists_are_finished_and_the_more_wait_the_longer_a_new_one_has_to() {
        let mut queue = Queue::default();
        let mut waiting = Vec::new();
        for number in 0..400 {
            let (reader, outcome) = reader(&format!("user-{number}"));
            queue.add(reader);
            waiting.push(outcome);
        }
        assert_eq!(queue.expected_wait(), Duration::ZERO, "nobody knows yet");
        let mut now = Instant::now();
        for _ in 0..200 {
            let turn = queue.take().unwrap();
            now += Duration::from_millis(25);
            queue.end(turn.user, now);
        }
        // 200 wait, 40 are finished in a second
        let wait = queue.expected_wait().as_millis();
        assert!((4900..=5000).contains(&wait), "{wait} ms");
    }

    #[test]
    fn time_in_which_nobody_waits_says_nothing_about_the_pace() {
        let mut queue = Queue::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            let (reader, _outcome) = reader("alice");
            queue.add(reader);
            let turn = queue.take().unwrap();
            now += Duration::from_secs(60);
            queue.end(turn.user, now);
        }
        let (reader, _outcome) = reader("bob");
        queue.add(reader);
        assert_eq!(queue.expected_wait(), Duration::ZERO);
    }

    #[test]
    fn nothing_is_read_for_those_who_have_gone() {
        let mut queue = Queue::default();
        for name in ["alice", "bob"] {
            let (reader, _) = reader(name);
            queue.add(reader);
        }
        let (reader, _outcome) = reader("carol");
        queue.add(reader);
        assert_eq!(queue.take().unwrap().user.as_str(), "carol");
    }
}
