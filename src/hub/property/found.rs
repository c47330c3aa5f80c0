//! Cases that the property test has found, in the fewest steps.

use super::flaws_after;
use super::operations::Operation::{self, *};
use super::operations::Stray as StrayEvent;

fn assert_holds(operations: &[Operation]) {
    assert_eq!(flaws_after(operations), Vec::<String>::new());
}

const ALICE: usize = 0;
const BOB: usize = 1;

fn delta(user: usize) -> Operation {
    Join { user, full: false }
}

#[test]
fn a_list_that_is_due_stays_due_when_the_device_s_own_reading_is_refused() {
    assert_holds(&[
        delta(ALICE),
        Join {
            user: ALICE,
            full: true,
        },
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Refuse(true),
        AskList { device: 1 },
        Wait { ms: 104 },
    ]);
}

#[test]
fn a_user_without_a_room_hears_of_one_that_was_made_while_the_connection_broke() {
    assert_holds(&[
        delta(ALICE),
        delta(BOB),
        Wait { ms: 10 },
        Make {
            device: 1,
            room: 0,
            other: 0,
        },
        Reconnect,
        Wait { ms: 10 },
    ]);
}

#[test]
fn a_room_that_a_refused_list_has_brought_up_is_told_all_the_same() {
    assert_holds(&[
        Lag { ms: 2000 },
        delta(ALICE),
        AskList { device: 0 },
        delta(BOB),
        Make {
            device: 1,
            room: 0,
            other: 0,
        },
        Wait { ms: 2001 },
    ]);
}

#[test]
fn what_is_held_back_when_a_history_ends_is_void() {
    assert_holds(&[
        delta(BOB),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Latency {
            there_ms: 100,
            back_ms: 100,
        },
        AskList { device: 0 },
        Wait { ms: 50 },
        Send { room: 0, user: BOB },
        Wait { ms: 10 },
        Replace { room: 0 },
        SetBack {
            room: 0,
            changes: 1,
        },
        Wait { ms: 300 },
    ]);
}

#[test]
fn what_only_a_list_has_shown_and_the_store_has_lost_is_read_again() {
    assert_holds(&[
        delta(ALICE),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Lag { ms: 1000 },
        Lose { events: 1 },
        Send {
            room: 0,
            user: ALICE,
        },
        delta(ALICE),
        Wait { ms: 10 },
        SetBack {
            room: 0,
            changes: 1,
        },
    ]);
}

#[test]
fn a_message_that_comes_after_a_list_went_out_without_it_is_not_told_twice() {
    assert_holds(&[
        delta(ALICE),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Lose { events: 1 },
        Send {
            room: 0,
            user: ALICE,
        },
        Lag { ms: 6000 },
        delta(ALICE),
        Wait { ms: 7000 },
    ]);
}

#[test]
fn a_page_of_a_room_does_not_stand_for_its_entry() {
    assert_holds(&[
        delta(ALICE),
        delta(BOB),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 1,
        },
        Wait { ms: 10 },
        Latency {
            there_ms: 100,
            back_ms: 0,
        },
        Add { room: 0, user: BOB },
        AskPage { device: 1, room: 0 },
    ]);
}

/// Alice in a room with a message that only a repair has brought.
fn repaired() -> Vec<Operation> {
    vec![
        delta(ALICE),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Lose { events: 1 },
        Send {
            room: 0,
            user: ALICE,
        },
        Wait { ms: 100_000 },
        SetBack {
            room: 0,
            changes: 1,
        },
    ]
}

#[test]
fn another_message_in_the_place_of_one_that_a_repair_brought_is_noticed() {
    let mut operations = repaired();
    operations.push(Send { room: 0, user: BOB });
    assert_holds(&operations);
}

#[test]
fn a_marker_that_moved_after_a_list_was_read_is_told_though_the_list_has_its_message() {
    assert_holds(&[
        delta(ALICE),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Lose { events: 1 },
        Send { room: 0, user: BOB },
        Lag { ms: 1000 },
        delta(ALICE),
        Wait { ms: 500 },
        Mark {
            room: 0,
            user: ALICE,
        },
    ]);
}

#[test]
fn a_list_is_answered_though_the_store_was_set_back() {
    assert_holds(&[
        delta(ALICE),
        Wait { ms: 10 },
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Send { room: 0, user: BOB },
        Wait { ms: 10 },
        SetBack {
            room: 0,
            changes: 1,
        },
        AskList { device: 0 },
    ]);
}

#[test]
fn another_message_in_the_place_of_one_that_was_told_is_noticed_though_it_is_lost() {
    let mut operations = repaired();
    operations.extend([Lose { events: 1 }, Send { room: 0, user: BOB }]);
    assert_holds(&operations);
}

/// Nothing shows which markers were lost: what devices show of them is right again when they move.
#[test]
fn markers_that_are_lost_alone_cost_no_message_and_no_storm() {
    let mut operations = repaired();
    operations.extend([
        Add { room: 0, user: BOB },
        Send {
            room: 0,
            user: ALICE,
        },
        Mark { room: 0, user: BOB },
        Wait { ms: 10 },
        SetBack {
            room: 0,
            changes: 1,
        },
        Mark {
            room: 0,
            user: ALICE,
        },
        Mark { room: 0, user: BOB },
        Wait { ms: 10 },
        Send { room: 0, user: BOB },
    ]);
    assert_holds(&operations);
}

#[test]
fn a_stray_at_the_rev_that_the_room_reaches_is_dropped() {
    assert_holds(&[
        delta(ALICE),
        Make {
            device: 0,
            room: 0,
            other: 0,
        },
        Wait { ms: 10 },
        Latency {
            there_ms: 100,
            back_ms: 0,
        },
        Stray {
            room: 0,
            stray: StrayEvent::Ahead(2),
        },
        Send { room: 0, user: BOB },
        Send {
            room: 0,
            user: ALICE,
        },
    ]);
}

#[test]
fn a_room_that_is_gone_takes_no_list_with_it() {
    let make = |room| Make {
        device: 0,
        room,
        other: 0,
    };
    assert_holds(&[
        delta(ALICE),
        make(0),
        make(1),
        Wait { ms: 10 },
        Latency {
            there_ms: 100,
            back_ms: 100,
        },
        Stray {
            room: 0,
            stray: StrayEvent::Ahead(2),
        },
        Remove { room: 0 },
        delta(ALICE),
        Wait { ms: 1000 },
    ]);
}
