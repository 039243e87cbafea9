//! Quotas and limits, counted anew: what honest hubs let somebody burn, and whom they may refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    ids::{Lane, NodeId},
    limits::{Limits, LimitsRecord},
    message::{Agreement, KeyInstruction, KeyRequest},
    quota::{DefaultQuota, Quota},
    refusal::Refusal,
};

use super::{
    Checker, Invariant, Moment,
    lanes::{Given, body},
};

/// Parts of a quota that are recorded ahead: one of them may be lost to a start.
const PARTS: u64 = 16;

/// What hubs and receivers have set, and what was burned since.
#[derive(Default)]
pub(crate) struct Accounts {
    /// Of all hubs.
    pub(crate) default: DefaultQuota,
    /// By hub and receiver: limits in the order in which they came into force.
    rules: BTreeMap<(usize, NodeId), Vec<Rule>>,
    /// By hub and receiver.
    burns: BTreeMap<(usize, NodeId), Vec<Burn>>,
    /// By hub.
    starts: BTreeMap<usize, Vec<Moment>>,
    /// Honest hubs that refused a sender a key for these receivers.
    refused: BTreeMap<(NodeId, BTreeSet<NodeId>), BTreeSet<NodeId>>,
}

struct Rule {
    from: Moment,
    limits: Limits,
}

/// Pad of a receiver that went for a sender's key.
struct Burn {
    /// When the sender's request came.
    asked: Moment,
    sender: NodeId,
    bytes: u64,
}

impl Checker {
    /// A hub starts with what it has on record: also limits that were durable, and not acknowledged, when its process ended.
    pub(crate) fn takes_up_quotas(&mut self, hub: usize, limits: Vec<LimitsRecord>) {
        self.quotas.starts.entry(hub).or_default().push(self.moment);
        for record in limits {
            let known = self.facts[hub].limits.get(&record.receiver);
            if known.is_none_or(|(version, _)| *version < record.version) {
                self.limits_recorded(hub, record);
            }
        }
    }

    /// A receiver's limits are on record at a hub.
    pub(crate) fn limits_recorded(&mut self, hub: usize, record: LimitsRecord) {
        let LimitsRecord { receiver, version, limits, .. } = record;
        let before = self.facts[hub].limits.insert(receiver, (version, limits.clone()));
        if before.is_some_and(|(before, _)| before >= version) {
            let text =
                format!("hub {hub} put limits {version} of {} in the place of later ones", receiver.short());
            self.fail(Invariant::Quotas, text);
        }
        self.quotas.rules.entry((hub, receiver)).or_default().push(Rule { from: self.moment, limits });
    }

    /// An honest hub burns a receiver's pad for an instruction: no more than somebody lets it.
    pub(crate) fn burns(&mut self, hub: usize, sealed: &[u8]) {
        let Some(KeyInstruction { range, agreement, .. }) = body(sealed) else { return };
        if self.bad_hubs.contains(&self.ids[hub]) || self.was_put_back[hub] || self.facts[hub].partly_old {
            return;
        }
        let Some(client) = self.lanes.table(&range.table).map(|truth| truth.client) else { return };
        let (sender, receiver) = (agreement.sender, self.ids[client]);
        let given = self.blocks.given.get(&(hub, agreement.block())).and_then(|given| given.first());
        let Some(asked) = given.map(|given| given.arrived) else { return };
        let burns = self.quotas.burns.entry((hub, receiver)).or_default();
        burns.push(Burn { asked, sender, bytes: range.len });
        let rule = self.quotas.rules.get(&(hub, receiver)).and_then(|rules| rules.last());
        let (since, nothing) = (rule.map(|rule| rule.from).unwrap_or_default(), Limits::default());
        let limits = rule.map_or(&nothing, |rule| &rule.limits);
        let of_sender = |burn: &Burn| burn.sender == sender;
        let unnamed = |burn: &Burn| !limits.names(&burn.sender);
        let own = limits.of(&sender).or_else(|| self.quotas.default.of(self.lanes.down_bytes(hub, client)));
        let all = limits.all.filter(|_| !limits.names(&sender)).and_then(|limit| limit.quota());
        let elapsed = self.moment.at - since.at;
        let sum = |counts: &dyn Fn(&Burn) -> bool| {
            let after = burns.iter().filter(|burn| burn.asked > since && counts(burn));
            after.map(|burn| burn.bytes).sum::<u64>()
        };
        let accounts = [(own, sum(&of_sender)), (all, sum(&unnamed))];
        let over = accounts.into_iter().find_map(|(quota, burned)| {
            let quota = quota?;
            (burned > allowed(&quota, elapsed)).then_some((quota, burned))
        });
        if let Some((quota, burned)) = over {
            let text = format!(
                "hub {hub} let {} burn {burned} bytes of node {client} in {elapsed} µs, of {quota}",
                sender.short()
            );
            self.fail(Invariant::Quotas, text);
        }
    }

    /// An honest hub refuses a sender for a quota: it must have asked for more than that by itself.
    pub(crate) fn refused_by_quota(&mut self, hub: usize, from: usize, sealed: &[u8]) {
        let Some(KeyRequest { agreement, .. }) = body(sealed) else { return };
        let (id, sender) = (self.ids[hub], self.ids[from]);
        let receivers: BTreeSet<NodeId> = agreement.receivers.iter().copied().collect();
        self.quotas.refused.entry((sender, receivers)).or_default().insert(id);
        if let Some(block) = self.blocks.blocks.get_mut(&agreement.block()) {
            block.refused.insert(id);
        }
        self.count("refused for a quota");
        if !self.was_put_back[hub]
            && !agreement.receivers.iter().any(|to| self.may_refuse(hub, &agreement, to))
        {
            let text = format!("hub {hub} refused node {from}, which has kept to its quotas");
            self.fail(Invariant::Quotas, text);
        }
    }

    /// Whether what a sender has asked for, with this, is more than a quota.
    fn may_refuse(&self, hub: usize, agreement: &Agreement, receiver: &NodeId) -> bool {
        let Some(client) = self.ids.iter().position(|id| id == receiver) else { return false };
        let sender = agreement.sender;
        let first = self.blocks.given.get(&(hub, agreement.block())).and_then(|given| given.first());
        let arrived = first.map(|given| given.arrived).unwrap_or_default();
        let nothing = Limits::default();
        let rules = self.quotas.rules.get(&(hub, *receiver)).map_or(&[][..], Vec::as_slice);
        let before = rules.iter().rposition(|rule| rule.from <= arrived);
        let later = rules[before.unwrap_or(0)..].iter().map(|rule| &rule.limits);
        let in_force = later.chain(before.is_none().then_some(&nothing));
        let set = rules.iter().flat_map(|rule| {
            let Limits { named, each, all } = &rule.limits;
            named.iter().map(|(_, limit)| limit).chain(each).chain(all).map(|limit| limit.bytes)
        });
        let largest = set.max().unwrap_or(0);
        let asked = |within: Duration, counts: &dyn Fn(&Given) -> bool| {
            // What was spent under another quota stays spent.
            let whole = rules.len() > 1 || within.as_micros() > u128::from(self.moment.at);
            let since = if whole { 0 } else { self.moment.at - within.as_micros() as u64 };
            let given = self.blocks.given.range((hub, dske_protocol::ids::BlockId::new([0; 16]))..);
            let given = given.take_while(|((at, _), _)| *at == hub).flat_map(|(_, given)| given);
            let for_receiver = given.filter(|given| {
                given.answered.is_none_or(|answered| answered.at >= since)
                    && given.request.agreement.receivers.contains(receiver)
                    && counts(given)
            });
            for_receiver.map(|given| given.request.agreement.burned_bytes(Lane::Down)).sum::<u64>()
        };
        let is_met = |quota: Quota, counts: &dyn Fn(&Given) -> bool| {
            let starts = self.quotas.starts.get(&hub).map_or(&[][..], Vec::as_slice);
            // The first one finds nothing on record.
            let recent = starts
                .iter()
                .skip(1)
                .filter(|start| u128::from(self.moment.at - start.at) <= quota.per().as_micros());
            // Each may cost a part of the quota under which was recorded what it finds.
            let part = largest.max(quota.bytes()) / PARTS + 1;
            asked(quota.per(), counts) + recent.count() as u64 * part > quota.bytes()
        };
        in_force.into_iter().any(|limits| {
            let own =
                limits.of(&sender).or_else(|| self.quotas.default.of(self.lanes.down_bytes(hub, client)));
            let all = limits.all.filter(|_| !limits.names(&sender)).and_then(|limit| limit.quota());
            own.is_some_and(|quota| is_met(quota, &|given| given.request.agreement.sender == sender))
                || all.is_some_and(|quota| is_met(quota, &|given| was_unnamed(rules, given)))
        })
    }

    /// A sender does not try for a while, for what so many hubs have refused.
    pub(crate) fn rests(
        &mut self,
        sender: usize,
        receivers: BTreeSet<NodeId>,
        refusals: &[(NodeId, Refusal)],
    ) {
        self.count("rests of senders");
        let truly = self.quotas.refused.get(&(self.ids[sender], receivers));
        let truly = refusals.iter().filter(|(hub, _)| truly.is_some_and(|truly| truly.contains(hub))).count();
        if self.bounds.safe && truly == 0 {
            let text = format!("node {sender} rests, and no honest hub has refused it: {refusals:?}");
            self.fail(Invariant::Quotas, text);
        }
    }
}

/// Whether a request may have gone to the account of all senders that the receiver does not name: limits for these were in
/// force, and did not name its sender, while the hub had it. Whoever is named since has spent it all the same.
fn was_unnamed(rules: &[Rule], given: &Given) -> bool {
    let first = rules.iter().rposition(|rule| rule.from <= given.arrived).unwrap_or(0);
    let in_force =
        rules[first..].iter().take_while(|rule| given.answered.is_none_or(|answered| rule.from <= answered));
    in_force
        .map(|rule| &rule.limits)
        .any(|limits| limits.all.is_some() && !limits.names(&given.request.agreement.sender))
}

/// The most that a quota lets anybody burn in so many microseconds.
fn allowed(quota: &Quota, elapsed: u64) -> u64 {
    let back = u128::from(quota.bytes()) * u128::from(elapsed) / quota.per().as_micros();
    quota.bytes().saturating_add(u64::try_from(back).unwrap_or(u64::MAX))
}
