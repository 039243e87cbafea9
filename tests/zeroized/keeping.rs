//! An allocator that keeps everything: what is freed stays as it was left, growing a block leaves the old one
//! behind, and no place is used twice. So at the end all that was ever in memory and not erased is still there.

#![allow(unsafe_code, reason = "an allocator is unsafe by nature")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};

/// Memory is taken from the system in chunks of this size, or larger where one block needs it.
const CHUNK_BYTES: usize = 64 << 20;
/// Chunks at most: more than the test uses.
const CHUNKS_MAX: usize = 64;

pub(crate) struct Keeping {
    busy: AtomicBool,
    chunks: [Chunk; CHUNKS_MAX],
    /// Number of chunks that are there.
    count: AtomicUsize,
}

struct Chunk {
    start: AtomicPtr<u8>,
    bytes: AtomicUsize,
    used: AtomicUsize,
}

thread_local! {
    /// Blocks of this thread are the test's own, which are not kept.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose memory is not kept: what the test itself knows of secrets.
pub(crate) fn aside<T>(run: impl FnOnce() -> T) -> T {
    let before = OWN.replace(true);
    let result = run();
    OWN.set(before);
    result
}

impl Keeping {
    pub(crate) const fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            chunks: [const {
                Chunk {
                    start: AtomicPtr::new(ptr::null_mut()),
                    bytes: AtomicUsize::new(0),
                    used: AtomicUsize::new(0),
                }
            }; CHUNKS_MAX],
            count: AtomicUsize::new(0),
        }
    }

    /// All that has ever been allocated, as it is now. Other threads must be at rest.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.count.load(Ordering::Acquire);
        self.chunks[..count].iter().map(|chunk| {
            let (start, used) = (chunk.start.load(Ordering::Acquire), chunk.used.load(Ordering::Acquire));
            // SAFETY: the chunk is there for ever, zeroed at first, and `used` bytes of it are given out.
            unsafe { std::slice::from_raw_parts(start, used) }
        })
    }

    fn keeps(&self, block: *mut u8) -> bool {
        let count = self.count.load(Ordering::Acquire);
        self.chunks[..count].iter().any(|chunk| {
            let start = chunk.start.load(Ordering::Acquire).addr();
            (start..start + chunk.bytes.load(Ordering::Acquire)).contains(&block.addr())
        })
    }

    /// Takes a block out of the last chunk, or a new one. Only one thread at a time.
    fn take(&self, layout: Layout) -> *mut u8 {
        let count = self.count.load(Ordering::Acquire);
        if let Some(chunk) = count.checked_sub(1).map(|last| &self.chunks[last])
            && let Some(block) = chunk.take(layout)
        {
            return block;
        }
        let Some(chunk) = self.chunks.get(count) else { return ptr::null_mut() };
        let bytes = CHUNK_BYTES.max(layout.size() + layout.align());
        let Ok(whole) = Layout::from_size_align(bytes, 4096) else { return ptr::null_mut() };
        // SAFETY: the layout is not empty.
        let start = unsafe { System.alloc_zeroed(whole) };
        if start.is_null() {
            return start;
        }
        chunk.start.store(start, Ordering::Release);
        chunk.bytes.store(bytes, Ordering::Release);
        self.count.store(count + 1, Ordering::Release);
        chunk.take(layout).unwrap_or(ptr::null_mut())
    }
}

impl Chunk {
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.start.load(Ordering::Acquire);
        let at = (start.addr() + self.used.load(Ordering::Acquire)).next_multiple_of(layout.align())
            - start.addr();
        let end = at.checked_add(layout.size())?;
        if end > self.bytes.load(Ordering::Acquire) {
            return None;
        }
        self.used.store(end, Ordering::Release);
        Some(start.wrapping_add(at))
    }
}

// SAFETY: every block lies in memory of the system's allocator, has the size and alignment asked for, and is given
// out once; what the system's allocator gave is given back to it.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if OWN.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let block = self.take(layout);
        self.busy.store(false, Ordering::Release);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !self.keeps(block) {
            // SAFETY: the caller's promise; it came from there.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if OWN.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise. No place is used twice, and all are zeros at first.
        unsafe { self.alloc(layout) }
    }
}
