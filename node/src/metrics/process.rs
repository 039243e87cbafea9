//! What the process takes of the machine, under the names that Prometheus has for it.

use std::{fs, sync::OnceLock, time::SystemTime};

use prometheus::Result;
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::families::Families;

static STARTED: OnceLock<f64> = OnceLock::new();

/// Adds the process's figures. One that the system does not give is left out.
pub(super) fn describe(families: &Families, uptime_ms: u64) -> Result<()> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    // In milliseconds a rate over a few seconds is still exact.
    let cpu = cpu.tv_sec as f64 + (cpu.tv_nsec as f64 / 1e6).round() / 1e3;
    families.kept(cpu_seconds(cpu)?)?;
    if let Some(bytes) = resident_bytes() {
        families.gauge("process_resident_memory_bytes", "Memory in use", bytes)?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        families.gauge("process_open_fds", "Open file descriptors", open.count() as f64)?;
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        families.gauge("process_max_fds", "Most file descriptors that may be open", most as f64)?;
    }
    // Reckoned once: a figure that wavers, or follows the calendar, would look like restarts.
    let started = STARTED.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (now.as_secs_f64() - uptime_ms as f64 / 1e3).round()
    });
    families.gauge("process_start_time_seconds", "When the node started, since the epoch", *started)
}

fn cpu_seconds(seconds: f64) -> Result<prometheus::Counter> {
    let counter = prometheus::Counter::new("process_cpu_seconds_total", "Processor time used")?;
    counter.inc_by(seconds);
    Ok(counter)
}

fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages as f64 * page_size() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_time_and_files() {
        let families = Families::default();
        describe(&families, 1_000).unwrap();
        let text = families.text().unwrap();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let figure: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(figure > 0.0, "{line}");
        }
    }
}
