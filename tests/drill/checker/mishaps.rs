//! The judgement of light clients checked: a life in which all went well, and the same with one mishap.

use libtest_mimic::{Failed, Trial};

use super::crowd::{Life, judge};

/// What is planted into the life of a client that came back once.
type Mishap = fn(&mut Life);

const MISHAPS: &[(&str, Mishap, &str)] = &[
    (
        "a_client_that_was_closed",
        |life| life.let_down = Some("was closed with Some(1013)".into()),
        "carol: was closed with Some(1013)",
    ),
    (
        "a_client_that_connects_again_and_again",
        |life| (life.connections, life.lists) = (3, 3),
        "carol: connected 3 times, and 2 were needed",
    ),
    (
        "a_client_that_did_not_come_back",
        |life| (life.connections, life.lists) = (1, 1),
        "carol: connected 1 times, and 2 were needed",
    ),
    (
        "a_client_without_its_list",
        |life| life.lists = 1,
        "carol: got 1 chat lists on 2 connections",
    ),
    (
        "a_client_that_is_put_off_for_ever",
        |life| life.put_off = 11,
        "carol: was put off 11 times",
    ),
    (
        "a_client_that_hears_nothing_more",
        |life| life.heard = false,
        "carol: did not hear the message after the last fault",
    ),
];

/// One trial for each mishap.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    MISHAPS.iter().map(|(name, mishap, finding)| {
        let name = format!("checker::catches_{name}");
        Trial::test(name, || catches(*mishap, finding))
    })
}

fn catches(mishap: Mishap, finding: &str) -> Result<(), Failed> {
    let mut life = Life {
        name: "carol".into(),
        connections: 2,
        kills: 1,
        lists: 2,
        put_off: 1,
        heard: true,
        let_down: None,
    };
    assert_eq!(judge(std::slice::from_ref(&life)), [""; 0]);
    mishap(&mut life);
    assert_eq!(judge(&[life]), [finding]);
    Ok(())
}
