//! The machine's clock. Pads and keys do not depend on it; records, and the ages of what waits, do.

use std::time::{Duration, SystemTime};

use super::finding::Finding;
use crate::cli::units;

/// No clock that is right shows a time before this program was written: 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// The kernel lets the error that it supposes grow while nobody sets the clock, and no further than this. The flag
/// `STA_UNSYNC` says less: some leave it set to keep the kernel from the hardware's clock.
const OFF_MAX: Duration = Duration::from_secs(16);

/// Whether the calendar is right.
pub(super) fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now < EARLIEST {
        let help = "set it, and keep it right with systemd-timesyncd, chrony or ntpd";
        return Finding::fail("clock", "shows a time before this program was written", help);
    }
    judge(most_off())
}

/// The kernel is asked, because whatever keeps the clock tells it: systemd-timesyncd, chrony, ntpd or another.
fn judge(most_off: Option<Duration>) -> Finding {
    match most_off {
        Some(off) if off < OFF_MAX => {
            Finding::good("clock", format!("synchronised, at most {} off", units::duration(off)))
        }
        Some(_) => Finding::warn(
            "clock",
            "not synchronised: times of events, and how long messages wait, may be wrong",
            "`timedatectl set-ntp true`, or run chrony or ntpd; if one runs, `timedatectl timesync-status`, `chronyc tracking` \
             or `ntpq -p` shows whether it reaches its servers",
        ),
        None => Finding::warn(
            "clock",
            "the kernel does not say whether it is synchronised",
            "see that the machine, or the host of the container, runs systemd-timesyncd, chrony or ntpd",
        ),
    }
}

/// How far off the kernel supposes the clock to be at most; `None` where it may not be asked.
fn most_off() -> Option<Duration> {
    // SAFETY: the structure is numbers alone, of which zero is one. Its `modes` are zero, so that nothing is set; the call
    // writes into the structure that it is lent, which it knows the size of.
    #[expect(unsafe_code, reason = "no crate in the tree wraps this call")]
    let (state, asked) = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut asked), asked)
    };
    if state == -1 {
        return None;
    }
    u64::try_from(asked.maxerror).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn the_kernels_own_word_decides() {
        let level = |ms| judge(Some(Duration::from_millis(ms))).level;
        assert_eq!([level(0), level(15_999), level(16_000)], [Level::Ok, Level::Ok, Level::Warn]);
        assert!(judge(None).remedy.is_some());
    }

    #[test]
    fn the_kernel_is_asked_and_nothing_is_set() {
        let off = most_off();
        assert!(off.is_none_or(|off| off < Duration::from_secs(3600)), "{off:?}");
    }
}
