//! Edited scripts are checked for what the server relies on: an edit that breaks it is refused at its line, any other
//! is accepted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_server::scripts::behaviour::{self, BehaviourError, Report};
use chat_server::scripts::set::Source;
use chat_server::scripts::{Problem, Script, ScriptSet, ScriptText};
use tokio::time::{Instant, sleep};

use crate::support::PATIENCE;

pub(crate) fn program() -> PathBuf {
    behaviour::scratch_program().expect("redis-server must be in PATH")
}

/// The built-in set with a piece of one script replaced.
pub(crate) fn edited(script: Script, from: &str, to: &str) -> ScriptSet {
    let set = ScriptSet::embedded().unwrap();
    let text = &set.get(script).text;
    assert!(text.contains(from), "{from} is not in {}", script.name());
    let text = text.replacen(from, to, 1);
    let source = Source::File(PathBuf::from(format!("lua/{}.lua", script.name())));
    set.with(script, ScriptText::new(text, source))
}

/// The last line of the edited script that contains this.
fn line_of(set: &ScriptSet, script: Script, piece: &str) -> usize {
    let lines: Vec<&str> = set.get(script).text.lines().collect();
    let index = lines.iter().rposition(|line| line.contains(piece));
    1 + index.unwrap()
}

pub(crate) async fn passes(set: &ScriptSet) -> Report {
    behaviour::run(set, &program()).await.unwrap()
}

pub(crate) async fn problem(set: &ScriptSet) -> Problem {
    match behaviour::run(set, &program()).await {
        Err(BehaviourError::Broken(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

/// An edit that has to be refused.
struct Planted {
    script: Script,
    from: &'static str,
    to: &'static str,
    /// The text of the line that must be named.
    at: &'static str,
    /// Part of the reason.
    says: &'static str,
}

async fn is_refused(planted: Planted) {
    let set = edited(planted.script, planted.from, planted.to);
    let problem = problem(&set).await;
    println!("{problem}");
    assert_eq!(problem.file, format!("lua/{}.lua", planted.script.name()));
    assert_eq!(
        problem.line,
        line_of(&set, planted.script, planted.at),
        "{problem}"
    );
    assert!(problem.reason.contains(planted.says), "{problem}");
}

/// Before the first write of `send_message`.
const CHECKED: &str = "-- Reading every key that is written below";

#[tokio::test]
async fn the_built_in_set_passes() {
    let began = Instant::now();
    let report = passes(&ScriptSet::embedded().unwrap()).await;
    println!("{} cases took {:?}", report.cases, began.elapsed());
    assert_eq!(report.rejected, []);
    assert!(report.cases >= 15);
}

#[tokio::test]
async fn a_text_that_is_no_lua_is_refused() {
    is_refused(Planted {
        script: Script::LeaveChat,
        from: "if lease_end_ms == 0 then",
        to: "if lease_end_ms == 0 the",
        at: "if lease_end_ms == 0 the",
        says: "Redis does not load it: 'then' expected",
    })
    .await;
}

#[tokio::test]
async fn a_loop_without_an_end_is_refused() {
    is_refused(Planted {
        script: Script::SendMessage,
        from: CHECKED,
        to: "local n = 0\nwhile n >= 0 do\n  n = n + 1\nend\n-- Reading",
        at: "while n >= 0",
        says: "without end",
    })
    .await;
}

#[tokio::test]
async fn a_loop_after_a_write_is_refused() {
    is_refused(Planted {
        script: Script::MarkAsRead,
        from: "local small =",
        to: "repeat\n  local x = redis.call('HLEN', meta)\nuntil x < 0\nlocal small =",
        at: "repeat",
        says: "without end",
    })
    .await;
}

#[tokio::test]
async fn a_result_of_another_shape_is_refused() {
    is_refused(Planted {
        script: Script::SendMessage,
        from: "return {id, seq, 0}",
        to: "return {id}",
        at: "return {id}",
        says: "returned what the server cannot read",
    })
    .await;
    is_refused(Planted {
        script: Script::GetHistory,
        from: "small and 1 or 0, has_more, found, marks}",
        to: "small and 1 or 0, has_more, found}",
        at: "return {",
        says: "returned what the server cannot read",
    })
    .await;
}

#[tokio::test]
async fn a_fault_at_a_line_is_refused() {
    is_refused(Planted {
        script: Script::EnterChat,
        from: "local rev_after = rev\n",
        to: "local rev_after = rev\nlocal nothing\nlocal thing = nothing.thing\n",
        at: "nothing.thing",
        says: "it fails: attempt to index",
    })
    .await;
    is_refused(Planted {
        script: Script::SendMessage,
        from: CHECKED,
        to: "local rules = cjson.decode(redis.call('HGET', ext, 'rules'))\n-- Reading",
        at: "cjson.decode",
        says: "it fails: bad argument",
    })
    .await;
    is_refused(Planted {
        script: Script::SendMessage,
        from: CHECKED,
        to: "if true then\n  return redis.error_reply('CLOSED It is late.')\nend\n-- Reading",
        at: "CLOSED",
        says: "an error that the server does not expect of it: CLOSED It is late.",
    })
    .await;
}

#[tokio::test]
async fn a_send_that_does_something_else_is_refused() {
    let send = |from, to, at, says| Planted {
        script: Script::SendMessage,
        from,
        to,
        at,
        says,
    };
    let duplicate =
        "return {first_id, tonumber(first_id:match('-(%d+)$')), first_call == call and 0 or 1}";
    let end = "return {id, seq, 0}";
    let publish = "redis.call('SPUBLISH', events, event)";
    for planted in [
        send(
            duplicate,
            "first_id = first_id",
            end,
            "the id of a message sent twice",
        ),
        send(publish, "", end, "was not published"),
        send(
            publish,
            "redis.call('SPUBLISH', events, event) redis.call('SPUBLISH', events, event)",
            end,
            "the rev published",
        ),
        send(
            "'rev', rev_text, 'last_id', id)",
            "'last_id', id)",
            end,
            "the rev after the last event",
        ),
        send(
            "head[3] + 1\nlocal last_ms",
            "head[3] + 0\nlocal last_ms",
            end,
            "the rev published",
        ),
        send(
            "redis.call('ZADD', reads, 'GT', unpack(marks))",
            "",
            end,
            "the sender's unread count",
        ),
        send(
            "redis.call('HEXISTS', members, user) == 0",
            "false",
            end,
            "who is not a member gets a result, not NOT_MEMBER",
        ),
        send(
            end,
            "redis.call('HDEL', members, user)\nreturn {id, seq, 0}",
            end,
            "a member does not have the room",
        ),
        send(
            CHECKED,
            "redis.call('HINCRBY', ext, 'tries', 1)\nif true then\n  return redis.error_reply('REJECTED No.')\nend\n-- R",
            "REJECTED No.",
            "REJECTED, but wrote chat:{room:",
        ),
    ] {
        is_refused(planted).await;
    }
}

#[tokio::test]
async fn a_marker_that_moves_back_is_refused() {
    is_refused(Planted {
        script: Script::MarkAsRead,
        from: "if read_seq <= marker then",
        to: "if read_seq == marker then",
        at: "return {epoch, rev, seq, head[4], read_seq, 1}",
        says: "after an older message was marked",
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_tells_something_else_is_refused() {
    is_refused(Planted {
        script: Script::GetChatList,
        from: "tonumber(redis.call('ZSCORE', reads, user) or 0)",
        to: "0",
        at: "return {index, entries, read_seqs}",
        says: "unread count",
    })
    .await;
    is_refused(Planted {
        script: Script::GetChatList,
        from: "tonumber(redis.call('ZSCORE', KEYS[first_key + 2], reader) or 0)",
        to: "0",
        at: "return {index, entries, read_seqs}",
        says: "the entry of a further user",
    })
    .await;
    is_refused(Planted {
        script: Script::GetChatList,
        from: "redis.call('HEXISTS', KEYS[first_key + 1], reader) == 1",
        to: "true",
        at: "return {index, entries, read_seqs}",
        says: "a further user who is not a member has an entry",
    })
    .await;
    is_refused(Planted {
        script: Script::SyncRoom,
        from: "'(' .. last_id, '+'",
        to: "last_id, '+'",
        at: "return {",
        says: "what was missed: the messages are",
    })
    .await;
    is_refused(Planted {
        script: Script::CompareRooms,
        from: "~= rev or",
        to: "< rev or",
        at: "return changed",
        says: "names the rooms [3, 4, 5, 6], not [2, 3, 4, 5, 6]",
    })
    .await;
    is_refused(Planted {
        script: Script::CompareRooms,
        from: "changed + 1] = place",
        to: "changed + 1] = place + 1",
        at: "return changed",
        says: "a place is not that of a room",
    })
    .await;
    is_refused(Planted {
        script: Script::ResetRedisForDevelopment,
        from: "'MATCH', pattern, ",
        to: "",
        at: "return {deleted}",
        says: "what is left",
    })
    .await;
}

#[tokio::test]
async fn a_word_filter_passes() {
    let set = edited(
        Script::SendMessage,
        CHECKED,
        "if content:lower():find('casino', 1, true) then\n  return redis.error_reply('REJECTED Mind your words.')\nend\n-- R",
    );
    assert_eq!(passes(&set).await.rejected, []);
}

#[tokio::test]
async fn a_slow_mode_passes() {
    let set = edited(
        Script::SendMessage,
        CHECKED,
        "local last_sent = tonumber(redis.call('HGET', ext, 'sent:' .. user) or 0)\n\
         local now_secs = tonumber(redis.call('TIME')[1])\n\
         if now_secs - last_sent < 5 then\n  return redis.error_reply('REJECTED Not so fast.')\nend\n\
         redis.call('HSET', ext, 'sent:' .. user, now_secs)\n-- R",
    );
    // The cases let each user send once.
    assert_eq!(passes(&set).await.rejected, []);
}

#[tokio::test]
async fn a_chat_that_takes_nothing_passes_and_says_so() {
    let set = edited(
        Script::SendMessage,
        CHECKED,
        "if true then\n  return redis.error_reply('REJECTED It is late.')\nend\n-- R",
    );
    let rejected = passes(&set).await.rejected;
    assert!(rejected.len() >= 8, "{rejected:?}");
    assert!(rejected.iter().all(|case| case.text == "It is late."));
}

/// A message that the cases themselves send, as the first one in each group.
const WELCOME: &str = "
if created and kind == 'group' then
  local id = now_ms .. '-1'
  redis.call('XADD', messages, id, 'sender', ARGV[FIRST_MEMBER], 'content', 'Welcome')
  redis.call('HSET', meta, 'seq', 1, 'rev', 2, 'last_id', id)
end
local head =";

#[tokio::test]
async fn a_welcome_message_passes() {
    let script = Script::InitializeChat;
    let set = edited(script, "\nlocal head =", WELCOME);
    let text = set
        .get(script)
        .text
        .replace("fresh = created", "fresh = created and head[5] == '0'");
    assert_ne!(text, set.get(script).text);
    let set = set.with(script, ScriptText::new(text, Source::Embedded));
    assert_eq!(passes(&set).await.rejected, []);
}

#[tokio::test]
async fn a_room_with_messages_is_not_fresh() {
    let set = edited(Script::InitializeChat, "\nlocal head =", WELCOME);
    let problem = problem(&set).await;
    assert!(problem.reason.contains("published as fresh"), "{problem}");
}

#[tokio::test]
async fn markers_that_some_rooms_do_not_have_pass() {
    let set = edited(
        Script::MarkAsRead,
        "if read_seq <= marker then",
        "if read_seq <= marker or redis.call('HGET', ext, 'no_markers') == '1' then",
    );
    assert_eq!(passes(&set).await.rejected, []);
}

#[tokio::test]
async fn a_script_that_the_server_calls_by_itself_may_not_reject() {
    is_refused(Planted {
        script: Script::RenewViewers,
        from: "local seq, rev, last_id",
        to: "if #head > 0 then\n  return redis.error_reply('REJECTED No.')\nend\nlocal seq, rev, last_id",
        at: "REJECTED No.",
        says: "does not expect of it: REJECTED No.",
    })
    .await;
}

/// A `redis-server` that records its process and its folder in files beside itself.
struct Noted {
    dir: tempfile::TempDir,
}

impl Noted {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let noted = Self { dir };
        let script = format!(
            "#!/bin/sh\necho \"$$ $*\" >> {}\nexec {} \"$@\"\n",
            noted.notes().display(),
            program().display()
        );
        std::fs::write(noted.program(), script).unwrap();
        std::fs::set_permissions(noted.program(), Permissions::from_mode(0o700)).unwrap();
        noted
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("redis-server")
    }

    fn notes(&self) -> PathBuf {
        self.dir.path().join("notes")
    }

    /// The processes that were started, each with its folder.
    fn started(&self) -> Vec<(String, PathBuf)> {
        let notes = std::fs::read_to_string(self.notes()).unwrap_or_default();
        let read = |line: &str| {
            let mut words = line.split(' ');
            let pid = words.next().unwrap().to_owned();
            let dir = words.skip_while(|word| *word != "--dir").nth(1).unwrap();
            (pid, PathBuf::from(dir))
        };
        notes.lines().map(read).collect()
    }

    fn is_left(&self) -> bool {
        let started = self.started();
        let mut left = started.iter();
        left.any(|(pid, dir)| Path::new("/proc").join(pid).exists() || dir.exists())
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_trial() {
    let good = ScriptSet::embedded().unwrap();
    let wrong = edited(Script::SendMessage, "return {id, seq, 0}", "return {id}");
    for (set, runs) in [(&good, 1), (&wrong, 2)] {
        let noted = Noted::new();
        let outcome = behaviour::run(set, &noted.program()).await;
        assert_eq!(outcome.is_ok(), runs == 1);
        assert_eq!(noted.started().len(), runs);
        assert!(!noted.is_left());
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_trial_that_is_given_up() {
    let endless = edited(Script::SendMessage, CHECKED, "while true do end\n-- R");
    let noted = Noted::new();
    let program = noted.program();
    let trial = tokio::spawn(async move { behaviour::run(&endless, &program).await });
    let deadline = Instant::now() + PATIENCE;
    while noted.started().is_empty() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(10)).await;
    }
    trial.abort();
    assert!(trial.await.unwrap_err().is_cancelled());
    while noted.is_left() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_that_is_no_redis_is_told() {
    let outcome = behaviour::run(&ScriptSet::embedded().unwrap(), Path::new("/bin/false")).await;
    let Err(BehaviourError::Scratch(error)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        error
            .to_string()
            .contains("/bin/false ended right after its start"),
        "{error}"
    );
}
