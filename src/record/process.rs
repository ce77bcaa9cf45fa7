//! What the system knows of this process, from `/proc/self`.

use std::fs;

/// Ticks a second in `/proc`. Linux has told programs 100 on every machine since 2.6 (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// The process, measured now.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Process {
    /// CPU time, user and system, in seconds.
    pub(in crate::record) cpu_s: f64,
    /// Resident memory.
    pub(in crate::record) resident_bytes: f64,
    /// Virtual memory.
    pub(in crate::record) virtual_bytes: f64,
    /// Open file descriptors.
    pub(in crate::record) open_fds: f64,
    /// File descriptors that may be open.
    pub(in crate::record) max_fds: f64,
    /// Unix time at which the process started, in seconds.
    pub(in crate::record) started_s: f64,
    /// Threads.
    pub(in crate::record) threads: f64,
}

/// Measures this process; nothing where there is no `/proc`.
pub(in crate::record) fn measure() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold anything; the fields
    // after it are counted from the third (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let kib = |key: &str| word_after(&status, key).map(|number| number * 1024.0);
    let booted_s = word_after(&system, "btime")?;
    Some(Process {
        cpu_s: (field(14)? + field(15)?) / TICKS_PER_S,
        resident_bytes: kib("VmRSS:")?,
        virtual_bytes: kib("VmSize:")?,
        // One of them is the directory that is being read.
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64,
        max_fds: word_after(&limits, "Max open files").unwrap_or(f64::INFINITY),
        started_s: booted_s + field(22)? / TICKS_PER_S,
        threads: field(20)?,
    })
}

/// The number that follows `key` at the beginning of a line.
fn word_after(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_measures_itself() {
        let process = measure().unwrap();
        assert!(process.resident_bytes > 1e6 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3.0 && process.max_fds >= process.open_fds);
        assert!(process.started_s > 1.6e9 && process.threads >= 1.0);
    }
}
