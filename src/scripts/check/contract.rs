//! Checks the header against what the server passes to the script.

use super::header::{Header, Items, NAME_LINE};
use super::{Findings, Script};

pub(super) fn check(script: Script, header: &Header, found: &mut Findings) {
    let name = script.name();
    if header.name != name {
        let reason = format!("the header calls it `{}`, it is `{name}`", header.name);
        found.add(NAME_LINE, reason);
    }
    let contract = script.contract();
    items("KEYS", &header.keys, contract.keys, found);
    items("ARGV", &header.argv, contract.argv, found);
    let start = format!("redis-cli --eval lua/{name}.lua ");
    if !header.try_line.text.starts_with(&start) {
        let reason = format!("Try does not begin with `{start}`");
        found.add(header.try_line.line, reason);
    }
}

/// Reports the first item that differs: the differences after it only follow from it.
fn items(array: &str, items: &Items, passed: &[&str], found: &mut Findings) {
    let names = items.names();
    let count = names.len().max(passed.len());
    let Some(place) =
        (0..count).find(|&i| names.get(i).map(String::as_str) != passed.get(i).copied())
    else {
        return;
    };
    let reason = match (names.get(place), passed.get(place)) {
        (Some(name), Some(passed)) => {
            format!("the header says `{name}` where the server passes `{passed}` in {array}")
        }
        (Some(name), None) => {
            format!("the header says `{name}`, which the server does not pass in {array}")
        }
        (None, passed) => format!(
            "`{}` is missing, which the server passes in {array}",
            passed.copied().unwrap_or_default()
        ),
    };
    // A missing item belongs after the last one.
    let line = items
        .all()
        .nth(place)
        .or(items.all().last())
        .map(|item| item.line);
    found.add(line.unwrap_or(NAME_LINE), reason);
}
