//! How long something lasts, in words: the one way in which all commands, events and verdicts say it.

use std::time::Duration;

/// `12 s`, `3 min 20 s`, `6 h 8 min`, `1 d 15 h`: the two largest units, rounded down.
pub fn span(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        let told = [0, 59, 60, 200, 3_599, 3_600, 22_080, 86_399, 86_400, 140_400];
        let told = told.map(|seconds| span(Duration::from_secs(seconds)));
        let expected = [
            "0 s",
            "59 s",
            "1 min 0 s",
            "3 min 20 s",
            "59 min 59 s",
            "1 h 0 min",
            "6 h 8 min",
            "23 h 59 min",
            "1 d 0 h",
            "1 d 15 h",
        ];
        assert_eq!(told, expected);
    }
}
