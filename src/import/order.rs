//! Determines the order in which the messages of old rooms were sent.
//!
//! The first versions put a new message at the head of a room's list, later ones at its tail. A list that both have
//! written begins with a part that is newest first, followed by a part that is oldest first.

use super::message::OldMessage;

/// Puts a list into the order of sending, and makes sure that no message is earlier than the one before it.
///
/// The order of the list outranks the times: a clock that was set back does not move a message.
pub(super) fn in_order(mut list: Vec<OldMessage>) -> Vec<OldMessage> {
    let times: Vec<u64> = list.iter().map(|message| message.at_ms).collect();
    let newest_first = newest_first(&times);
    list[..newest_first].reverse();
    let mut latest = 0;
    for message in &mut list {
        latest = latest.max(message.at_ms);
        message.at_ms = latest;
    }
    list
}

/// How many messages of a list, from its head, are newest first: the number for which the fewest times go back once
/// that part is reversed. Among equals, it is the case in which all are oldest first, then the one with the fewest.
fn newest_first(times: &[u64]) -> usize {
    let goes_back = |pair: &[u64]| usize::from(pair[0] > pair[1]);
    let goes_on = |pair: &[u64]| usize::from(pair[0] < pair[1]);
    let (mut before, mut after) = (0, times.windows(2).map(goes_back).sum::<usize>());
    let mut best = (after, 0);
    for count in 1..=times.len() {
        if count > 1 {
            before += goes_on(&times[count - 2..count]);
        }
        let mut seam = 0;
        if let Some(next) = times.get(count) {
            after -= goes_back(&[times[count - 1], *next]);
            seam = goes_back(&[times[0], *next]);
        }
        best = best.min((before + seam + after, count));
    }
    best.1
}

/// Merges several lists in order of time.
pub(super) fn merged(lists: Vec<Vec<OldMessage>>) -> Vec<OldMessage> {
    let mut all: Vec<OldMessage> = lists.into_iter().flat_map(in_order).collect();
    all.sort_by_key(|message| message.at_ms);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::report::Why;

    fn list(times: &[u64]) -> Vec<OldMessage> {
        let message = |at_ms: &u64| OldMessage {
            id: at_ms.to_string(),
            at_ms: *at_ms,
            readers: Vec::new(),
            said: Err(Why::NoSender),
        };
        times.iter().map(message).collect()
    }

    fn ids(list: &[OldMessage]) -> Vec<&str> {
        list.iter().map(|message| &*message.id).collect()
    }

    #[test]
    fn a_list_is_read_in_either_direction() {
        for (times, ordered) in [
            (&[][..], &[][..]),
            (&[7], &["7"]),
            (&[1, 2, 3], &["1", "2", "3"]),
            (&[3, 2, 1], &["1", "2", "3"]),
            // A list that both versions have written.
            (&[3, 2, 1, 4, 5], &["1", "2", "3", "4", "5"]),
            // A clock that was set back.
            (&[1, 2, 9, 3, 4, 5], &["1", "2", "9", "3", "4", "5"]),
            (&[5, 4, 3, 9, 2, 1], &["1", "2", "9", "3", "4", "5"]),
        ] {
            assert_eq!(ids(&in_order(list(times))), ordered, "{times:?}");
        }
    }

    #[test]
    fn equal_times_stand_as_a_tail_was_written() {
        let mut same = list(&[5, 5, 5]);
        for (message, id) in same.iter_mut().zip(["a", "b", "c"]) {
            message.id = id.to_owned();
        }
        assert_eq!(ids(&in_order(same)), ["a", "b", "c"]);
    }

    #[test]
    fn no_message_is_earlier_than_the_one_before() {
        let times = |list: Vec<OldMessage>| -> Vec<u64> {
            list.iter().map(|message| message.at_ms).collect()
        };
        assert_eq!(
            times(in_order(list(&[1, 2, 9, 3, 10, 11]))),
            [1, 2, 9, 9, 10, 11]
        );
    }

    #[test]
    fn rooms_of_the_same_two_people_become_one() {
        let all = merged(vec![list(&[1, 4, 6]), list(&[5, 3, 2])]);
        assert_eq!(ids(&all), ["1", "2", "3", "4", "5", "6"]);
    }
}
