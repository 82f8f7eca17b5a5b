//! CPU time and memory of the server processes, from the kernel's accounts in `/proc`.

use std::fs;
use std::time::Duration;

/// Clock ticks per second of `/proc/PID/stat`: fixed at 100 by the Linux user interface.
const TICKS_PER_S: u64 = 100;

/// What the servers have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all processes.
    pub cpu: Duration,
    /// Resident memory of all processes in bytes.
    pub rss_bytes: u64,
    /// Processes that could be read.
    pub processes: usize,
}

/// Adds up the usage of `pids`; processes that are gone are left out.
#[must_use]
pub fn usage(pids: &[u32]) -> Usage {
    let mut total = Usage::default();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        if let (Some(ticks), Some(rss)) =
            (stat.ok().as_deref().and_then(cpu_ticks), status.ok().as_deref().and_then(rss_bytes))
        {
            total.cpu += Duration::from_millis(ticks * 1000 / TICKS_PER_S);
            total.rss_bytes += rss;
            total.processes += 1;
        }
    }
    total
}

/// utime + stime: the 14th and 15th field, counted behind the command's closing parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_accounts_of_a_process() {
        let stat = "12 (a b) c) S 1 1 1 0 -1 4194560 9 0 0 0 70 30 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(rss_bytes("Name: x\nVmRSS:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        let own = usage(&[std::process::id()]);
        assert_eq!(own.processes, 1);
        assert!(own.rss_bytes > 0);
        assert_eq!(usage(&[u32::MAX]), Usage::default());
    }
}
