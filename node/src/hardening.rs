//! What keeps secrets out of core dumps and swap: asked of the system once, before anything secret is in memory.
//!
//! A process is not dumpable, which also keeps other processes of the same user from reading its memory and takes
//! `/proc/PID/mem` away from them; a limit of 0 on core files is the second bolt. Memory is locked only where
//! the system allows any amount of it: under a smaller limit, locking all that is yet to come would make an
//! allocation fail some day, and a node that dies for want of locked memory protects nobody. Must never fail the
//! start.

use std::{fmt, sync::OnceLock};

use rustix::{
    mm::{MlockAllFlags, mlockall, munlockall},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// What could be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardening {
    /// Why cores could still be dumped, where they could.
    pub core_dumps: Result<(), String>,
    /// Why memory is not locked, where it is not: pages with secrets may be written to swap.
    pub memory_lock: Result<(), NotLocked>,
}

/// Why memory is not locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLocked {
    /// The process may lock so many bytes only.
    Limit(u64),
    /// The system refused for this reason.
    Refused(String),
}

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(bytes) => write!(
                f,
                "this process may lock {bytes} bytes only: secrets may reach the swap space. Raise its limit \
                 (`ulimit -l unlimited`, `LimitMEMLOCK=infinity`), or encrypt the swap"
            ),
            Self::Refused(cause) => {
                write!(f, "the system does not lock memory ({cause}): secrets may reach the swap space")
            }
        }
    }
}

static DONE: OnceLock<Hardening> = OnceLock::new();

/// Asks for it, once per process; call it before anything else.
pub fn harden() -> &'static Hardening {
    keep_memory();
    DONE.get_or_init(|| Hardening { core_dumps: forbid_dumps(), memory_lock: lock_memory() })
}

/// What [`harden`] got; `None` in a process that never asked.
pub(crate) fn hardening() -> Option<&'static Hardening> {
    DONE.get()
}

/// Memory that was freed is kept for what comes next: messages of a stream of blocks are hundreds of kilobytes each, and to
/// give them back to the system and have it clear them anew costs more than all arithmetic on them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    /// Kept at the end of the heap.
    const KEPT_BYTES: libc::c_int = 64 << 20;
    /// Only what is longer has a mapping of its own, which goes when it is freed.
    const MAPPED_FROM_BYTES: libc::c_int = 8 << 20;
    // SAFETY: mallopt takes two numbers, touches no memory of ours, and may be called at any time; what it does not
    // understand it ignores.
    #[expect(unsafe_code, reason = "there is no other way to ask the allocator of the C library")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}

fn forbid_dumps() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none).map_err(|error| format!("limit of core files: {error}"));
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // Where cores go to a program, the limit does not count; this does.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| format!("dumpable attribute: {error}"))?;
    }
    limited
}

/// Locks what there is and what will come, as it is first touched.
fn lock_memory() -> Result<(), NotLocked> {
    let limit = getrlimit(Resource::Memlock);
    // Up to the hard limit the process may help itself; a refusal shows below.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Memlock, raised);
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| {
        limit.maximum.map_or_else(|| NotLocked::Refused(error.to_string()), NotLocked::Limit)
    })?;
    let Some(limit) = limit.maximum else { return Ok(()) };
    // A privileged process is not bound by its limit; one that is would now die of the first allocation beyond
    // it. Whether it is shows an allocation that passes the limit, which nothing touches.
    let beyond = usize::try_from(limit.saturating_add(PROBE_BYTES)).unwrap_or(usize::MAX);
    if Vec::<u8>::new().try_reserve_exact(beyond).is_ok() {
        return Ok(());
    }
    munlockall().map_err(|error| NotLocked::Refused(error.to_string()))?;
    Err(NotLocked::Limit(limit))
}

/// What the probe asks for beyond the limit: more than an allocator has at hand without asking the system.
const PROBE_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_twice_is_asking_once() {
        assert!(hardening().is_none() || hardening() == Some(harden()));
        assert!(std::ptr::eq(harden(), harden()));
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let text = NotLocked::Limit(8 << 20).to_string();
        assert!(text.contains("8388608") && text.contains("LimitMEMLOCK=infinity"), "{text}");
    }
}
