//! What was measured, as a document, as a table of values and in words.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Sample;
use crate::cli::units;

/// What the figures are, said with them.
const MEASURED: &str = "time inside the sender's and the receiver's state machines, which are those of a node, on one \
    core. sender: drawing the roster, shares made and encrypted over the pads, key tag, n messages sealed under their tags. \
    receiver: n messages decoded, their tags checked, shares decrypted, the key reconstructed and validated from the k \
    that come first, the others compared with it; messages come in random order. Pads, hubs, sending and storing are not \
    in it. 1 Mbit is 1,000,000 bits of key";

/// What the paper says of its own (§5.1). It gives no table of values.
const PAPER: &str = "share processing time in the order of 1 ms/Mbit at each client at n = 9, k = 5, close to proportional \
    to k^2, with minimal dependence on n; communication, data retrieval and message cryptography omitted";

/// The paper's example (§5.1): n, k, and milliseconds per Mbit.
pub(super) const PAPER_POINT: (u8, u8, f64) = (9, 5, 1.0);

/// Everything that a run measured.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    measured: &'static str,
    paper: &'static str,
    paper_n: u8,
    paper_k: u8,
    paper_ms_per_mbit: f64,
    profile: &'static str,
    pub(super) bits: u64,
    pub(super) runs: u32,
    pub(super) points: Vec<Point>,
}

/// One n and k: milliseconds per Mbit of key.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub(super) n: u8,
    pub(super) k: u8,
    pub(super) sender_ms_per_mbit: f64,
    pub(super) sender_min_ms_per_mbit: f64,
    pub(super) sender_shares_ms_per_mbit: f64,
    pub(super) receiver_ms_per_mbit: f64,
    pub(super) receiver_min_ms_per_mbit: f64,
    pub(super) receiver_to_key_ms_per_mbit: f64,
    pub(super) receiver_reconstruction_ms_per_mbit: f64,
}

impl Point {
    /// Medians, and the least, of at least one agreement of so many bits.
    pub(super) fn of(n: u8, k: u8, bits: u64, samples: &[Sample]) -> Option<Self> {
        // Keys of one agreement are shorter than 2^32 bits.
        let mbit = f64::from(u32::try_from(bits).ok()?) / 1e6;
        let sorted = |part: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(|sample| part(sample) * 1e3 / mbit).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let median = |values: &[f64]| values.get(values.len() / 2).copied();
        let (sender, receiver) = (sorted(|s| s.sender), sorted(|s| s.receiver));
        Some(Self {
            n,
            k,
            sender_ms_per_mbit: median(&sender)?,
            sender_min_ms_per_mbit: *sender.first()?,
            sender_shares_ms_per_mbit: median(&sorted(|s| s.shares))?,
            receiver_ms_per_mbit: median(&receiver)?,
            receiver_min_ms_per_mbit: *receiver.first()?,
            receiver_to_key_ms_per_mbit: median(&sorted(|s| s.to_key))?,
            receiver_reconstruction_ms_per_mbit: median(&sorted(|s| s.reconstruction))?,
        })
    }

    /// The columns of the table, in their order.
    fn values(&self) -> [f64; 7] {
        [
            self.sender_ms_per_mbit,
            self.sender_min_ms_per_mbit,
            self.sender_shares_ms_per_mbit,
            self.receiver_ms_per_mbit,
            self.receiver_min_ms_per_mbit,
            self.receiver_to_key_ms_per_mbit,
            self.receiver_reconstruction_ms_per_mbit,
        ]
    }
}

impl Document {
    pub(super) fn new(bits: u64, runs: u32, points: Vec<Point>) -> Self {
        let (paper_n, paper_k, paper_ms_per_mbit) = PAPER_POINT;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let (measured, paper) = (MEASURED, PAPER);
        Self { measured, paper, paper_n, paper_k, paper_ms_per_mbit, profile, bits, runs, points }
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from(
            "n,k,sender_ms_per_mbit,sender_min_ms_per_mbit,sender_shares_ms_per_mbit,receiver_ms_per_mbit,\
             receiver_min_ms_per_mbit,receiver_to_key_ms_per_mbit,receiver_reconstruction_ms_per_mbit\n",
        );
        for point in &self.points {
            // Writing to a string does not fail.
            let _ = write!(text, "{},{}", point.n, point.k);
            for value in point.values() {
                let _ = write!(text, ",{value:.6}");
            }
            text.push('\n');
        }
        text
    }

    /// The value at an n and k.
    pub(super) fn at(&self, n: u8, k: u8) -> Option<&Point> {
        self.points.iter().find(|point| (point.n, point.k) == (n, k))
    }

    /// Some of the points, the paper's among them, for people.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "N",
            "K",
            "SENDER",
            "OF WHICH SHARES",
            "RECEIVER",
            "UNTIL THE KEY",
            "OF WHICH RECONSTRUCTION",
            "PAPER",
        ]);
        let (paper_n, paper_k, paper) = PAPER_POINT;
        for (n, k) in [(1, 1), (3, 2), (5, 3), (9, 5), (9, 9), (20, 5), (20, 10), (20, 20)] {
            let Some(point) = self.at(n, k) else { continue };
            let cell = |value: f64| format!("{value:.3}");
            table.add_row([
                n.to_string(),
                k.to_string(),
                cell(point.sender_ms_per_mbit),
                cell(point.sender_shares_ms_per_mbit),
                cell(point.receiver_ms_per_mbit),
                cell(point.receiver_to_key_ms_per_mbit),
                cell(point.receiver_reconstruction_ms_per_mbit),
                if (n, k) == (paper_n, paper_k) { format!("about {paper}") } else { String::new() },
            ]);
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        let debug = match self.profile {
            "debug" => "\n\nthis is not a release build: the figures say little",
            _ => "",
        };
        format!(
            "milliseconds per Mbit of key: keys of {}, medians of {} agreements, {} build\nmeasured {MEASURED}\nthe paper \
             says: {PAPER}\n\n{}{debug}",
            units::bits(self.bits),
            self.runs,
            self.profile,
            table.trim_fmt(),
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn document(n_max: u8) -> Document {
        let sample = |n: u8, k: u8| Sample {
            sender: f64::from(n) * 1e-3,
            shares: f64::from(k) * 1e-4,
            receiver: f64::from(n + k) * 1e-3,
            to_key: f64::from(k) * 1e-3,
            reconstruction: f64::from(k) * 1e-4,
        };
        let grid = (1..=n_max).flat_map(|n| (1..=n).map(move |k| (n, k)));
        let points = grid.filter_map(|(n, k)| Point::of(n, k, 8_000_000, &[sample(n, k)])).collect();
        Document::new(8_000_000, 1, points)
    }

    #[test]
    fn times_are_divided_by_millions_of_bits() {
        let document = document(9);
        let point = document.at(9, 5).unwrap();
        assert!((point.sender_ms_per_mbit - 9.0 / 8.0).abs() < 1e-9);
        assert_eq!(document.csv().lines().count(), 46);
        assert!(
            document.csv().ends_with("9,9,1.125000,1.125000,0.112500,2.250000,2.250000,1.125000,0.112500\n")
        );
        assert!(document.text().contains("about 1"));
    }

    #[test]
    fn the_median_and_the_least_are_seen_values() {
        let sample = |sender| Sample { sender, shares: 1.0, receiver: 1.0, to_key: 1.0, reconstruction: 1.0 };
        let samples: Vec<_> = [5.0, 1.0, 3.0].into_iter().map(sample).collect();
        let point = Point::of(2, 1, 1_000_000, &samples).unwrap();
        assert_eq!((point.sender_ms_per_mbit, point.sender_min_ms_per_mbit), (3000.0, 1000.0));
        assert!(Point::of(2, 1, 8, &[]).is_none());
    }
}
