//! The program as it is used: with a Redis and a server of its own, for a second.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_chat-bench");

/// Runs `chat-bench` with the server that was built beside it; returns its result as JSON.
fn bench(args: &[&str]) -> Value {
    let server = Path::new(BENCH).with_file_name("chat-server");
    assert!(server.exists(), "build the server first: cargo build");
    let server = server.to_str().expect("a path in UTF-8");
    print(&[args, &["--self-contained", "--server", server]].concat())
}

/// Runs `chat-bench` with these arguments alone; returns its result as JSON.
fn print(args: &[&str]) -> Value {
    let output = Command::new(BENCH)
        .args(args)
        .arg("--json")
        .output()
        .expect("start chat-bench");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_load_is_measured_over_both_doors() {
    for door in ["native", "socketio"] {
        let sizes =
            "--rooms 2 --members 3 --devices 2 --senders 2 --window 4 --secs 1 --warmup-secs 0";
        let args = [&["--door", door][..], &sizes.split(' ').collect::<Vec<_>>()].concat();
        let figures = bench(&args);
        assert!(
            figures["sends_per_sec"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
        assert!(
            figures["delivery"]["p50_ms"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
        assert_eq!(figures["errors"], 0);
        assert_eq!(figures["faults"]["lost"], 0);
        assert_eq!(figures["seconds"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn an_open_load_keeps_its_rate_and_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("latency.svg");
    let args = "--rooms 2 --rate 200 --secs 1 --warmup-secs 1 --raw --plot";
    let args: Vec<&str> = args.split(' ').chain(plot.to_str()).collect();
    let figures = bench(&args);
    // A window would allow many times as much; how much less a busy machine manages is not judged here.
    let rate = figures["sends_per_sec"].as_f64().unwrap();
    assert!(rate > 0.0 && rate < 400.0, "{figures}");
    assert!(figures["raw"]["sends_per_sec"].as_f64().unwrap() > 0.0);
    assert!(std::fs::read_to_string(plot).unwrap().starts_with("<svg"));
}

#[test]
fn one_message_goes_to_all() {
    let figures = bench(&["fanout", "--members", "20", "--sends", "3"]);
    assert_eq!(figures["sends"], 3);
}

#[test]
fn an_id_takes_less_memory_than_a_key_of_its_own_would() {
    let figures = print(&["memory", "--rooms", "10", "--messages", "100"]);
    let bytes = |name: &str| figures[name].as_f64().unwrap();
    assert!(bytes("without_id") < bytes("with_id"), "{figures}");
    assert!(bytes("with_id") < bytes("with_id_in_a_key"), "{figures}");
}

#[test]
fn attacks_leave_a_way_in_for_others() {
    let server = Path::new(BENCH).with_file_name("chat-server");
    let server = server.to_str().expect("a path in UTF-8");
    let attacks = print(&[
        "attack", "pings", "nonsense", "--secs", "1", "--server", server,
    ]);
    for figures in attacks.as_array().unwrap() {
        assert!(figures["opened"].as_u64().unwrap() > 0, "{figures}");
        assert!(figures["visits"].as_u64().unwrap() > 0, "{figures}");
        assert_eq!(figures["visits"], figures["let_in"], "{figures}");
    }
}
