//! Finds commands that the server's Redis user may not run if it has only the rights of `deploy/redis.acl`. A script
//! would stop half-way at such a command.

use super::commands::{called, find};
use super::lower;
use crate::scripts::{Problem, Script, ScriptSet};

/// The recommended Redis user for the server.
const RECOMMENDED: &str = include_str!("../../../deploy/redis.acl");

/// Every call of a command that is allowed neither to the recommended user nor by `also`, in any case.
pub fn check_rights(set: &ScriptSet, also: &[String]) -> Vec<Problem> {
    let also = also.iter().map(String::as_str);
    let granted: Vec<&str> = granted().map(|name: &str| name).chain(also).collect();
    let mut problems = Vec::new();
    for (script, text) in set.iter() {
        // The rights that the reset needs are granted where it is used.
        if script == Script::ResetRedisForDevelopment {
            continue;
        }
        let Ok(source) = lower::parse(&text.text) else {
            continue;
        };
        for called in called(&source) {
            let name = called.name.filter(|name| find(script, name).is_some());
            let is_granted = |name: &str| granted.iter().any(|it| it.eq_ignore_ascii_case(name));
            if let Some(name) = name.filter(|name| !is_granted(name)) {
                let line = source.line(called.id);
                problems.push(Problem::new(script, text, line, reason(name)));
            }
        }
    }
    problems
}

fn reason(name: &str) -> String {
    let (name, right) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
    let instead = match name.starts_with('H') {
        true => "HGET and HSET do it too; ",
        false => "",
    };
    format!(
        "{name} is not among the rights of deploy/redis.acl: with that user the script would stop here half-way, with \
         a message stored and nobody notified. {instead}or give the server's user +{right}, and pass `--allow {right}`"
    )
}

/// The commands that the recommended user may run.
fn granted() -> impl Iterator<Item = &'static str> {
    let rule = RECOMMENDED
        .lines()
        .find(|line| line.starts_with("user chat-server "));
    let words = rule.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.strip_prefix('+'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scripts::ScriptText;
    use crate::scripts::set::Source;

    fn with(call: &str) -> ScriptSet {
        let set = ScriptSet::embedded().unwrap();
        let script = Script::SendMessage;
        let text = set.get(script).text.replace(
            "redis.call('SPUBLISH'",
            &format!("{call}\nredis.call('SPUBLISH'"),
        );
        set.with(script, ScriptText::new(text, Source::Embedded))
    }

    #[test]
    fn the_embedded_scripts_need_no_more() {
        assert_eq!(check_rights(&ScriptSet::embedded().unwrap(), &[]), []);
    }

    #[test]
    fn a_further_command_is_found_unless_it_is_allowed() {
        let set = with("redis.call('hincrby', ext, 'count', 1)");
        let found = check_rights(&set, &[]);
        assert_eq!(found.len(), 1);
        let said = found[0].to_string();
        assert!(
            said.contains("HINCRBY is not among the rights of deploy/redis.acl"),
            "{said}"
        );
        assert!(said.contains("+hincrby"), "{said}");
        let text = &set.get(Script::SendMessage).text;
        assert!(
            text.lines()
                .nth(found[0].line - 1)
                .unwrap()
                .contains("hincrby")
        );
        assert_eq!(check_rights(&set, &["HIncrBy".to_owned()]), []);
        assert_eq!(
            check_rights(&with("redis.call('SADD', ext, user)"), &[]).len(),
            1
        );
    }
}
