//! What is shipped for operators, compared with what the server really has.

use std::{collections::BTreeSet, fs};

use regex::Regex;

use crate::support::server::repository;

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the first group of `pattern` matches; it must match something.
fn found(text: &str, pattern: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    let all: BTreeSet<String> = pattern
        .captures_iter(text)
        .map(|found| found[1].to_owned())
        .collect();
    assert!(!all.is_empty(), "nothing matches {pattern}");
    all
}

/// The number that the first group of `pattern` matches.
fn number(text: &str, pattern: &str) -> u64 {
    let all = found(text, pattern);
    assert_eq!(all.len(), 1, "{pattern}: {all:?}");
    all.first().unwrap().parse().unwrap()
}

/// A setting's default.
fn default(setting: &str) -> u64 {
    number(&read(".env.example"), &format!(r"(?m)^#{setting}=(\d+)$"))
}

#[test]
fn settings_that_are_named_are_settings_that_there_are() {
    let settings = found(&read(".env.example"), r"(?m)^#?([A-Z_]+)=");
    for (file, pattern) in [
        ("Dockerfile", r"(?m)^(?:ENV| {3}) ([A-Z_]+)="),
        ("compose.yaml", r"(?m)^ {4}([A-Z_]+):"),
        ("deploy/chat-server.service", r"(?m)^Environment=([A-Z_]+)="),
        (
            "docs/operating.md",
            r"`((?:MAX|JWT|QUEUE|REDIS|LUA|KEY|DEV|ALLOW|CORS|HISTORY_MAX|DEDUPE|PING|HEADER|SHUTDOWN)_[A-Z_]+)",
        ),
    ] {
        let text = read(file);
        let named = Regex::new(pattern).unwrap();
        let named: BTreeSet<String> = named
            .captures_iter(&text)
            .map(|found| found[1].to_owned())
            .collect();
        assert!(!named.is_empty(), "{file}");
        let unknown: Vec<_> = named.difference(&settings).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn who_stops_a_server_waits_long_enough() {
    let deadline_secs = default("SHUTDOWN_DEADLINE_MS") / 1000;
    let compose = read("compose.yaml");
    let grace = found(&compose, r"stop_grace_period: (\d+)s");
    assert!(
        grace
            .iter()
            .all(|secs| secs.parse::<u64>().unwrap() > deadline_secs)
    );
    // The server's own Redis has ten seconds more.
    let unit = read("deploy/chat-server.service");
    assert!(number(&unit, r"(?m)^TimeoutStopSec=(\d+)$") > deadline_secs + 10);
}

#[test]
fn open_files_are_enough_for_all_connections() {
    let devices = default("MAX_CONNECTIONS");
    let connections = devices + 2 * default("MAX_UNJOINED");
    let unit = read("deploy/chat-server.service");
    assert!(number(&unit, r"(?m)^LimitNOFILE=(\d+)$") > connections);
    assert!(number(&read("compose.yaml"), r"nofile: (\d+)") > connections);
    let nginx = read("deploy/nginx.conf");
    assert!(number(&nginx, r"worker_connections (\d+);") >= 2 * devices);
}

#[test]
fn nginx_has_the_times_and_sizes_of_the_server() {
    let nginx = read("deploy/nginx.conf");
    assert_eq!(
        number(&nginx, r"client_max_body_size (\d+)k;") * 1024,
        default("MAX_FRAME_BYTES")
    );
    assert!(number(&nginx, r"proxy_read_timeout (\d+)s;") * 1000 > default("PING_INTERVAL_MS"));
    let header_timeout = default("HEADER_TIMEOUT_MS");
    assert_eq!(
        number(&nginx, r"client_header_timeout (\d+)s;") * 1000,
        header_timeout
    );
    assert!(number(&nginx, r"(?m)^ +keepalive_timeout (\d+)s;") * 1000 < header_timeout);
}

#[test]
fn what_the_build_of_the_image_needs_is_let_through() {
    let ignore = read(".dockerignore");
    let through: BTreeSet<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    // The manifests, the files that the sources embed, and a target that Cargo looks for by itself.
    let needed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "lua",
        "web",
        "asyncapi.yaml",
        "bench",
        "benches/pure.rs",
    ];
    for path in needed {
        assert!(repository().join(path).exists(), "{path}");
        assert!(through.contains(path), "{path} is not in .dockerignore");
    }
}
