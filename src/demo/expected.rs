//! What must be true of a key that was agreed: the same on all sides, paid for exactly, and the right hub named.

use std::collections::BTreeMap;

use dske_protocol::ids::Name;

use crate::{
    cli::output::printable,
    demo::{agree::Agreed, report::Outcome},
};

/// What must be true of a key.
pub(super) enum Expected {
    /// Every hub took part, nobody lied, and exactly m + l + R·(l + 64) bits were burned at each.
    AllHubs,
    /// This hub lied and was named.
    Liar(Name),
}

impl Expected {
    /// Judges a key by what it must cost, what each hub's table lost for it, and how many hubs there are.
    pub(super) fn judge(&self, agreed: &Agreed, cost: u64, spent: &BTreeMap<Name, u64>, hubs: u8) -> Outcome {
        let Agreed { n, shares, .. } = *agreed;
        let same = if agreed.equal { "same key on all sides" } else { "the sides differ" };
        // A hub that is down costs nothing where the sender knew it in time.
        let least = if matches!(self, Self::AllHubs) { n } else { n - 1 };
        let exact = agreed.burned_bytes == cost
            && spent.len() >= usize::from(least)
            && spent.values().all(|bytes| *bytes == cost);
        if !exact {
            let spent: Vec<String> = spent.iter().map(|(hub, bytes)| format!("{hub} {bytes} B")).collect();
            let wrong =
                format!("{same}, but the pad burned is not {cost} B at each hub: {}", spent.join(", "));
            return Outcome::of(false, wrong);
        }
        match self {
            Self::AllHubs => {
                let ok = agreed.equal && agreed.liars.is_empty() && n == hubs;
                Outcome::of(ok, format!("{same}, shares {shares}/{n}{}", accused(&agreed.liars)))
            }
            Self::Liar(liar) => {
                let ok = agreed.equal && agreed.liars == [liar.as_str()];
                let named = if agreed.liars.is_empty() {
                    "; the liar was not found".into()
                } else {
                    accused(&agreed.liars)
                };
                Outcome::of(ok, format!("{same}, shares {shares}/{n}{named}"))
            }
        }
    }
}

/// What each hub's table lost between two looks.
pub(super) fn spent(before: &BTreeMap<Name, u64>, after: &BTreeMap<Name, u64>) -> BTreeMap<Name, u64> {
    let lost = |(hub, bytes): (&Name, &u64)| {
        let lost = bytes.saturating_sub(before.get(hub).copied().unwrap_or(0));
        (lost > 0).then(|| (hub.clone(), lost))
    };
    after.iter().filter_map(lost).collect()
}

fn accused(liars: &[String]) -> String {
    let names: Vec<String> = liars.iter().map(|liar| printable(liar)).collect();
    if names.is_empty() { String::new() } else { format!("; false share from {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dske_protocol::ids::BlockId;

    use super::*;

    fn hub(place: u8) -> Name {
        format!("p{place}").parse().expect("a name")
    }

    fn agreed(liars: &[&str]) -> Agreed {
        Agreed {
            block: BlockId::new([7; 16]),
            equal: true,
            n: 4,
            shares: 4,
            liars: liars.iter().map(ToString::to_string).collect(),
            burned_bytes: 104,
            sender_took: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    fn ledger(bytes: [u64; 4]) -> BTreeMap<Name, u64> {
        (1..=4).map(hub).zip(bytes).collect()
    }

    #[test]
    fn a_key_is_judged_by_what_was_burned_and_who_lied() {
        let liar = Expected::Liar(hub(4));
        let even = ledger([104; 4]);
        assert!(liar.judge(&agreed(&["p4"]), 104, &even, 5).ok);
        assert!(!liar.judge(&agreed(&[]), 104, &even, 5).ok);
        assert!(!liar.judge(&agreed(&["p3"]), 104, &even, 5).ok);
        assert!(!liar.judge(&agreed(&["p4"]), 104, &ledger([104, 104, 104, 208]), 5).ok);
        assert!(Expected::AllHubs.judge(&agreed(&[]), 104, &even, 4).ok);
        assert!(!Expected::AllHubs.judge(&agreed(&[]), 104, &even, 5).ok);
        assert!(!Expected::AllHubs.judge(&agreed(&["p1"]), 104, &even, 4).ok);
        assert!(!Expected::AllHubs.judge(&Agreed { equal: false, ..agreed(&[]) }, 104, &even, 4).ok);
    }

    #[test]
    fn only_tables_that_lost_something_count() {
        let lost = spent(&ledger([10, 10, 10, 10]), &ledger([114, 10, 114, 10]));
        assert_eq!(
            lost.into_iter().map(|(hub, bytes)| (hub.to_string(), bytes)).collect::<Vec<_>>(),
            [("p1".to_owned(), 104), ("p3".to_owned(), 104)]
        );
    }
}
