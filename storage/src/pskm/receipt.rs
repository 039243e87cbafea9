//! The phrase by which a client tells the hub, over a channel that both trust, that the module arrived
//! whole (§2.1). It comes from a secret in the sealed manifest, so only who opened the module can say it.

use std::fmt;

use subtle::ConstantTimeEq;

use super::words::WORDS;

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

/// Whether somebody said the phrase: spaces, dashes and case do not matter.
pub(super) fn matches(expected: &str, said: &str) -> bool {
    plain(expected).as_bytes().ct_eq(plain(said).as_bytes()).into()
}

fn plain(phrase: &str) -> String {
    phrase.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_told_from_others_however_it_is_written() {
        let mut secret = [7; 16];
        let phrase = ReceiptPhrase::from_secret(&secret);
        assert_eq!(phrase.as_str().split(' ').count(), 3);
        assert!(matches(phrase.as_str(), &phrase.as_str().to_uppercase().replace(' ', "-")));
        assert!(matches(phrase.as_str(), &format!("  {phrase} \n")));
        secret[1] = 8;
        assert!(!matches(phrase.as_str(), ReceiptPhrase::from_secret(&secret).as_str()));
        assert!(!matches(phrase.as_str(), ""));
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
