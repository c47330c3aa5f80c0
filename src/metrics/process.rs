//! The process's own figures, under the names that all Prometheus clients use. Read from Linux's /proc; elsewhere, and
//! where /proc does not tell, they are left out.

use std::fmt::Write;
use std::fs;

/// The figures in Prometheus's text format.
pub(super) fn text() -> String {
    let mut text = String::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks_per_second = number(rustix::param::clock_ticks_per_second());
    let page_bytes = number(rustix::param::page_size() as u64);
    let stat = |field| field_of(&stat, field);
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time used, of user and system, in seconds.",
            sum(stat(UTIME), stat(STIME)).map(|ticks| ticks / ticks_per_second),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use, in bytes.",
            stat(RSS).map(|pages| pages * page_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Address space in use, in bytes.",
            stat(VSIZE),
        ),
        (
            "process_threads",
            "gauge",
            "Threads of the process.",
            stat(THREADS),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process started, in seconds of Unix time.",
            sum(
                boot_time(&system),
                stat(STARTTIME).map(|ticks| ticks / ticks_per_second),
            ),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open files, sockets among them.",
            open_files(),
        ),
        (
            "process_max_fds",
            "gauge",
            "How many files may be open.",
            max_open_files(&limits),
        ),
    ];
    for (name, kind, help, value) in figures {
        if let Some(value) = value {
            // Writing to a text cannot fail.
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
            );
        }
    }
    text
}

// The fields of /proc/self/stat, by their numbers in proc_pid_stat(5).
const UTIME: usize = 14;
const STIME: usize = 15;
const THREADS: usize = 20;
const STARTTIME: usize = 22;
const VSIZE: usize = 23;
const RSS: usize = 24;

fn field_of(stat: &str, field: usize) -> Option<f64> {
    // The second field is the program's name in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

fn boot_time(system: &str) -> Option<f64> {
    let line = |line: &str| line.strip_prefix("btime ")?.trim().parse().ok();
    system.lines().find_map(line)
}

fn open_files() -> Option<f64> {
    // The listing itself is an open file.
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(number(files.saturating_sub(1) as u64))
}

fn max_open_files(limits: &str) -> Option<f64> {
    let line = |line: &str| {
        line.strip_prefix("Max open files")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    limits.lines().find_map(line)
}

fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? + b?)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nothing here is counted past 2^53"
)]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 11 12 0 0 20 0 5 0 4242 1000000 321 18446744073709551615";
        let read =
            [UTIME, STIME, THREADS, STARTTIME, VSIZE, RSS].map(|field| field_of(stat, field));
        let expected = [11.0, 12.0, 5.0, 4242.0, 1_000_000.0, 321.0].map(Some);
        assert_eq!(read, expected);
    }

    #[test]
    fn limits_and_boot_time_are_found_among_the_rest() {
        let limits = "Limit        Soft Limit  Hard Limit  Units\nMax processes  1  2  processes\nMax open files   1024   524288   files\n";
        assert_eq!(max_open_files(limits), Some(1024.0));
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1700000000\nprocesses 5\n"),
            Some(1_700_000_000.0)
        );
        assert_eq!(max_open_files(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_them_all() {
        let text = text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1_000_000.0);
        assert!(value("process_virtual_memory_bytes ") > 1_000_000.0);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_max_fds ") >= value("process_open_fds "));
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_start_time_seconds ") > 1_600_000_000.0);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
