use super::*;
use crate::protocol::content::ContentShape;

const LIMITS: QueueLimits = QueueLimits {
    max_frames: 10,
    max_bytes: 10_000,
    answers_max_bytes: 5_000,
};

/// A lane of a device that has had its first list.
fn lane() -> Lane {
    let mut lane = Lane::holding(LIMITS);
    lane.end_hold(FIRST_HOLD);
    lane
}

fn of_bytes(bytes: usize) -> Frame {
    Frame::status(&"x".repeat(bytes))
}

/// Takes one part, and returns its number of frames.
fn part(lane: &mut Lane) -> usize {
    let mut frames = 0;
    lane.take(|_| frames += 1);
    frames
}

#[test]
fn answers_of_any_size_and_number_are_no_sign_of_a_slow_device() {
    let mut lane = lane();
    for _ in 0..2 * LIMITS.max_frames {
        lane.push(of_bytes(LIMITS.max_bytes), Kind::Answer);
    }
    // Nor does a frame pushed between them count for more than its size
    lane.push(of_bytes(10), Kind::Push);
    lane.push(of_bytes(10), Kind::Push);
    assert_eq!(lane.close_reason(), None);
}

#[test]
fn more_pushed_than_may_wait_closes_the_device() {
    // Too many
    let mut many = lane();
    for _ in 0..LIMITS.max_frames {
        many.push(of_bytes(10), Kind::Push);
    }
    assert_eq!(many.close_reason(), None);
    many.push(of_bytes(10), Kind::Push);
    assert_eq!(many.take(|_| {}), Taken::Nothing(Some(Close::TooSlow)));
    // Too large, unless it is the only one
    let mut large = lane();
    large.push(of_bytes(2 * LIMITS.max_bytes), Kind::Push);
    assert_eq!(large.close_reason(), None);
    large.push(of_bytes(10), Kind::Push);
    assert_eq!(large.take(|_| {}), Taken::Nothing(Some(Close::TooSlow)));
    // And what was taken does not count
    let mut read = lane();
    for _ in 0..10 * LIMITS.max_frames {
        read.push(of_bytes(10), Kind::Push);
        part(&mut read);
    }
    assert_eq!(read.close_reason(), None);
}

fn list() -> Frame {
    Frame::chat_list(&[], ContentShape::String)
}

/// What is queued, in short: `list`, or the text of a status.
fn all(lane: &mut Lane) -> Vec<String> {
    let mut all = Vec::new();
    let short = |frame: Frame| {
        let text = frame.native().map(|text| text.as_str().into_owned());
        let text = text.unwrap_or_default();
        let status = text.strip_prefix(r#"{"event":"status","data":""#);
        status.map_or("list".to_owned(), |rest| rest.replace("\"}", ""))
    };
    while lane.take(|frame| all.push(short(frame))) == Taken::Frames {}
    all
}

#[test]
fn a_list_that_waits_is_replaced_at_the_newer_one_s_place() {
    // Given a device that reads slowly, and gets its list again after each event
    let mut lane = lane();
    for number in 1..LIMITS.max_frames {
        lane.push(Frame::status(&format!("event {number}")), Kind::Push);
        lane.push(list(), Kind::Push);
    }
    // Then it gets each event, and the list after the last event that it covers
    let mut expected: Vec<_> = (1..LIMITS.max_frames)
        .map(|n| format!("event {n}"))
        .collect();
    expected.push("list".to_owned());
    assert_eq!(all(&mut lane), expected);
    // And lists do not count for slowness, however many come
    for _ in 0..10 * LIMITS.max_bytes {
        lane.push(list(), Kind::Push);
    }
    assert_eq!(all(&mut lane), ["list"]);
}

#[test]
fn a_list_that_was_asked_for_is_sent_whatever_comes_behind_it() {
    let mut lane = lane();
    lane.push(list(), Kind::Push);
    lane.push(list(), Kind::Answer);
    lane.push(Frame::status("ack"), Kind::Answer);
    lane.push(list(), Kind::Push);
    lane.push(list(), Kind::Push);
    assert_eq!(all(&mut lane), ["list", "ack", "list"]);
}

#[test]
fn of_the_histories_that_nobody_asked_for_the_last_one_waits() {
    let history = || Frame::chat_history(&[], ContentShape::String);
    let mut lane = lane();
    for _ in 0..10 * LIMITS.max_bytes {
        lane.push(history(), Kind::Push);
    }
    lane.push(Frame::status("event"), Kind::Push);
    lane.push(history(), Kind::Push);
    // A list that was asked for stays, and so does what was pushed before it
    lane.push(history(), Kind::Answer);
    let mut taken = Vec::new();
    while lane.take(|frame| taken.push(frame.is_chat_history())) == Taken::Frames {}
    assert_eq!(taken, [false, true, true]);
    assert_eq!(lane.close_reason(), None);
}

#[test]
fn the_next_request_waits_until_the_answers_before_are_written() {
    let mut lane = lane();
    lane.push(of_bytes(LIMITS.answers_max_bytes / 2), Kind::Answer);
    assert!(lane.may_ask());
    lane.push(of_bytes(LIMITS.answers_max_bytes / 2), Kind::Answer);
    assert!(!lane.may_ask());
    // Given to the writer, but not written
    assert_eq!(part(&mut lane), 2);
    assert!(!lane.may_ask());
    // The writer comes for more
    assert_eq!(part(&mut lane), 0);
    assert!(lane.may_ask());
}

#[test]
fn what_waits_is_given_out_in_parts() {
    let mut lane = Lane::holding(QueueLimits {
        max_bytes: usize::MAX,
        ..LIMITS
    });
    for _ in 0..10 {
        lane.push(of_bytes(TAKEN_BYTES / 2), Kind::Push);
    }
    for _ in 0..5 {
        assert_eq!(part(&mut lane), 2);
    }
    lane.close(Close::ShuttingDown);
    assert_eq!(lane.take(|_| {}), Taken::Nothing(Some(Close::ShuttingDown)));
}
