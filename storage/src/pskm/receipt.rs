//! The phrase by which a client tells the hub, over a channel that both trust, that the module arrived
//! whole (§2.1). It comes from a secret in the sealed manifest, so only who opened the module can say it.

use std::fmt;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};

use super::words::WORDS;

/// Longest text that is looked at as a receipt; the longest phrase has 20 bytes.
const PHRASE_BYTES_MAX: usize = 64;

/// Two words and four digits, such as `olive tango 4417`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptPhrase(String);

impl ReceiptPhrase {
    pub(super) fn from_secret(secret: &[u8; 16]) -> Self {
        let [first, second, high, low, ..] = *secret;
        let word = |index: u8| WORDS.get(usize::from(index)).copied().unwrap_or_default();
        let number = u16::from_be_bytes([high, low]) % 10_000;
        Self(format!("{} {} {number:04}", word(first), word(second)))
    }

    /// The phrase as it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReceiptPhrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether somebody said the expected phrase: spaces, dashes and case do not matter. Takes as long whatever its
/// letters are.
pub fn is_receipt(expected: &str, said: &str) -> bool {
    match (plain(expected), plain(said)) {
        (Some(expected), Some(said)) => expected.ct_eq(&said).into(),
        _ => false,
    }
}

/// Whether a text could be a receipt of some module: two words of the list and four digits, however they are set apart.
///
/// # Errors
/// What of that it is not.
pub(super) fn form(said: &str) -> Result<(), &'static str> {
    let plain: String = said.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let words = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    if plain.len() - words.len() != 4 {
        return Err("it does not end in four digits");
    }
    let known = |word: &str| WORDS.contains(&word);
    let splits = words.char_indices().map(|(at, _)| words.split_at(at));
    if splits.into_iter().any(|(first, second)| known(first) && known(second)) {
        Ok(())
    } else {
        Err("its words are not two of those that receipts are made of")
    }
}

/// The letters and digits alone, in lower case, with zeros after them. `None` for a text too long for a phrase.
///
/// The length of the text is public; no branch and no address depends on what stands in it.
fn plain(phrase: &str) -> Option<[u8; PHRASE_BYTES_MAX]> {
    let mut plain = [0; PHRASE_BYTES_MAX];
    if phrase.len() > PHRASE_BYTES_MAX {
        return None;
    }
    let mut len = 0_u8;
    for byte in phrase.bytes() {
        let lower = u8::conditional_select(&byte, &(byte | 0x20), is_within(byte, b'A', b'Z'));
        let kept = is_within(lower, b'a', b'z') | is_within(lower, b'0', b'9');
        for (place, to) in (0_u8..).zip(&mut plain) {
            to.conditional_assign(&lower, kept & place.ct_eq(&len));
        }
        len += kept.unwrap_u8();
    }
    Some(plain)
}

fn is_within(byte: u8, first: u8, last: u8) -> Choice {
    !(byte.ct_lt(&first) | byte.ct_gt(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_told_from_others_however_it_is_written() {
        let mut secret = [7; 16];
        let phrase = ReceiptPhrase::from_secret(&secret);
        assert_eq!(phrase.as_str().split(' ').count(), 3);
        assert!(is_receipt(phrase.as_str(), &phrase.as_str().to_uppercase().replace(' ', "-")));
        assert!(is_receipt(phrase.as_str(), &format!("  {phrase} \n")));
        secret[1] = 8;
        assert!(!is_receipt(phrase.as_str(), ReceiptPhrase::from_secret(&secret).as_str()));
        assert!(!is_receipt(phrase.as_str(), ""));
        assert!(!is_receipt(phrase.as_str(), &format!("{phrase} 1")));
        assert!(!is_receipt(phrase.as_str(), &format!("{phrase}{}", " ".repeat(64))));
        assert!(is_receipt("abc AZ 09", "ABC az-09") && !is_receipt("abc@[`{/:", "abc1"));
    }

    #[test]
    fn words_are_short_plain_and_distinct() {
        let mut words = WORDS.to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 256);
        assert!(words.iter().all(|word| (3..=7).contains(&word.len())));
        assert!(words.iter().all(|word| word.bytes().all(|letter| letter.is_ascii_lowercase())));
    }
}
