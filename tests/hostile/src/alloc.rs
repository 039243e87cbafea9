//! Counts what this thread allocates, so that a target can show that hostile bytes buy no memory.
//!
//! A program installs it as its global allocator; without that, [`peak_of`] sees nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static CURRENT: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator with a count per thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

fn add(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = CURRENT.try_with(|current| {
        let now = current.get().wrapping_add(bytes);
        current.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

#[expect(unsafe_code, reason = "an allocator has no safe form; every call goes on to the system's as it is")]
// SAFETY: all four calls are those of `System`, with the same arguments; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        add(bytes.cast_signed().wrapping_sub(layout.size().cast_signed()));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Runs something and gives the most bytes that this thread held meanwhile, beyond what it held before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = CURRENT.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = work();
    let peak = PEAK.with(Cell::get).wrapping_sub(before);
    (result, usize::try_from(peak).unwrap_or(0))
}

/// What decoding may hold besides a small multiple of its input: a list's length is believed up to 1 MiB, and
/// lists stand in lists.
const SLACK_BYTES: usize = 4 << 20;
/// Bytes that one byte of input may become: the values in memory, the copy that is compared, the encoding again.
const PER_BYTE: usize = 64;

/// Runs a decoder on an input.
///
/// # Panics
/// If it held more than the input can justify.
pub fn bounded<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(decode);
    let most = SLACK_BYTES + PER_BYTE * input.len();
    assert!(peak <= most, "{} bytes of input made the decoder hold {peak}", input.len());
    result
}
