//! Quotas as the operator writes them, by name or id, and as they are shown.

use std::collections::BTreeMap;

use dske_protocol::{
    ids::NodeId,
    limits::Limit,
    naming::NodeRef,
    params::Time,
    quota::{Account, DefaultQuota, Quotas, Spending, Use},
};
use dske_storage::BudgetRecord;

use crate::{config::PolicyConfig, status::QuotaStatus};

/// The quotas of the policy, for the nodes that are known: `node` says which is meant. One that is not known yet gets
/// its quota when it is.
pub(crate) fn quotas(
    policy: &PolicyConfig,
    default: DefaultQuota,
    node: impl Fn(&NodeRef) -> Option<NodeId>,
) -> Quotas {
    let node = |text: &str| meant(text, &node);
    let mut quotas = Quotas { default, identity: Some(policy.max_identity_use.0), ..Quotas::default() };
    for (text, quota) in &policy.max_peer_use {
        match text.split_once(':') {
            None => {
                if let Some(sender) = node(text) {
                    quotas.payers.insert(sender, Some(quota.0));
                }
            }
            Some((sender, receiver)) => {
                if let (Some(sender), Some(receiver)) = (node(sender), node(receiver)) {
                    quotas.pairs.insert((sender, receiver), Some(quota.0));
                }
            }
        }
    }
    quotas
}

/// What the policy of a client sets for single senders at every hub, in order of their ids; `node` as for [`quotas`].
pub(crate) fn limits(
    policy: &PolicyConfig,
    node: impl Fn(&NodeRef) -> Option<NodeId>,
) -> Vec<(NodeId, Limit)> {
    let named = policy.max_peer_use.iter();
    let named: BTreeMap<NodeId, Limit> =
        named.filter_map(|(text, quota)| Some((meant(text, &node)?, Limit::from(quota.0)))).collect();
    named.into_iter().collect()
}

/// The node that a text means, if it is known.
fn meant(text: &str, node: impl Fn(&NodeRef) -> Option<NodeId>) -> Option<NodeId> {
    text.parse().ok().and_then(|meant| node(&meant))
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
            used_bytes: spent.used,
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
    }
}
