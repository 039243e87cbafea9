//! Quotas as the operator writes them, by name or id, and as they are shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use dske_protocol::{
    ids::NodeId,
    limits::Limit,
    naming::{NodeRef, NodeRefError},
    params::Time,
    quota::{Account, DefaultQuota, Quota, Quotas, Spending, Use},
};
use dske_storage::BudgetRecord;

use crate::{config::PolicyConfig, status::QuotaStatus};

/// What an entry of `policy.max_peer_use` is about. Of two that fit one sender the more exact counts, which is the later
/// in this order: an id before a name with digits of the id, more digits before fewer, a name alone last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// All that a sender may have burned.
    Sender(NodeRef),
    /// What a sender may have burned of one receiver's pads.
    Pair(NodeRef, NodeRef),
}

impl FromStr for Whose {
    type Err = NodeRefError;

    fn from_str(text: &str) -> Result<Self, NodeRefError> {
        Ok(match text.split_once(':') {
            Some((sender, receiver)) => Self::Pair(sender.parse()?, receiver.parse()?),
            None => Self::Sender(text.parse()?),
        })
    }
}

/// Whether every entry says for whom it is and none says the same as another; a client has nothing to say on pairs.
///
/// # Errors
/// The reason why not.
pub(crate) fn check(policy: &PolicyConfig, is_hub: bool) -> Result<(), String> {
    let mut named = BTreeSet::new();
    for text in policy.max_peer_use.keys() {
        let shown = text.escape_debug();
        let whose = text.parse::<Whose>().map_err(|why| format!("\"{shown}\": {why}"))?;
        if matches!(whose, Whose::Pair(..)) && !is_hub {
            return Err(format!(
                "\"{shown}\": SENDER:RECEIVER is for hubs; a client limits a sender by name, NAME/DIGITS or id alone"
            ));
        }
        if !named.insert(whose) {
            return Err(format!("\"{shown}\" names whom another entry names"));
        }
    }
    Ok(())
}

/// The entries of the policy, the most exact last.
pub(crate) fn entries(policy: &PolicyConfig) -> BTreeMap<Whose, Quota> {
    // What is none is no configuration that a node starts with.
    policy.max_peer_use.iter().filter_map(|(text, quota)| Some((text.parse().ok()?, quota.0))).collect()
}

/// The node that is meant. Whoever is meant by the whole id need not be known.
fn meant(node: &NodeRef, known: impl Fn(&NodeRef) -> Option<NodeId>) -> Option<NodeId> {
    match node {
        NodeRef::Id(node) => Some(*node),
        NodeRef::Name(_) | NodeRef::Told(..) => known(node),
    }
}

/// The quotas of the policy, for the nodes that are known: `known` says which is meant. One that is named and not known yet
/// gets its quota when it is.
pub(crate) fn quotas(
    policy: &PolicyConfig,
    default: DefaultQuota,
    known: impl Fn(&NodeRef) -> Option<NodeId>,
) -> Quotas {
    let mut quotas = Quotas { default, identity: Some(policy.max_identity_use.0), ..Quotas::default() };
    for (whose, quota) in entries(policy) {
        match whose {
            Whose::Sender(sender) => {
                if let Some(sender) = meant(&sender, &known) {
                    quotas.payers.insert(sender, Some(quota));
                }
            }
            Whose::Pair(sender, receiver) => {
                if let (Some(sender), Some(receiver)) = (meant(&sender, &known), meant(&receiver, &known)) {
                    quotas.pairs.insert((sender, receiver), Some(quota));
                }
            }
        }
    }
    quotas
}

/// What the policy of a client sets for single senders at every hub, in order of their ids; `known` as for [`quotas`].
pub(crate) fn limits(
    policy: &PolicyConfig,
    known: impl Fn(&NodeRef) -> Option<NodeId>,
) -> Vec<(NodeId, Limit)> {
    let mut named = BTreeMap::new();
    for (whose, quota) in entries(policy) {
        if let Whose::Sender(sender) = whose
            && let Some(sender) = meant(&sender, &known)
        {
            named.insert(sender, Limit::from(quota));
        }
    }
    named.into_iter().collect()
}

/// The senders that the policy names and nobody is known to be: their quotas are in force nowhere.
pub(crate) fn unmet(policy: &PolicyConfig, known: impl Fn(&NodeRef) -> Option<NodeId>) -> Vec<QuotaStatus> {
    let unmet = |(whose, quota): (Whose, Quota)| {
        let Whose::Sender(sender) = &whose else { return None };
        meant(sender, &known).is_none().then(|| QuotaStatus {
            who: format!("{sender}, not met yet"),
            used_bytes: None,
            in_force: Some(false),
            limit: quota.to_string(),
        })
    };
    entries(policy).into_iter().filter_map(unmet).collect()
}

/// What was spent before a restart, in the machines' words.
pub(crate) fn spending(record: &BudgetRecord) -> Spending {
    let BudgetRecord { account, full_at_ms, quota } = *record;
    Spending { account, full_at: Time::from_millis(full_at_ms), quota }
}

/// What is spent, for people.
pub(crate) fn shown(uses: Vec<Use>, name: impl Fn(&NodeId) -> String) -> Vec<QuotaStatus> {
    let who = |account: &Account| match account {
        Account::Pair { sender, receiver } => format!("{} to {}", name(sender), name(receiver)),
        Account::Lane { sender, hub } => format!("{} through {}", name(sender), name(hub)),
        Account::Identity { client } => format!("inquiries of {}", name(client)),
        Account::Limit { sender, receiver } => {
            format!("{} to {}, as {} has set it", name(sender), name(receiver), name(receiver))
        }
        Account::Unnamed { receiver } => format!("others to {}, as it has set it", name(receiver)),
        Account::Introduction { hub } => format!("unknown senders named by {}", name(hub)),
    };
    uses.into_iter()
        .map(|spent| QuotaStatus {
            who: who(&spent.account),
            used_bytes: Some(spent.used),
            in_force: None,
            limit: spent.quota.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use dske_protocol::{naming::Roll, quota::Quota};

    use super::*;
    use crate::config_text::Text;

    #[test]
    fn whoever_is_named_by_an_id_is_limited_at_the_hubs_as_well_as_here() {
        let node = |id: u8| NodeId::new([id; 32]);
        let mut roll = Roll::default();
        // The one who had the name first is meant by it alone, whichever id is greater.
        roll.add(node(1), "bob".parse().unwrap(), 1);
        roll.add(node(2), "bob".parse().unwrap(), 2);
        roll.add(node(3), "carol".parse().unwrap(), 3);
        let limited = |texts: &[&str]| {
            let quota = |text: &&str| ((*text).to_owned(), Text("64MiB/day".parse::<Quota>().unwrap()));
            let policy =
                PolicyConfig { max_peer_use: texts.iter().map(quota).collect(), ..PolicyConfig::default() };
            let here = quotas(&policy, DefaultQuota::None, |meant| roll.first(meant));
            let there: Vec<_> =
                limits(&policy, |meant| roll.first(meant)).into_iter().map(|(id, _)| id).collect();
            assert_eq!(here.payers.into_keys().collect::<Vec<_>>(), there, "{texts:?}");
            there
        };
        assert_eq!(limited(&["bob"]), [node(1)]);
        assert_eq!(limited(&["bob/02020202"]), [node(2)]);
        assert_eq!(limited(&["bob/01010101", "bob/02020202", "carol"]), [node(1), node(2), node(3)]);
        assert_eq!(
            limited(&["bob", "bob/01010101", &node(1).to_string()]),
            [node(1)],
            "one sender, told once"
        );
        assert_eq!(limited(&["dave", "bob:carol"]), []);
        assert_eq!(limited(&[&node(4).to_string()]), [node(4)], "an id says who it is before anybody is met");
    }

    #[test]
    fn of_two_entries_for_one_sender_the_more_exact_counts_here_and_at_the_hubs() {
        let alice = NodeId::new([0xab; 32]);
        let mut roll = Roll::default();
        roll.add(alice, "alice".parse().unwrap(), 1);
        let by_exactness = [
            "alice".to_owned(),
            "alice/abababab".to_owned(),
            "alice/ababababab".to_owned(),
            alice.to_string(),
        ];
        for more_exact in 1..by_exactness.len() {
            for less_exact in 0..more_exact {
                // Whichever is larger, and however they are sorted as text.
                for sizes in [["1KiB/day", "2KiB/day"], ["2KiB/day", "1KiB/day"]] {
                    let quotas_of = sizes.map(|size| size.parse::<Quota>().unwrap());
                    let entry = |at: usize, quota: Quota| (by_exactness[at].clone(), Text(quota));
                    let policy = PolicyConfig {
                        max_peer_use: [entry(less_exact, quotas_of[0]), entry(more_exact, quotas_of[1])]
                            .into(),
                        ..PolicyConfig::default()
                    };
                    let here = quotas(&policy, DefaultQuota::None, |meant| roll.first(meant));
                    let there = limits(&policy, |meant| roll.first(meant));
                    assert_eq!(here.payers[&alice], Some(quotas_of[1]));
                    assert_eq!(there, [(alice, Limit::from(quotas_of[1]))]);
                }
            }
        }
    }

    #[test]
    fn whoever_is_named_and_not_known_is_shown_as_such() {
        let mut roll = Roll::default();
        roll.add(NodeId::new([1; 32]), "alice".parse().unwrap(), 1);
        let id = NodeId::new([2; 32]).to_string();
        let quota = |text: &str| (text.to_owned(), Text("1KiB/day".parse::<Quota>().unwrap()));
        let policy = PolicyConfig {
            max_peer_use: ["alice", "bob", "alice/02020202", &id].map(quota).into(),
            ..PolicyConfig::default()
        };
        let shown: Vec<_> =
            unmet(&policy, |meant| roll.first(meant)).into_iter().map(|unmet| unmet.who).collect();
        assert_eq!(shown, ["bob, not met yet", "alice/02020202, not met yet"]);
    }

    #[test]
    fn an_entry_says_for_whom_it_is_and_no_two_say_the_same() {
        let id = NodeId::new([0xab; 32]).to_string();
        let checked = |texts: &[&str], is_hub: bool| {
            let quota = |text: &&str| ((*text).to_owned(), Text("1KiB/day".parse::<Quota>().unwrap()));
            let policy =
                PolicyConfig { max_peer_use: texts.iter().map(quota).collect(), ..PolicyConfig::default() };
            check(&policy, is_hub)
        };
        assert_eq!(checked(&["alice", "alice/abababab", &id, "bob"], false), Ok(()));
        assert_eq!(checked(&["alice", "alice:bob"], true), Ok(()));
        for (texts, is_hub, reason) in [
            (&["alice/abab"][..], false, "at least 8 digits"),
            (&["Alice"], true, "a name such as p1"),
            (&["alice:bob:carol"], true, "a name such as p1"),
            (&["alice:bob"], false, "SENDER:RECEIVER is for hubs"),
            (&[&id, &id.to_uppercase()], false, "names whom another entry names"),
            (&["al\u{1b}ice"], false, "al\\u{1b}ice"),
        ] {
            let why = checked(texts, is_hub).expect_err(reason);
            assert!(why.contains(reason), "{why}");
        }
    }

    /// For whoever is meant, the same quota is in force here and is told to hubs, whatever is written and whoever is known.
    #[test]
    fn the_same_quota_is_told_to_hubs_that_is_in_force_here() {
        let node = |first: u8, last: u8| {
            let mut id = [0; 32];
            (id[0], id[31]) = (first, last);
            NodeId::new(id)
        };
        let ids = [node(1, 1), node(1, 2), node(2, 1), node(0xab, 1), node(0xff, 0xff)];
        let texts: Vec<String> = [
            "bob",
            "carol",
            "bob/01000000",
            "bob/02000000",
            "carol/ab000000",
            "bob:carol",
            "ab000000",
            "BOB",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain(ids.iter().map(NodeId::to_string))
        .chain(ids.iter().map(|id| id.to_string().to_uppercase()))
        .chain([format!("bob/{}", ids[1])])
        .collect();
        let names = ["bob", "carol", "ab000000"];
        let mut seed = 1u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % below
        };
        let mut seen = 0;
        for _ in 0..20_000 {
            let mut roll = Roll::default();
            for id in ids {
                if next(4) > 0 {
                    roll.add(id, names[next(3)].parse().unwrap(), next(3) as u64);
                }
                if next(4) == 0 {
                    roll.rename(id, names[next(3)].parse().unwrap(), next(9) as u64);
                }
            }
            let mut policy = PolicyConfig::default();
            for text in &texts {
                if next(4) == 0 {
                    let quota = Text(format!("{}KiB/day", 1 + next(9)).parse::<Quota>().unwrap());
                    policy.max_peer_use.insert(text.clone(), quota);
                }
            }
            let here = quotas(&policy, DefaultQuota::None, |meant| roll.first(meant));
            let there = limits(&policy, |meant| roll.first(meant));
            assert!(there.is_sorted_by(|a, b| a.0 < b.0), "ids rise");
            let here: Vec<_> =
                here.payers.into_iter().map(|(id, quota)| (id, Limit::from(quota.unwrap()))).collect();
            assert_eq!(here, there, "{:?}", policy.max_peer_use.keys());
            seen += there.len();
        }
        assert!(seen > 20_000, "{seen}");
    }
}
