//! Limits that the operator sets for those who have pads of this client burned: told to every hub, which applies them.

use std::collections::BTreeMap;

use dske_protocol::{
    ids::NodeId,
    limits::{LIMITS_NAMED_MAX, Limit, Limits, LimitsEffect, LimitsInput},
    params::Time,
    quota::Quota,
};
use dske_storage::TableSide;

use super::{ClientActor, Names};
use crate::{
    network::{Command, Question},
    quotas::{limits, unmet},
    status::{Level, QuotaStatus},
};

impl ClientActor {
    /// What is to be in force at every hub, by what is known of names and tables now.
    pub(super) fn set_limits(&mut self, now: Time) {
        let mut named = limits(&self.policy, |meant| self.roll.first(meant));
        if named.len() > LIMITS_NAMED_MAX {
            let text =
                format!("more senders are named than the {LIMITS_NAMED_MAX} that a hub can be told of");
            self.sessions.event(Level::Warn, text);
            named.truncate(LIMITS_NAMED_MAX);
        }
        let mut lanes: BTreeMap<NodeId, u64> = BTreeMap::new();
        for table in self.store.tables().iter().filter(|table| table.side == TableSide::Client) {
            let down = table.lanes.iter().filter(|lane| !lane.allocator).map(|lane| lane.bytes);
            *lanes.entry(table.peer).or_default() += down.sum::<u64>();
        }
        let all = self.policy.max_unnamed_use.map(|text| Limit::from(text.0));
        for (hub, bytes) in lanes {
            let each = self.policy.max_peer_use_default.and_then(|text| text.0.of(bytes)).map(Limit::from);
            let limits = Limits { named: named.clone(), each, all };
            self.limits.handle(now, LimitsInput::Want { hub, limits });
        }
    }

    pub(super) fn execute_limits(&mut self) -> bool {
        let (mut pad_effects, mut busy) = (Vec::new(), false);
        while let Some(effect) = self.limits.poll_effect() {
            busy = true;
            match effect {
                LimitsEffect::Pad(effect) => pad_effects.push(effect),
                LimitsEffect::Tell { hub, bytes } => {
                    let about = Question::Limits;
                    self.sync.send(hub, bytes, |bytes| Command::Identity { hub, about, bytes });
                }
                LimitsEffect::InForce(hub) => {
                    let name = self.hubs.roll().label(&hub);
                    let none = self.limits.at(&hub).is_none_or(|(limits, _)| limits.is_empty());
                    let text = if none {
                        format!("{name} applies no limits of this node any more")
                    } else {
                        format!("the limits of this node's policy are in force at {name}")
                    };
                    self.sessions.event(Level::Info, text);
                }
            }
        }
        self.limits_pads.execute(pad_effects);
        busy
    }

    /// Whom the policy names and nobody is; what is set at each hub, and whether the hub has said that it is in force.
    pub(super) fn limits_status(&self) -> Vec<QuotaStatus> {
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        let mut status = unmet(&self.policy, |meant| self.roll.first(meant));
        for hub in self.hubs.known() {
            let Some((limits, in_force)) = self.limits.at(&hub) else { continue };
            let mut add = |who: String, quota: Option<Quota>| {
                status.extend(quota.map(|quota| QuotaStatus {
                    who: format!("{who} through {}, set there", names.of(&hub)),
                    used_bytes: None,
                    limit: quota.to_string(),
                    in_force: Some(in_force),
                }));
            };
            for (sender, limit) in &limits.named {
                add(names.of(sender), limit.quota());
            }
            add("each other sender".to_owned(), limits.each.and_then(|limit| limit.quota()));
            add("all other senders".to_owned(), limits.all.and_then(|limit| limit.quota()));
        }
        status
    }
}
