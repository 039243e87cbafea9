//! Finds secret bytes wherever they stand: as they are, or written as hexadecimal, base 64, lists of numbers or
//! escapes.
//!
//! Instead of writing every secret in every form, texts are read back: each run of characters that could be an
//! encoding is decoded, and the bytes are looked for.

use std::collections::HashMap;

/// Bytes of the pieces that secrets are known by. Any 15 bytes in a row of a secret hold a whole piece, and eight
/// random bytes are found by chance once in 2^64 / (pieces × places) trials.
const PIECE_BYTES: usize = 8;

/// Secrets by their pieces.
#[derive(Default)]

pub(crate) struct Needles {
    pieces: HashMap<u64, (usize, usize)>,
    names: Vec<String>,
    /// A bit for each hash of a piece, so that most places cost no look-up.
    filter: Vec<u64>,
}

/// Spreads pieces over the filter.
const HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bits of the filter: 8 MiB.
const FILTER_BITS: u32 = 26;

impl Needles {
    pub(crate) fn new() -> Self {
        Self { filter: vec![0; 1 << (FILTER_BITS - 6)], ..Self::default() }
    }

    /// Adds a secret. Pieces that are all one byte, such as erased ones, are no secret.
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        self.names.push(name.to_owned());
        let last = secret.len().checked_sub(PIECE_BYTES);
        let places = (0..secret.len().saturating_sub(PIECE_BYTES)).step_by(PIECE_BYTES).chain(last);
        for at in places {
            let piece = &secret[at..at + PIECE_BYTES];
            if piece.iter().any(|byte| *byte != piece[0]) {
                let piece = u64::from_le_bytes(piece.try_into().unwrap());
                self.pieces.insert(piece, (self.names.len() - 1, at));
                let (word, bit) = place(piece);
                self.filter[word] |= bit;
            }
        }
    }

    /// How many pieces there are.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The first piece that stands in these bytes as it is: which secret, which byte of it, and where.
    pub(crate) fn find_plain(&self, hay: &[u8]) -> Option<String> {
        // Plainly written: this is run over gigabytes, without an optimiser.
        let filter = self.filter.as_slice();
        let mut piece = 0;
        for (at, byte) in hay.iter().enumerate() {
            piece = piece >> 8 | u64::from(*byte) << 56;
            let hash = piece.wrapping_mul(HASH) >> (64 - FILTER_BITS);
            if filter[usize::try_from(hash >> 6).unwrap()] >> (hash & 63) & 1 == 0 {
                continue;
            }
            if at + 1 >= PIECE_BYTES
                && let Some((secret, byte)) = self.pieces.get(&piece)
            {
                return Some(format!("{} from byte {byte}, ending at {at}", self.names[*secret]));
            }
        }
        None
    }

    /// The same, in any of the forms.
    pub(crate) fn find(&self, hay: &[u8]) -> Option<String> {
        self.find_plain(hay)
            .or_else(|| self.find_decoded("hexadecimal", hay, is_hex, 2 * PIECE_BYTES, hex))
            .or_else(|| self.find_decoded("base 64", hay, is_base64, PIECE_BYTES * 4 / 3, base64))
            .or_else(|| self.find_plain(&numbers(hay)).map(|what| format!("as numbers: {what}")))
            .or_else(|| self.find_plain(&escapes(hay)).map(|what| format!("escaped: {what}")))
    }

    fn find_decoded(
        &self,
        form: &str,
        hay: &[u8],
        is_digit: fn(u8) -> bool,
        digits_min: usize,
        decode: fn(&[u8]) -> Vec<Vec<u8>>,
    ) -> Option<String> {
        hay.split(|byte| !is_digit(*byte))
            .filter(|run| run.len() >= digits_min)
            .flat_map(decode)
            .find_map(|bytes| self.find_plain(&bytes))
            .map(|what| format!("as {form}: {what}"))
    }
}

fn place(piece: u64) -> (usize, u64) {
    let hash = piece.wrapping_mul(HASH) >> (64 - FILTER_BITS);
    (usize::try_from(hash >> 6).unwrap(), 1 << (hash & 63))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// Whichever digit the bytes begin at.
fn hex(digits: &[u8]) -> Vec<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).map_or(0, |value| value.to_le_bytes()[0]);
    let decode =
        |digits: &[u8]| digits.chunks_exact(2).map(|pair| value(&pair[0]) << 4 | value(&pair[1])).collect();
    (0..2).map(|start| decode(&digits[start..])).collect()
}

/// Whichever digit the bytes begin at.
fn base64(digits: &[u8]) -> Vec<Vec<u8>> {
    let value = |digit: &u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        _ => 63,
    };
    let decode = |digits: &[u8]| -> Vec<u8> {
        let groups = digits.chunks(4).map(|group| {
            let bits = (0..4).fold(0_u32, |bits, at| bits << 6 | u32::from(group.get(at).map_or(0, value)));
            bits.to_be_bytes()
        });
        groups.flat_map(|bytes| [bytes[1], bytes[2], bytes[3]]).collect()
    };
    (0..4).map(|start| decode(&digits[start..])).collect()
}

/// Numbers below 256 with little between them, as lists are printed.
fn numbers(text: &[u8]) -> Vec<u8> {
    let numbers = text.split(|byte| !byte.is_ascii_digit()).filter(|run| !run.is_empty() && run.len() <= 3);
    numbers.filter_map(|run| std::str::from_utf8(run).ok()?.parse().ok()).collect()
}

/// What stands as `\x1f` or as itself, as byte strings are printed.
fn escapes(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, next) = match after {
            [b'x', high, low, next @ ..] if first == b'\\' && is_hex(*high) && is_hex(*low) => {
                (hex(&[*high, *low])[0][0], next)
            }
            [b'n', next @ ..] if first == b'\\' => (b'\n', next),
            [b'r', next @ ..] if first == b'\\' => (b'\r', next),
            [b't', next @ ..] if first == b'\\' => (b'\t', next),
            [b'0', next @ ..] if first == b'\\' => (0, next),
            [escaped @ (b'\\' | b'"' | b'\''), next @ ..] if first == b'\\' => (*escaped, next),
            next => (first, next),
        };
        bytes.push(byte);
        rest = next;
    }
    bytes
}
