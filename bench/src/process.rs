//! What the kernel reports about a process: CPU time and memory.

use std::fs;

/// Linux counts CPU time in hundredths of a second, whatever the rate of its own timer.
const TICKS_PER_SEC: f64 = 100.0;

/// A process that is observed, not owned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    /// The process with this id.
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self::new(std::process::id())
    }

    /// CPU seconds so far, over all its threads; `None` if the kernel does not report them.
    pub(crate) fn cpu_secs(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        cpu_secs(&stat)
    }

    /// KiB in memory now; `None` if the kernel does not report it.
    pub(crate) fn rss_kib(self) -> Option<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most KiB in memory so far; `None` if the kernel does not report it.
    pub(crate) fn peak_rss_kib(self) -> Option<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }
}

/// `utime` and `stime`, the 14th and 15th field. The second is a name in parentheses, which may contain spaces.
fn cpu_secs(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1 1";
        assert_eq!(cpu_secs(stat), Some(3.0));
        assert_eq!(cpu_secs("7 (a"), None);
    }
}
