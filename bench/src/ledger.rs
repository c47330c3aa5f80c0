//! Compares what a device received with what it should have received.

use std::collections::HashSet;

use serde::Serialize;

/// The classification of one number in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Next,
    /// Earlier numbers have not arrived yet.
    Early,
    /// A missing number that arrives after later ones.
    Late,
    Twice,
}

/// Numbers 1, 2, 3, … as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    highest: u64,
    missing: HashSet<u64>,
}

impl Sequence {
    /// Takes the next number.
    pub(crate) fn take(&mut self, number: u64) -> Arrival {
        if number == self.highest + 1 {
            self.highest = number;
            return Arrival::Next;
        }
        if number > self.highest {
            self.missing.extend(self.highest + 1..number);
            self.highest = number;
            return Arrival::Early;
        }
        if self.missing.remove(&number) {
            return Arrival::Late;
        }
        Arrival::Twice
    }

    /// How many of 1 to `last` have not arrived.
    pub(crate) fn lost(&self, last: u64) -> u64 {
        self.missing.len() as u64 + last.saturating_sub(self.highest)
    }
}

/// Delivery faults, over all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) out_of_order: u64,
    /// Messages that this load did not send, or not into this device's room.
    pub(crate) foreign: u64,
}

impl Faults {
    /// Whether there are no faults.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What one device received in its room.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The first of the room's senders; they are numbered consecutively.
    first_sender: usize,
    senders: Vec<Sequence>,
    /// The room's own numbers, if the server assigns any.
    room: Sequence,
}

impl Ledger {
    /// For a device in a room of these senders.
    pub(crate) fn new(first_sender: usize, senders: usize) -> Self {
        Self {
            first_sender,
            senders: (0..senders).map(|_| Sequence::default()).collect(),
            room: Sequence::default(),
        }
    }

    /// Records one delivery. Returns whether it counts: it belongs to this room, and is the first with its number.
    pub(crate) fn enter(
        &mut self,
        sender: usize,
        number: u64,
        seq: Option<u64>,
        faults: &mut Faults,
    ) -> bool {
        let sequence = sender
            .checked_sub(self.first_sender)
            .and_then(|index| self.senders.get_mut(index));
        let Some(sequence) = sequence else {
            faults.foreign += 1;
            return false;
        };
        let of_sender = sequence.take(number);
        let of_room = seq.map_or(Arrival::Next, |seq| self.room.take(seq));
        if of_sender == Arrival::Twice {
            faults.twice += 1;
            return false;
        }
        // A loss shows in the sender's own numbers; the room's numbers show the order between senders.
        if of_sender == Arrival::Late || matches!(of_room, Arrival::Late | Arrival::Twice) {
            faults.out_of_order += 1;
        }
        true
    }

    /// How many deliveries are missing, given how many messages each sender sent.
    pub(crate) fn lost(&self, sent: &[u64]) -> u64 {
        let sent = &sent[self.first_sender..];
        self.senders
            .iter()
            .zip(sent)
            .map(|(sequence, last)| sequence.lost(*last))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records deliveries of senders 3 and 4 as (sender, number, seq); returns the faults if both sent two messages.
    fn faults_of(deliveries: &[(usize, u64, Option<u64>)]) -> Faults {
        let mut ledger = Ledger::new(3, 2);
        let mut faults = Faults::default();
        for (sender, number, seq) in deliveries {
            ledger.enter(*sender, *number, *seq, &mut faults);
        }
        faults.lost = ledger.lost(&[9, 9, 9, 2, 2]);
        faults
    }

    const WHOLE: [(usize, u64, Option<u64>); 4] = [
        (3, 1, Some(1)),
        (4, 1, Some(2)),
        (4, 2, Some(3)),
        (3, 2, Some(4)),
    ];

    #[test]
    fn all_once_and_in_order_is_right() {
        assert!(faults_of(&WHOLE).is_none());
        assert!(faults_of(&WHOLE.map(|(sender, number, _)| (sender, number, None))).is_none());
    }

    #[test]
    fn a_loss_is_caught_wherever_it_is() {
        for lost in 0..WHOLE.len() {
            let mut planted = WHOLE.to_vec();
            planted.remove(lost);
            let expected = Faults {
                lost: 1,
                ..Faults::default()
            };
            assert_eq!(faults_of(&planted), expected);
        }
    }

    #[test]
    fn a_duplicate_is_caught() {
        for twice in WHOLE {
            let mut planted = WHOLE.to_vec();
            planted.push(twice);
            assert_eq!(faults_of(&planted).twice, 1);
        }
    }

    #[test]
    fn a_swap_is_caught_also_between_senders() {
        for at in 0..WHOLE.len() - 1 {
            let mut planted = WHOLE;
            planted.swap(at, at + 1);
            let expected = Faults {
                out_of_order: 1,
                ..Faults::default()
            };
            assert_eq!(faults_of(&planted), expected);
        }
    }

    #[test]
    fn a_message_of_another_room_is_caught() {
        assert_eq!(faults_of(&[(2, 1, None), (5, 1, None)]).foreign, 2);
    }

    #[test]
    fn content_under_a_wrong_number_is_caught() {
        let mut planted = WHOLE;
        planted[3].2 = Some(3);
        assert_eq!(faults_of(&planted).out_of_order, 1);
    }
}
