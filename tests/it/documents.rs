//! The documents: every link leads somewhere, and every page is linked. No network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use regex::Regex;

use crate::support::server::repository;

/// Every Markdown file of the repository, by its path in the repository.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
            let name = name.to_str().unwrap();
            let is_ours =
                !name.starts_with('.') && !["target", "node_modules", "data"].contains(&name);
            if entry.file_type().unwrap().is_dir() {
                folders.extend(is_ours.then_some(path));
            } else if name.ends_with(".md") {
                found.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    found
}

/// The text without its fenced blocks and inline code, in which nothing is a heading or a link.
fn prose(text: &str) -> String {
    let fenced = Regex::new(r"(?ms)^ *```.*?^ *```$").unwrap();
    fenced.replace_all(text, "").into_owned()
}

/// The anchors that GitHub gives a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = Regex::new(r"(?m)^#{1,6} +(.+?) *$").unwrap();
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut anchors = BTreeSet::new();
    for found in heading.captures_iter(&prose(text)) {
        let title = link.replace_all(&found[1], "$1").to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ => c.is_alphanumeric().then_some(c),
        });
        let anchor: String = kept.collect();
        let mut next = anchor.clone();
        let mut count = 0;
        while !anchors.insert(next) {
            count += 1;
            next = format!("{anchor}-{count}");
        }
    }
    anchors
}

/// The targets of all links and pictures of a page.
fn links(text: &str) -> Vec<String> {
    let code = Regex::new(r"`[^`\n]*`").unwrap();
    let text = prose(text);
    let text = code.replace_all(&text, "`code`");
    let link = Regex::new(r#"\]\(([^)\s]+)\)|(?:src|href)="([^"]+)""#).unwrap();
    link.captures_iter(&text)
        .map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned())
        .filter(|target| !target.contains("://"))
        .collect()
}

/// Where a link on a page leads: a path in the repository, and an anchor there.
fn resolved<'a>(page: &Path, link: &'a str) -> (PathBuf, &'a str) {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    if path.is_empty() {
        return (page.to_owned(), anchor);
    }
    let mut target = PathBuf::new();
    for part in page.parent().unwrap().join(path).components() {
        match part {
            Component::ParentDir => assert!(target.pop(), "{link} on {}", page.display()),
            part => target.push(part),
        }
    }
    (target, anchor)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut count = 0;
    let mut dead = Vec::new();
    for (page, text) in &documents {
        for link in links(text) {
            count += 1;
            let (target, anchor) = resolved(page, &link);
            let is_there = repository().join(&target).exists();
            let has_anchor = anchor.is_empty()
                || documents
                    .get(&target)
                    .is_some_and(|text| anchors(text).contains(anchor));
            if !is_there || !has_anchor {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_page_is_found_from_one_list_and_the_first_screen_is_short() {
    let documents = documents();
    let list = Path::new("docs/README.md");
    let listed: BTreeSet<PathBuf> = links(&documents[list])
        .iter()
        .map(|link| resolved(list, link).0)
        .collect();
    for page in documents.keys() {
        let is_for_readers = page.parent() == Some(Path::new("")) || page.starts_with("docs");
        if is_for_readers && page != list {
            assert!(
                listed.contains(page),
                "{} is not in docs/README.md",
                page.display()
            );
        }
    }
    let readme = &documents[Path::new("README.md")];
    assert!(links(readme).iter().any(|link| link == "docs/README.md"));
    assert!(readme.lines().count() <= 200);
}

#[test]
fn every_make_target_that_is_named_is_there() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let named = Regex::new(r"\bmake ([a-z][a-z-]*)").unwrap();
    let code = Regex::new(r"(?ms)^```.*?^```$|`[^`\n]*`").unwrap();
    for (page, text) in documents() {
        let all = code
            .find_iter(&text)
            .flat_map(|code| named.captures_iter(code.as_str()));
        for found in all {
            let rule = format!("\n{}:", &found[1]);
            assert!(
                makefile.contains(&rule),
                "{}: make {}",
                page.display(),
                &found[1]
            );
        }
    }
}

/// What README says is still missing: a word for each feature, and the words that an event for it would have in its
/// name.
const NOT_THERE: [(&str, &[&str]); 6] = [
    (
        "Leaving a group",
        &[
            "leaveroom",
            "leavegroup",
            "removemember",
            "addmember",
            "kick",
            "rename",
        ],
    ),
    ("Typing", &["typing", "presence", "online"]),
    (
        "Editing and deleting messages",
        &["edit", "deletemessage", "reaction"],
    ),
    (
        "Deleting rooms, search",
        &["deleteroom", "deletechat", "search"],
    ),
    ("Files and images", &["upload", "file", "attachment"]),
    ("Push notifications", &["push"]),
];

#[test]
fn what_is_not_there_yet_is_not_there() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let wire = fs::read_to_string(repository().join("asyncapi.yaml"))
        .unwrap()
        .to_lowercase();
    let event = Regex::new(r"(?m)^ +name: +(\w+) *$|event: *\{ *const: *(\w+)").unwrap();
    let names: BTreeSet<String> = event
        .captures_iter(&wire)
        .map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned())
        .collect();
    assert!(names.contains("sendmessage"), "{names:?}");
    for (missing, words) in NOT_THERE {
        assert!(
            readme.contains(missing),
            "README does not name {missing:?} any more: take it out here"
        );
        for name in &names {
            let is_it = words.iter().any(|word| name.contains(word));
            assert!(
                !is_it,
                "there is an event {name}: {missing:?} in README is not true any more"
            );
        }
    }
}
