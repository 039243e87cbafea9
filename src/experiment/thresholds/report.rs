//! What was found, as a document, as a table of values and in words.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Attack, Counts, Scheme};

/// What the figures are, said with them.
const MEASURED: &str = "agreements of 256-bit keys between one sender and one receiver over the program's own state \
    machines, in memory; which hubs are bad and the order in which their messages arrive are drawn for each agreement; \
    agreed: both hold the sender's key; aborted: the receiver has none; sender_alone: of these, the sender took its key \
    unconfirmed; wrong_key: the receiver holds another; wrong_name: it takes the sender for \
    somebody else";

/// Where the paper puts the thresholds (§4.2).
const PREDICTED: &str =
    "borne by every attack: min(n - k + 1, k_B) - 1 bad hubs; nobody is deceived by fewer than k_B";

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    measured: &'static str,
    predicted: &'static str,
    runs: u32,
    seed: u64,
    /// By scheme, attack and number of bad hubs.
    pub(super) rows: Vec<Row>,
}

/// One attack with one number of bad hubs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) n: u8,
    pub(super) k: u8,
    pub(super) k_min: u8,
    pub(super) attack: Attack,
    pub(super) bad: u8,
    /// Bad hubs that any attack must be borne with.
    pub(super) borne_predicted: u8,
    pub(super) success_rate: f64,
    /// For all reasons together.
    aborted: u32,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

impl Row {
    pub(super) fn new(scheme: Scheme, attack: Attack, bad: u8, counts: Counts) -> Self {
        Self {
            n: scheme.n,
            k: scheme.k,
            k_min: scheme.k_min,
            attack,
            bad,
            borne_predicted: scheme.disruption() - 1,
            success_rate: f64::from(counts.agreed) / f64::from(counts.runs.max(1)),
            aborted: counts.aborted(),
            counts,
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        Scheme { n: self.n, k: self.k, k_min: self.k_min }
    }

    fn fits(&self) -> bool {
        (self.bad > self.borne_predicted || self.counts.agreed == self.counts.runs)
            && (self.bad >= self.k_min || self.counts.deceived() == 0)
    }
}

impl Document {
    pub(super) fn new(runs: u32, seed: u64, rows: Vec<Row>) -> Self {
        Self { measured: MEASURED, predicted: PREDICTED, runs, seed, rows }
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from(
            "n,k,k_min,attack,bad,borne_predicted,success_rate,runs,agreed,aborted,too_few_shares,none_validates,ambiguous,\
             unknown_sender,other,wrong_key,wrong_name,sender_alone\n",
        );
        for row in &self.rows {
            let Row { n, k, k_min, bad, borne_predicted, success_rate, counts, .. } = row;
            let attack = serde_json::to_value(row.attack).unwrap_or_default();
            let attack = attack.as_str().unwrap_or_default();
            let c = counts;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{n},{k},{k_min},{attack},{bad},{borne_predicted},{success_rate},{},{},{},{},{},{},{},{},{},{},{}",
                c.runs,
                c.agreed,
                row.aborted,
                c.too_few_shares,
                c.none_validates,
                c.ambiguous,
                c.unknown_sender,
                c.other,
                c.wrong_key,
                c.wrong_name,
                c.sender_alone
            );
        }
        text
    }

    /// How many bad hubs each attack was borne with, a line for each scheme.
    pub(super) fn text(&self) -> String {
        let mut schemes: Vec<Scheme> = Vec::new();
        let mut attacks: Vec<Attack> = Vec::new();
        for row in &self.rows {
            if !schemes.contains(&row.scheme()) {
                schemes.push(row.scheme());
            }
            if !attacks.contains(&row.attack) {
                attacks.push(row.attack);
            }
        }
        let mut table = Table::new();
        let head = ["ATTACK".to_owned()].into_iter();
        table.load_style(presets::NOTHING).set_header(
            head.chain(schemes.iter().map(|scheme| format!("({},{},{})", scheme.n, scheme.k, scheme.k_min))),
        );
        for attack in &attacks {
            let cells = schemes.iter().map(|scheme| self.borne(*scheme, *attack).to_string());
            table.add_row([attack.label().to_owned()].into_iter().chain(cells));
        }
        let predicted = schemes.iter().map(|scheme| (scheme.disruption() - 1).to_string());
        table.add_row(["predicted for every attack".to_owned()].into_iter().chain(predicted));
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        let unfit = self.rows.iter().filter(|row| !row.fits()).count();
        let verdict = match unfit {
            0 => "every value is as predicted".to_owned(),
            _ => format!("{unfit} values are not as predicted"),
        };
        format!(
            "bad hubs with which all of {} agreements ended with the key, by (n, k, k_B)\nmeasured {MEASURED}\n\n{}\n\n\
             {verdict}: {PREDICTED}",
            self.runs,
            table.trim_fmt(),
        )
    }

    /// The largest number of bad hubs up to which every agreement ended with the key.
    fn borne(&self, scheme: Scheme, attack: Attack) -> u8 {
        let mut rows = self.rows.iter().filter(|row| row.scheme() == scheme && row.attack == attack);
        let failed = rows.find(|row| row.counts.agreed < row.counts.runs);
        failed.map_or(scheme.n, |row| row.bad.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bad: u8, agreed: u32, wrong_key: u32) -> Row {
        let counts = Counts {
            runs: 4,
            agreed,
            wrong_key,
            too_few_shares: 4 - agreed - wrong_key,
            ..Counts::default()
        };
        Row::new(Scheme { n: 5, k: 3, k_min: 3 }, Attack::Injection, bad, counts)
    }

    #[test]
    fn what_was_borne_is_told_and_compared() {
        let good = Document::new(4, 1, vec![row(0, 4, 0), row(1, 4, 0), row(2, 4, 0), row(3, 0, 4)]);
        assert_eq!(good.borne(Scheme { n: 5, k: 3, k_min: 3 }, Attack::Injection), 2);
        assert!(good.text().contains("every value is as predicted"));
        assert_eq!(good.csv().lines().nth(4), Some("5,3,3,injection,3,2,0,4,0,0,0,0,0,0,0,4,0,0"));
        let columns = good.csv().lines().map(|line| line.split(',').count()).collect::<Vec<_>>();
        assert_eq!(columns, [18; 5]);
        for bad in [row(2, 3, 0), row(2, 3, 1)] {
            assert!(Document::new(4, 1, vec![bad]).text().contains("1 values are not as predicted"));
        }
    }
}
