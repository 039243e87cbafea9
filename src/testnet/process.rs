//! Processes of a testnet: start, look, stop. Never signals a process that is not the node it is meant for:
//! process ids are used again, so the command line is looked at first.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use dske_storage::{Store, files};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cli::error::{CliError, Result, exit},
    testnet::NodeEntry,
};

/// How long a node gets to stop by itself.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How long a started process gets to show its command line, and the pause between two looks.
const START_WAIT: Duration = Duration::from_secs(2);
const START_PAUSE: Duration = Duration::from_micros(200);
/// Between two looks at a process.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long the processes of a testnet live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until they are stopped.
    Detached,
    /// No longer than this program.
    Bound,
}

/// Starts a node. Must be called on the main thread where its life is bound: the system ends the child when
/// the thread that started it ends.
pub(crate) fn start(node: &NodeEntry, lifetime: Lifetime) -> Result<Child> {
    let fail = |cause| {
        CliError::new("dske::testnet::start", exit::OTHER, format!("cannot start {}", node.name))
            .because(cause)
    };
    let log = files::append(&node.log).map_err(|error| CliError::file("open log", &node.log, error))?;
    let program = std::env::current_exe().map_err(fail)?;
    let mut command = Command::new(program);
    command.arg("--dir").arg(&node.dir).args(["--color", "never", "run"]);
    match lifetime {
        Lifetime::Detached => command.arg("--detach"),
        // Out of the terminal's foreground group: Ctrl-C is for this program, which then stops its nodes.
        Lifetime::Bound => command.arg("--bound-to").arg(std::process::id().to_string()).process_group(0),
    };
    // The user's own settings are not the testnet's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"DSKE_")) {
        command.env_remove(name);
    }
    let stdout = log.try_clone().map_err(fail)?;
    command.current_dir(&node.dir).stdin(Stdio::null()).stdout(stdout).stderr(log);
    let mut child = command.spawn().map_err(fail)?;
    // The system lets go of us a moment before the new command line can be read, by which a process is known.
    let deadline = Instant::now() + START_WAIT;
    while !is_node(child.id(), &node.dir) && Instant::now() < deadline {
        if child.try_wait().map_err(fail)?.is_some() {
            break;
        }
        thread::sleep(START_PAUSE);
    }
    Ok(child)
}

/// The node's process, where the descriptor does not name it: the command that started it may have been ended before it
/// could write that down.
pub(crate) fn find(node: &NodeEntry) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_node(*pid, &node.dir))
}

/// Whether a process is this program, making a testnet.
pub(crate) fn is_maker(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    is_dske(arguments.next().unwrap_or_default()) && arguments.any(|argument| argument == b"up")
}

/// Whether the node's process runs.
pub(crate) fn is_running(node: &NodeEntry) -> bool {
    node.pid.is_some_and(|pid| is_node(pid, &node.dir))
}

/// Whether the node's process has let go of everything. A dying process loses its command line before its
/// files and their locks, and those only with the last of its threads, now and then a moment later still.
fn has_ended(node: &NodeEntry) -> bool {
    is_gone(node) && !Store::is_open_elsewhere(&node.data_dir().store())
}

fn is_gone(node: &NodeEntry) -> bool {
    let Some(pid) = node.pid else { return true };
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Err(_) => true,
        Ok(line) if line.is_empty() => {
            // The state stands after the name in brackets: Z and X are those of a thread that is gone.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            threads <= 1 && (state.is_empty() || state.starts_with(['Z', 'X']))
        }
        Ok(line) => !is_node_command(&line, &node.dir),
    }
}

/// Asks nodes to stop, all at once, and ends those that do not. Waits for those as well that a crash has not
/// quite ended: their locks would keep a new process out.
pub(crate) fn stop<'a>(nodes: impl IntoIterator<Item = &'a NodeEntry>) -> Result<()> {
    let running: Vec<&NodeEntry> = nodes.into_iter().filter(|node| !has_ended(node)).collect();
    for node in &running {
        signal(node, Signal::TERM)?;
    }
    let deadline = Instant::now() + STOP_WAIT;
    while running.iter().any(|node| !has_ended(node)) && Instant::now() < deadline {
        thread::sleep(LOOK_PAUSE);
    }
    stop_hard(running)
}

/// Ends nodes at once, as a crash would.
pub(crate) fn stop_hard<'a>(nodes: impl IntoIterator<Item = &'a NodeEntry>) -> Result<()> {
    let running: Vec<&NodeEntry> = nodes.into_iter().filter(|node| !has_ended(node)).collect();
    for node in &running {
        signal(node, Signal::KILL)?;
    }
    let deadline = Instant::now() + STOP_WAIT;
    while let Some(left) = running.iter().find(|node| !has_ended(node)) {
        if Instant::now() >= deadline {
            return Err(CliError::new(
                "dske::testnet::stop",
                exit::OTHER,
                format!("{} does not end", left.name),
            ));
        }
        thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}

fn signal(node: &NodeEntry, signal: Signal) -> Result<()> {
    let pid = node.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|_| is_running(node)) else { return Ok(()) };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => {
            let message = format!("cannot stop {} (process {})", node.name, pid.as_raw_nonzero());
            Err(CliError::new("dske::testnet::stop", exit::OTHER, message).because(error))
        }
    }
}

/// Whether that process is a node on that directory. A process that has ended but was not yet waited for has
/// an empty command line, and so does not count.
fn is_node(pid: u32, dir: &Path) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_node_command(&line, dir))
}

fn is_node_command(line: &[u8], dir: &Path) -> bool {
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<&[u8]> = arguments.collect();
    let on_dir = arguments.windows(2).any(|pair| pair == [b"--dir".as_slice(), dir.as_os_str().as_bytes()]);
    is_dske(program) && on_dir && arguments.contains(&b"run".as_slice())
}

fn is_dske(program: &[u8]) -> bool {
    program.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b"dske"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_on_that_directory_is_meant() {
        let dir = Path::new("/tmp/x/p1");
        assert!(is_node_command(b"/usr/bin/dske\0--dir\0/tmp/x/p1\0run\0", dir));
        for other in [
            &b""[..],
            b"/usr/bin/vim\0--dir\0/tmp/x/p1\0run\0",
            b"/usr/bin/dske\0--dir\0/tmp/x/p10\0run\0",
            b"/usr/bin/dske\0--dir\0/tmp/x/p1\0status\0",
            b"/usr/bin/dske\0/tmp/x/p1\0run\0",
        ] {
            assert!(!is_node_command(other, dir), "{}", String::from_utf8_lossy(other));
        }
        assert!(!is_node(std::process::id(), dir));
    }
}
