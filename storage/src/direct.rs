//! Zeros past the page cache. Whoever overwrites a pad never reads it again: to carry zeros into the cache page by
//! page, and to keep them there, would cost more than the rest of the erasure.
//!
//! Only whole pages go this way. Their neighbours in the cache are the kernel's care: a direct write first
//! writes back and then drops what the cache holds of its range, under the file's lock, and nothing maps these files.

use std::{
    fs,
    hint::black_box,
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    sync::OnceLock,
};

use rustix::fs::OFlags;

use crate::disk::ZEROS_BYTES;

/// Offset, length and memory of a direct write are multiples of this: no file system asks for more.
const PAGE_BYTES: u64 = 4096;
/// Fewer bytes are not worth a write of their own that waits for the device.
const BYTES_MIN: u64 = 64 << 10;

/// A second way into a file, opened when it is first wanted.
#[derive(Default)]
pub(crate) struct Direct(OnceLock<Option<fs::File>>);

impl Direct {
    /// Writes zeros over the whole pages of a range, where that is worth it and the file system can. Gives the part
    /// that was written.
    pub(crate) fn zero(&self, file: &fs::File, offset: u64, bytes: u64) -> io::Result<Option<(u64, u64)>> {
        let start = offset.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX);
        let end = offset.saturating_add(bytes) / PAGE_BYTES * PAGE_BYTES;
        if end < start.saturating_add(BYTES_MIN) {
            return Ok(None);
        }
        let Some(direct) = self.0.get_or_init(|| open(file)) else { return Ok(None) };
        let zeros = zeros();
        let mut at = start;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
            match direct.write_all_at(zeros.get(..piece).unwrap_or(zeros), at) {
                // Opened, but refused: a file system that wants another alignment. The cache takes all.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
                other => other?,
            }
            at += piece as u64;
        }
        Ok(Some((start, end)))
    }
}

/// `None` where the file system has no direct writes, or there is no way to the open file.
fn open(file: &fs::File) -> Option<fs::File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

/// Zeros whose first byte stands at the start of a page. They are written once, into memory of their own: what was only
/// asked for is one page of the kernel's many times over, which it looks up page by page at every write.
fn zeros() -> &'static [u8] {
    static ZEROS: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    let page = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    let (room, start) = ZEROS.get_or_init(|| {
        let mut room = vec![0; ZEROS_BYTES + page];
        black_box(&mut room).fill(0);
        let start = room.as_ptr().addr().wrapping_neg() % page;
        (room, start)
    });
    room.get(*start..start + ZEROS_BYTES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_over_whole_pages_and_nothing_beside_them() {
        const LEN: usize = 3 * ZEROS_BYTES + 100;
        let file = tempfile::tempfile().expect("a file");
        let before: Vec<u8> = (0..LEN).map(|at| (at % 251).to_le_bytes()[0] | 1).collect();
        file.write_all_at(&before, 0).expect("written");
        // The file system of the tests may have no direct writes: then nothing may be written at all.
        let can = Direct::default().zero(&file, 0, LEN as u64).expect("zeroed").is_some();
        let pages = 3 * ZEROS_BYTES;
        for (start, end, from, to) in [
            (0, LEN, 0, pages),
            (1, LEN - 1, 4096, pages),
            (4096, 4096 + (64 << 10), 4096, 4096 + (64 << 10)),
            (5000, 2_100_000, 8192, 2_097_152),
            (100, 200, 0, 0),
        ] {
            let (from, to) = if can { (from, to) } else { (0, 0) };
            file.write_all_at(&before, 0).expect("written");
            let done = Direct::default().zero(&file, start as u64, (end - start) as u64).expect("zeroed");
            assert_eq!(done, (from < to).then_some((from as u64, to as u64)), "{start}..{end}");
            let mut after = vec![9; LEN];
            file.read_exact_at(&mut after, 0).expect("readable");
            assert!(after[from..to].iter().all(|&byte| byte == 0), "{start}..{end}");
            assert!(after[..from] == before[..from] && after[to..] == before[to..], "{start}..{end}");
        }
    }

    #[test]
    fn few_bytes_are_left_to_the_cache() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(1 << 20).expect("space");
        let direct = Direct::default();
        for (start, bytes) in [(0, 100), (1, BYTES_MIN + PAGE_BYTES - 2), (u64::MAX - 10, 5)] {
            assert_eq!(direct.zero(&file, start, bytes).expect("nothing to do"), None, "{start}");
        }
    }
}
