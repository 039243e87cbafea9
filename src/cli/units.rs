//! Sizes, bit counts and durations, as people write and read them.
//!
//! Sizes of pads are binary (`64MiB`), lengths of keys decimal (`1Mbit` is 1,000,000 bits, as in the paper).

use std::time::Duration;

/// Bytes from `4096`, `64KiB`, `16MiB`, `1.5GiB`, `1GB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let scale = |unit: &str| {
        Some(match unit {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return None,
        })
    };
    match scaled(text, "KiB, MiB, GiB, TiB", scale)? {
        0 => Err("a size is at least 1 byte".into()),
        bytes => Ok(bytes),
    }
}

/// Bits from `256`, `1kbit`, `8Mbit`, `1Mibit`; a multiple of 8.
pub(crate) fn parse_bits(text: &str) -> Result<u64, String> {
    let scale = |unit: &str| {
        Some(match unit {
            "" | "bit" | "bits" => 1,
            "k" | "kbit" => 1_000,
            "m" | "mbit" => 1_000_000,
            "kibit" => 1 << 10,
            "mibit" => 1 << 20,
            _ => return None,
        })
    };
    match scaled(text, "bit, kbit, Mbit, Kibit, Mibit", scale)? {
        bits if bits == 0 || bits % 8 != 0 => {
            Err("a key has a positive number of bits, a multiple of 8".into())
        }
        bits => Ok(bits),
    }
}

/// A time from `10` (seconds), `250ms`, `10s`, `1.5m`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let scale = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        })
    };
    match scaled(text, "ms, s, m, h", scale)? {
        0 => Err("a time is at least 1ms".into()),
        millis => Ok(Duration::from_millis(millis)),
    }
}

/// `16 MiB`, `1.5 GiB`, `96 B`: three significant digits at most.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut whole = bytes;
    while whole >= 1024 && unit + 1 < units.len() {
        whole >>= 10;
        unit += 1;
    }
    let unit_bytes = 1_u64 << (10 * unit);
    let tenths = (bytes % unit_bytes).saturating_mul(10) / unit_bytes;
    let name = units.get(unit).copied().unwrap_or_default();
    if tenths == 0 || whole >= 100 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

/// `256 bit`, `1 Mbit`, `8.4 Mbit`.
pub(crate) fn bits(bits: u64) -> String {
    let (scale, name) = match bits {
        1_000_000.. => (1_000_000, "Mbit"),
        10_000.. => (1_000, "kbit"),
        _ => (1, "bit"),
    };
    let (whole, tenths) = (bits / scale, bits % scale * 10 / scale);
    if tenths == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

/// `840 µs`, `4.1 ms`, `41 ms`, `1.9 s`, and from a minute on as [`dske_node::span`] says it: `3 min 20 s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
        _ => dske_node::span(Duration::from_micros(us)),
    }
}

/// A duration as [`micros`] shows it.
pub(crate) fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Milliseconds of a duration, for requests that carry them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Digits with at most one fraction point, then a unit. Exact: no floating point.
fn scaled(text: &str, known: &str, scale: impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    let factor = scale(&unit.to_ascii_lowercase())
        .ok_or_else(|| format!("unknown unit '{unit}': say a number with one of {known}, or none"))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let too_large = || "the number is too large".to_owned();
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 6 {
        return Err("expected a number, such as 64 or 1.5".into());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let mut value = whole.checked_mul(factor).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().map_err(|_| too_large())?;
        let power = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(6));
        let part = digits.checked_mul(factor).ok_or_else(too_large)?;
        if part % power != 0 {
            return Err(format!("'{text}' is not a whole number of the smallest unit"));
        }
        value = value.checked_add(part / power).ok_or_else(too_large)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("64 mib"), Ok(64 << 20));
        assert_eq!(parse_size("16M"), Ok(16 << 20));
        assert_eq!(parse_size("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_size("1.5KiB"), Ok(1536));
        for bad in
            ["", "0", "MiB", "-1", "1.2.3", "1.3B", "64XiB", "99999999TiB", "1e9", "9999999999999999999999"]
        {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bits_are_multiples_of_eight() {
        assert_eq!(parse_bits("256"), Ok(256));
        assert_eq!(parse_bits("1Mbit"), Ok(1_000_000));
        let told = parse_bits("1e9").unwrap_err();
        assert!(told.contains("kbit") && told.contains("Mbit") && told.contains("e9"), "{told}");
        assert!(
            parse_size("1e9").unwrap_err().contains("MiB")
                && parse_duration("1d").unwrap_err().contains("ms")
        );
        assert_eq!(parse_bits("8Mibit"), Ok(8 << 20));
        for bad in ["0", "255", "1.0001kbit", "8 apples", ""] {
            assert!(parse_bits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("0").is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn figures_are_shown_short() {
        assert_eq!(size(96), "96 B");
        assert_eq!(size(1024), "1 KiB");
        assert_eq!(size((16 << 20) + (1 << 19)), "16.5 MiB");
        assert_eq!(size(731 << 20), "731 MiB");
        assert_eq!(size(u64::MAX), "16383 PiB");
        assert_eq!(bits(256), "256 bit");
        assert_eq!(bits(1_000_000), "1 Mbit");
        assert_eq!(bits(8_388_608), "8.3 Mbit");
        assert_eq!(micros(840), "840 µs");
        assert_eq!(micros(4_190), "4.1 ms");
        assert_eq!(micros(41_000), "41 ms");
        assert_eq!(micros(1_960_000), "1.9 s");
        assert_eq!(micros(200_000_000), "3 min 20 s");
        assert_eq!(micros(140_400_000_000), "1 d 15 h", "as `status --check`, doctor and events say it");
    }
}
