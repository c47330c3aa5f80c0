//! Ten kinds of bad edit: each is refused with its location, and the old set stays in use.

use std::fs;

use crate::support::rules::Rules;
use crate::support::{Client, Redis, Server};

/// What must be reported about an edit: the file, the line, and words of the reason.
struct Refused {
    script: &'static str,
    line: usize,
    words: &'static str,
}

/// One kind of bad edit: makes it, and returns what must be reported about it.
type Edit = (&'static str, fn(&Rules) -> Refused);

const EDITS: [Edit; 10] = [
    ("syntax", |rules| {
        let line = rules.edit(
            "enter_chat",
            "local found, bytes, has_more",
            "local found, , has_more",
        );
        refused("enter_chat", line, "")
    }),
    ("no header", |rules| {
        let file = rules.file("send_message");
        let text = fs::read_to_string(&file).expect("a script");
        let body = text.split("\n\n").skip(1).collect::<Vec<_>>().join("\n\n");
        fs::write(&file, format!("#!lua\n{body}")).expect("write");
        refused("send_message", 2, "")
    }),
    ("wrong order of KEYS", |rules| {
        let (from, to) = (
            "KEYS[1], KEYS[2], KEYS[3], KEYS[4]",
            "KEYS[1], KEYS[3], KEYS[2], KEYS[4]",
        );
        let line = rules.edit("send_message", from, to);
        refused("send_message", line, "KEYS[")
    }),
    ("undeclared key", |rules| {
        let line = rules.edit(
            "send_message",
            "redis.call('ZCARD', reads)",
            "redis.call('HGET', 'chat:{room:1}:ext', 'closed')",
        );
        refused("send_message", line, "not a key of KEYS")
    }),
    ("unknown error code", |rules| {
        let line = rules.edit(
            "send_message",
            "redis.call('ZCARD', reads)",
            "if content == '!' then return redis.error_reply('TOO_LOUD Not so loud.') end",
        );
        refused("send_message", line, "TOO_LOUD")
    }),
    ("endless loop", |rules| {
        let line = rules.edit(
            "mark_as_read",
            "rev = rev + 1",
            "while rev > 0 do rev = rev + 1 end",
        );
        refused("mark_as_read", line, "end")
    }),
    ("wrong shape of the result", |rules| {
        let line = rules.edit("send_message", "return {id, seq, 0}", "return {seq, id}");
        refused("send_message", line, "")
    }),
    ("write before check", |rules| {
        let from = "if not head[1] or";
        let write = "redis.call('HSET', ext, 'last_try', user)";
        let line = rules.edit("send_message", from, &format!("{write}\n{from}"));
        // The refusal that follows it, two lines below.
        refused("send_message", line + 2, "after the write")
    }),
    ("forbidden command", |rules| {
        let line = rules.edit(
            "send_message",
            "redis.call('ZCARD', reads)",
            "redis.call('KEYS', '*')",
        );
        refused("send_message", line, "KEYS")
    }),
    ("not UTF-8", |rules| {
        let file = rules.file("send_message");
        let mut bytes = fs::read(&file).expect("a script");
        let line = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
        bytes.extend(b"-- caf\xe9\n");
        fs::write(&file, bytes).expect("write");
        refused("send_message", line, "UTF-8")
    }),
];

fn refused(script: &'static str, line: usize, words: &'static str) -> Refused {
    Refused {
        script,
        line,
        words,
    }
}

#[tokio::test]
async fn each_is_refused_with_its_place_and_the_old_set_serves_on() {
    // Given a server that runs an applied set
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let good = Rules::export().await;
    good.tag("good:");
    let applied = good.apply(&redis, &[]).await;
    assert_eq!(
        applied.code,
        Some(0),
        "{}{}",
        applied.stdout,
        applied.stderr
    );
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;

    for (kind, edit) in EDITS {
        // When a bad edit is applied, then it is refused with file, line and reason
        let rules = Rules::export().await;
        let expected = edit(&rules);
        let exit = rules.apply(&redis, &["--force"]).await;
        assert_eq!(exit.code, Some(1), "{kind}: {}", exit.stdout);
        let place = format!(
            "{}:{}: ",
            rules.file(expected.script).display(),
            expected.line
        );
        let told = exit.stderr.lines().find(|line| line.contains(&place));
        let told = told.unwrap_or_else(|| panic!("{kind}: not {place} but {}", exit.stderr));
        println!(
            "{kind}: {}",
            told.replace(&rules.path().display().to_string(), "my-rules")
        );
        assert!(told.contains(expected.words), "{kind}: {told}");

        // And the old set stays in use
        alice.say(&room, kind).await;
        let history = alice.history(&room).await;
        let last = history.last().expect("a message");
        assert_eq!(last["content"], format!("good:{kind}"));
    }
    let current: u64 = redis.run("HGET chat:scripts current").await;
    assert_eq!(current, 1);
}
