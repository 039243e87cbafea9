//! Quotas as the operator writes them, by name or id, and as they are shown.

use dske_protocol::{
    ids::NodeId,
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
    let node = |text: &str| text.parse().ok().and_then(|meant| node(&meant));
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
