//! Values of the configuration that are written with a unit: "1GiB", "7d", "1GiB/day".

use std::{fmt, str::FromStr, time::Duration};

use dske_protocol::quota::Quota;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value that stands in the file as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

/// So many bytes in so long a time, such as "1GiB/day".
pub type QuotaText = Text<Quota>;

/// A length of time, such as "7d", "24h", "90s".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes, such as "64MiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a length of time.
    #[error("give a length of time such as \"7d\", \"24h\", \"15m\" or \"90s\"")]
    Span,
    /// Not a number of bytes.
    #[error("give a number of bytes such as \"64MiB\" or \"1GiB\"")]
    Size,
}

const SPANS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The number before a unit, times what the unit stands for.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The largest unit that leaves no remainder.
fn written(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |(_, scale): &&(&str, u64)| value > 0 && value.is_multiple_of(*scale);
    let smallest = units.len().saturating_sub(1);
    let (name, scale) = units.iter().find(fits).unwrap_or(&units[smallest]);
    write!(f, "{}{name}", value / scale)
}

impl FromStr for Span {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        scaled(text.trim(), &SPANS).map(Duration::from_secs).map(Self).ok_or(TextError::Span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0.as_secs(), &SPANS)
    }
}

impl FromStr for Size {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        scaled(text.trim(), &SIZES).map(Self).ok_or(TextError::Size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0, &SIZES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["7d", "24h", "90s", "15m"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert_eq!("48h".parse::<Span>().unwrap().to_string(), "2d");
        for text in ["1GiB", "1536MiB", "7B", "0B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for bad in ["", "d", "1", "1w", "-1d", "1.5h", "99999999999999999999s"] {
            assert_eq!(bad.parse::<Span>(), Err(TextError::Span), "{bad}");
        }
        assert_eq!("1GB".parse::<Size>(), Err(TextError::Size));
    }
}
