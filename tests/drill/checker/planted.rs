//! Tests of the checker: a drill in which all went well, and the same with one thing planted.

use libtest_mimic::{Failed, Trial};

use super::record::{DeviceLog, Entry, Message, Record, Step};
use super::{Report, judge};

/// A fault, and the words in which the checker must name it.
struct Planted {
    name: &'static str,
    plant: Change,
    finding: &'static str,
    counted: fn(&Report) -> u64,
}

/// What is planted.
type Change = fn(&mut Record);

const NOT_COUNTED: fn(&Report) -> u64 = |report| report.problems.len() as u64;

const PLANTED: &[Planted] = &[
    Planted {
        name: "an_acked_message_that_is_gone",
        plant: |record| drop(history(record).pop()),
        finding: "bob/1: \"three\" in room R was acked as 3 (100-3) and is not there",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_hole_in_the_history",
        plant: |record| drop(history(record).remove(1)),
        finding: "room R: the history has a hole between 1 and 3",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_message_that_is_there_twice",
        plant: |record| history(record).push(message(4, "three")),
        finding: "bob/1: \"three\" in room R is there 2 times: [3, 4]",
        counted: |report| report.doubled,
    },
    Planted {
        name: "a_number_given_twice",
        plant: |record| history(record).push(message(3, "four")),
        finding: "room R: number 3 comes again after 3",
        counted: |report| report.doubled,
    },
    Planted {
        name: "a_message_that_nobody_sent",
        plant: |record| history(record).push(message(4, "four")),
        finding: "nobody sent \"four\", number 4 of room R",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_message_under_another_name",
        plant: |record| history(record)[2].sender = "alice".into(),
        finding: "bob/1: \"three\" in room R stands there as said by alice",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_history_in_another_order_than_sent",
        plant: |record| {
            let steps = bob(record);
            let two: Vec<Step> = steps.drain(5..9).collect();
            steps.splice(1..1, two);
        },
        finding: "bob/1: \"one\" was sent after \"two\" and stands before it in room R (1, 2)",
        counted: |report| report.reordered,
    },
    Planted {
        name: "a_message_of_unknown_outcome_that_is_there_twice",
        plant: |record| {
            sent_on(record, Step::Unknown { attempt: 9 });
            history(record).extend([message(4, "four"), message(5, "four")]);
        },
        finding: "bob/1: \"four\" in room R is there 2 times: [4, 5]",
        counted: |report| report.doubled,
    },
    Planted {
        name: "a_refused_message_that_is_there",
        plant: |record| {
            sent_on(record, refused(9));
            history(record).push(message(4, "four"));
        },
        finding: "bob/1: \"four\" in room R was refused (UNAVAILABLE) and is there",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_refused_message_whose_repeat_finds_it_there",
        plant: |record| {
            sent_on(record, refused(9));
            sent_on(record, acked(10, 4, true));
            history(record).push(message(4, "four"));
        },
        finding: "bob/1: \"four\" in room R was refused (UNAVAILABLE) and had been stored",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "two_ids_for_one_message",
        plant: |record| {
            sent_on(record, acked(9, 4, false));
            sent_on(record, acked(10, 5, true));
            history(record).push(message(4, "four"));
        },
        finding: "bob/1: \"four\" in room R was acked as 100-4 and as 100-5",
        counted: |report| report.doubled,
    },
    Planted {
        name: "an_event_that_did_not_come",
        plant: |record| drop(alice(record).remove(2)),
        finding: "alice/1 in room R: {2} did not come, while it was connected",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_last_event_that_did_not_come",
        plant: |record| drop(alice(record).pop()),
        finding: "alice/1 in room R: ends with 2, and there are 3",
        counted: |report| report.lost,
    },
    Planted {
        name: "an_event_that_came_twice",
        plant: |record| alice(record).push(saw(3, "three")),
        finding: "alice/1 in room R: 3 came again, after 3; the list said 0",
        counted: |report| report.doubled,
    },
    Planted {
        name: "events_in_another_order",
        plant: |record| alice(record).swap(2, 3),
        finding: "alice/1 in room R: 2 came after 3",
        counted: |report| report.reordered,
    },
    Planted {
        name: "an_event_with_another_content",
        plant: |record| alice(record)[2] = saw(2, "other"),
        finding: "alice/1 in room R: was given \"other\" as 2 (100-2), where \"two\" stands (100-2)",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_page_with_a_hole",
        plant: |record| catch_up(record, vec![message(1, "one"), message(3, "three")]),
        finding: "alice/1 in room R: a page goes from 1 to 3",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_page_that_ends_too_early",
        plant: |record| catch_up(record, vec![message(1, "one"), message(2, "two")]),
        finding: "alice/1 in room R: ends with 2, and there are 3",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_page_that_repeats",
        plant: |record| {
            let twice = [(1, "one"), (2, "two"), (2, "two"), (3, "three")];
            catch_up(record, twice.map(|(seq, text)| message(seq, text)).into());
        },
        finding: "alice/1 in room R: a page has 2 after 2",
        counted: |report| report.doubled,
    },
    Planted {
        name: "unread_that_does_not_add_up",
        plant: |record| entry(record, "alice").unread = 2,
        finding: "alice: room R is listed with 2 unread, read up to 2 of 3",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_marker_that_went_back",
        plant: |record| {
            entry(record, "bob").read_seq = 2;
            entry(record, "bob").unread = 1;
        },
        finding: "bob: room R is listed as read up to 2, by sends and marks it is 3 to 3",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_marker_that_nobody_moved",
        plant: |record| {
            entry(record, "alice").read_seq = 3;
            entry(record, "alice").unread = 0;
        },
        finding: "alice: room R is listed as read up to 3, by sends and marks it is 2 to 2",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_list_that_lags_behind",
        plant: |record| {
            entry(record, "bob").seq = 2;
            entry(record, "bob").read_seq = 2;
        },
        finding: "bob: room R is listed with 2 messages, and there are 3",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_room_that_is_not_listed",
        plant: |record| drop(record.lists.insert("alice".into(), Vec::new())),
        finding: "alice: room R is not in the chat list",
        counted: |report| report.lost,
    },
    Planted {
        name: "a_history_of_which_nobody_was_told_that_it_is_new",
        plant: |record| history(record)[0].id = "200-1".into(),
        finding: "bob/1: \"one\" in room R was acked as 100-1 and stands there as 200-1",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_request_without_an_answer",
        plant: |record| bob(record).push(asked(8)),
        finding: "bob/1: request 8 (getHistory) was not answered",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_request_that_is_passed_over_by_the_next_one",
        plant: |record| {
            let steps = [
                asked(8),
                asked(9),
                answered(9),
                Step::Disconnected,
                began(3),
            ];
            bob(record).extend(steps);
        },
        finding: "bob/1: request 9 was answered, and 8 (getHistory), which was asked before, was not",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "a_request_that_is_answered_twice",
        plant: |record| bob(record).extend([asked(8), answered(8), answered(8)]),
        finding: "bob/1: request 8 was answered again",
        counted: NOT_COUNTED,
    },
    Planted {
        name: "servers_that_do_not_come_to_rest",
        plant: |record| record.rest.calls = record.rest.allowed + 1,
        finding: "nobody asked for anything, and Redis ran 3 scripts; 2 are allowed",
        counted: NOT_COUNTED,
    },
];

/// What is not a fault, and must not be reported as one.
const SOUND: &[(&str, Change)] = &[
    ("nothing_happened", |_| {}),
    ("an_unknown_outcome_that_was_stored", |record| {
        sent_on(record, Step::Unknown { attempt: 9 });
        everyone_gets(record, 4, "four");
    }),
    ("an_unknown_outcome_that_was_not", |record| {
        sent_on(record, Step::Unknown { attempt: 9 });
    }),
    ("a_repeat_after_an_unknown_outcome", |record| {
        sent_on(record, Step::Unknown { attempt: 9 });
        sent_on(record, acked(10, 4, true));
        everyone_gets(record, 4, "four");
    }),
    ("a_refusal", |record| sent_on(record, refused(9))),
    ("a_request_that_ended_with_its_connection", |record| {
        bob(record).extend([asked(8), Step::Disconnected, began(3)]);
    }),
    ("comparisons_while_nobody_asks", |record| {
        record.rest.calls = record.rest.allowed;
    }),
    ("catching_up", |record| {
        let all = [(1, "one"), (2, "two"), (3, "three")];
        catch_up(record, all.map(|(seq, text)| message(seq, text)).into());
    }),
    ("a_device_that_went_early", |record| {
        alice(record).pop();
        record.devices[0].stayed = false;
    }),
    ("a_new_history_that_was_announced", |record| {
        for log in &mut record.devices {
            log.steps.push(Step::Reset { room: "R".into() });
            log.steps.push(began(1));
            log.steps.push(Step::Page {
                room: "R".into(),
                after: 0,
                messages: vec![message(1, "one")],
            });
        }
        history(record).truncate(1);
        for (user, read_seq) in [("alice", 0), ("bob", 1)] {
            *entry(record, user) = listed(1, read_seq);
        }
    }),
];

/// One trial for each fault and for each case that is not a fault.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let caught = PLANTED.iter().map(|planted| {
        let name = format!("checker::catches_{}", planted.name);
        Trial::test(name, || catches(planted))
    });
    let passed = SOUND.iter().map(|(name, change)| {
        let name = format!("checker::passes_{name}");
        Trial::test(name, || passes(*change))
    });
    caught.chain(passed)
}

fn catches(planted: &Planted) -> Result<(), Failed> {
    let mut record = sound();
    (planted.plant)(&mut record);
    let report = judge(&record);
    if !report.problems.iter().any(|found| found == planted.finding) {
        return Err(format!("{:?} is not in {report:#?}", planted.finding).into());
    }
    if (planted.counted)(&report) == 0 {
        return Err(format!("found, and not counted: {report:#?}").into());
    }
    Ok(())
}

fn passes(change: Change) -> Result<(), Failed> {
    let mut record = sound();
    change(&mut record);
    let report = judge(&record);
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(format!("called a fault: {report:#?}").into())
}

/// Bob sends one, two, three; Alice sees them, and has read two.
fn sound() -> Record {
    let texts = [(1, "one"), (2, "two"), (3, "three")];
    let mut record = Record::default();
    let saw = texts.map(|(seq, text)| saw(seq, text));
    let mut alice = vec![began(0)];
    alice.extend(saw.clone());
    let mut bob = vec![began(0)];
    for (seq, text) in texts {
        bob.extend([asked(seq), sent(seq, text)]);
        bob.extend([answered(seq), acked(seq, seq, false)]);
    }
    bob.extend(saw);
    for (user, steps) in [("alice", alice), ("bob", bob)] {
        record.devices.push(DeviceLog {
            name: format!("{user}/1"),
            user: user.into(),
            stayed: true,
            steps,
        });
    }
    record.devices.push(DeviceLog {
        name: "alice/2".into(),
        user: "alice".into(),
        stayed: false,
        steps: vec![marked(2)],
    });
    let history = texts.map(|(seq, text)| message(seq, text));
    record.histories.insert("R".into(), history.into());
    record.lists.insert("alice".into(), vec![listed(3, 2)]);
    record.lists.insert("bob".into(), vec![listed(3, 3)]);
    record.rest.allowed = 2;
    record
}

fn history(record: &mut Record) -> &mut Vec<Message> {
    record.histories.entry("R".into()).or_default()
}

fn alice(record: &mut Record) -> &mut Vec<Step> {
    &mut record.devices[0].steps
}

fn bob(record: &mut Record) -> &mut Vec<Step> {
    &mut record.devices[1].steps
}

fn entry<'a>(record: &'a mut Record, user: &str) -> &'a mut Entry {
    &mut record.lists.get_mut(user).expect("listed")[0]
}

/// Bob sends "four", with this outcome.
fn sent_on(record: &mut Record, outcome: Step) {
    let (Step::Acked { attempt, .. } | Step::Refused { attempt, .. } | Step::Unknown { attempt }) =
        outcome
    else {
        panic!("not an outcome: {outcome:?}");
    };
    bob(record).extend([sent(attempt, "four"), outcome]);
}

fn everyone_gets(record: &mut Record, seq: u64, content: &str) {
    history(record).push(message(seq, content));
    for log in &mut record.devices {
        log.steps.push(saw(seq, content));
    }
    *entry(record, "alice") = listed(seq, 2);
    *entry(record, "bob") = listed(seq, seq);
}

/// Alice was away while Bob sent, and requests what she missed.
fn catch_up(record: &mut Record, messages: Vec<Message>) {
    *alice(record) = vec![
        began(0),
        Step::Disconnected,
        began(3),
        Step::Page {
            room: "R".into(),
            after: 0,
            messages,
        },
    ];
}

fn began(seq: u64) -> Step {
    Step::Began {
        room: "R".into(),
        seq,
    }
}

fn asked(request: u64) -> Step {
    Step::Asked {
        request,
        event: "getHistory",
    }
}

fn answered(request: u64) -> Step {
    Step::Answered { request }
}

fn sent(attempt: u64, content: &str) -> Step {
    Step::Sent {
        attempt,
        room: "R".into(),
        content: content.into(),
    }
}

fn acked(attempt: u64, seq: u64, duplicate: bool) -> Step {
    Step::Acked {
        attempt,
        id: format!("100-{seq}"),
        seq,
        duplicate,
    }
}

fn refused(attempt: u64) -> Step {
    Step::Refused {
        attempt,
        code: "UNAVAILABLE".into(),
    }
}

fn marked(seq: u64) -> Step {
    Step::Marked {
        room: "R".into(),
        seq,
    }
}

fn saw(seq: u64, content: &str) -> Step {
    Step::Saw(message(seq, content))
}

fn message(seq: u64, content: &str) -> Message {
    Message {
        room: "R".into(),
        id: format!("100-{seq}"),
        seq,
        sender: "bob".into(),
        content: content.into(),
    }
}

fn listed(seq: u64, read_seq: u64) -> Entry {
    Entry {
        room: "R".into(),
        seq,
        read_seq,
        unread: seq - read_seq,
    }
}
