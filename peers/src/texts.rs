//! Buffers that begin at odd multiples of 64 bytes behind a page each, all different: buffers that begin alike in
//! their pages would compete for the same places of the nearest cache, and cost some libraries half of their speed.

const PAGE_BYTES: usize = 4096;

pub(crate) struct Texts {
    buffers: Vec<Vec<u8>>,
    starts: Vec<usize>,
    len: usize,
}

impl Texts {
    pub(crate) fn new(count: usize, len: usize) -> Self {
        let buffers: Vec<Vec<u8>> = (0..count)
            .map(|seed| {
                (0..len + 3 * PAGE_BYTES).map(|i| ((i * 167 + seed * 59) % 251).to_le_bytes()[0]).collect()
            })
            .collect();
        let starts = buffers
            .iter()
            .enumerate()
            .map(|(i, buffer)| buffer.as_ptr().align_offset(PAGE_BYTES) + 64 * (2 * (i * 5 % 32) + 1));
        Self { starts: starts.collect(), buffers, len }
    }

    /// The first `count` to read, the others to write.
    pub(crate) fn split(&mut self, count: usize) -> (Vec<&[u8]>, Vec<&mut [u8]>) {
        let len = self.len;
        let texts = self.buffers.iter_mut().zip(&self.starts);
        let mut texts = texts.map(|(buffer, start)| &mut buffer[*start..start + len]);
        let inputs = texts.by_ref().take(count).map(|text| &*text).collect();
        (inputs, texts.collect())
    }
}
