//! Reads a fuzzer's bytes as a script: numbers and runs of bytes, zeros where it has ended.

/// The rest of an input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of an input.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// A run with its length (two bytes, little-endian) in front.
    pub fn chunk(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.u8()))
    }

    /// A place in something that has `count` of them; 0 where it has none.
    pub fn below(&mut self, count: usize) -> usize {
        let drawn = if count > 256 { usize::from(self.u16()) } else { usize::from(self.u8()) };
        drawn.checked_rem(count).unwrap_or(0)
    }
}

/// Changes bytes as the script says: up to seven changes, none where its next byte is 0.
pub fn mutate(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..input.u8() % 8 {
        if bytes.is_empty() {
            return;
        }
        let (how, at) = (input.u8(), input.below(bytes.len()));
        match how % 6 {
            0 => bytes[at] ^= input.u8(),
            1 => bytes[at] = input.u8(),
            2 => bytes.insert(at, input.u8()),
            3 => {
                bytes.remove(at);
            }
            4 => {
                let value = input.u64().to_le_bytes();
                bytes.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new);
            }
            _ => bytes.truncate(at),
        }
    }
}
