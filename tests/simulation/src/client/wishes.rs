//! Wishes of applications: whom they need, and how they end.

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    hub::RequestId,
    ids::NodeId,
    message::{Content, Subject},
    negotiation::negotiation_bytes,
    params::Time,
    sender::{HubChoice, KeyWish, RoundWish, SenderInput, serving},
};

use dske_storage::TableSide;

use super::ClientRole;
use crate::{
    checker::Invariant,
    core::Core,
    rng::Chosen,
    shared::{Shared, WishState},
};

const NOTICE_MARGIN: Duration = Duration::from_secs(1);
const STRAGGLERS: Duration = Duration::from_secs(2);

impl ClientRole {
    pub(crate) fn wish(&mut self, core: &mut Core, shared: &mut Shared, wish: usize) {
        shared.wishes[wish].state = WishState::Open(core.epoch);
        self.wishes.push((wish, core.now(shared)));
        self.advance(core, shared);
        self.execute(core, shared);
    }

    /// Takes wishes and inquiries as far as they can go.
    pub(super) fn advance(&mut self, core: &mut Core, shared: &mut Shared) {
        self.inquire(core, shared);
        self.widen(core, shared);
        for (wish, began) in std::mem::take(&mut self.wishes) {
            let now = core.now(shared);
            let wanted = shared.wishes[wish].clone();
            if now >= began + Duration::from_micros(wanted.timeout) {
                self.wish_ended(shared, wish, "wish ended: not in time");
                continue;
            }
            let receivers: Vec<NodeId> = wanted.receivers.iter().map(|&at| shared.plan.ids[at]).collect();
            let unknown: Vec<usize> = wanted
                .receivers
                .iter()
                .copied()
                .filter(|&at| !self.identities.contains_key(&shared.plan.ids[at]))
                .collect();
            if unknown.is_empty() {
                self.begin(core, shared, wish, began, receivers);
            } else {
                for at in unknown {
                    let subject = Subject::Name(shared.plan.names[at].clone());
                    self.establish(now, subject);
                }
                self.wishes.push((wish, began));
            }
        }
        self.inquire(core, shared);
    }

    pub(super) fn begin(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        wish: usize,
        began: Time,
        receivers: Vec<NodeId>,
    ) {
        let now = core.now(shared);
        let wanted = shared.wishes[wish].clone();
        let usable = self.usable(core, shared);
        let accepted = self.hubs.iter().filter(|(_, view)| !view.excluded);
        let accepted = accepted.map(|(&hub, _)| shared.plan.ids[hub]);
        let (me, served_by) = (shared.plan.ids[core.me], |receiver: &NodeId| self.identities.get(receiver));
        let reachable: BTreeSet<NodeId> = usable.iter().map(|&hub| shared.plan.ids[hub]).collect();
        let left = |node: &NodeId| {
            let tables = core.store.tables();
            let ours = tables.iter().filter(|table| table.peer == *node && table.side == TableSide::Client);
            ours.map(|table| table.lanes[0].for_keys).sum()
        };
        let hubs: Vec<HubChoice> = serving(&me, accepted, &receivers, served_by)
            .into_iter()
            .map(|node| HubChoice { node, reachable: reachable.contains(&node), left: left(&node) })
            .collect();
        let linked: BTreeSet<NodeId> = wanted
            .receivers
            .iter()
            .filter(|&&at| shared.is_up(core.me, at))
            .map(|&at| shared.plan.ids[at])
            .collect();
        let deadline = began + Duration::from_micros(wanted.timeout);
        let patience = if linked.is_empty() {
            STRAGGLERS
        } else {
            Duration::from_micros(shared.plan.deadline) + NOTICE_MARGIN
        };
        let key_wish = KeyWish {
            receivers,
            key_bytes: wanted.key_bytes,
            content: Content::Keys(1),
            keep: false,
            confirm: false,
            purpose: "simulation".to_owned(),
            k: wanted.k,
            n: wanted.n,
            hubs,
            linked,
            deadline,
            notice_deadline: (now + patience).min(deadline),
        };
        self.next += 1;
        let id = RequestId(self.next);
        self.under_way.insert(id, wish);
        let input = match key_wish.receivers.as_slice() {
            [receiver]
                if shared.plan.rounds && wanted.nonce.is_none() && !wanted.key_bytes.is_multiple_of(4) =>
            {
                let receiver = *receiver;
                self.as_round(core, shared, id, key_wish, receiver, began)
            }
            _ => SenderInput::Start { id, wish: key_wish },
        };
        let nonce = wanted.nonce.map(|nonce| *nonce.as_bytes());
        self.sender.handle(now, input, &mut Chosen { nonce, rest: &mut shared.rng.0 });
    }

    /// A wish as a round, where there is a key to negotiate it with, or for such a key.
    fn as_round(
        &mut self,
        core: &Core,
        shared: &Shared,
        id: RequestId,
        wish: KeyWish,
        receiver: NodeId,
        began: Time,
    ) -> SenderInput {
        let session = self.sender.sessions().find(|(_, other, rounds)| *other == receiver && *rounds > 0);
        if let Some((session, ..)) = session {
            let reachable = self.usable(core, shared).into_iter().map(|hub| shared.plan.ids[hub]).collect();
            let KeyWish { key_bytes, purpose, deadline, .. } = wish;
            let wish = RoundWish { session, key_bytes, keys: 1, purpose, reachable, deadline };
            return SenderInput::Round { id, wish };
        }
        self.negotiations.insert(id, began);
        let n = u8::try_from(wish.most_hubs()).unwrap_or(u8::MAX);
        let key_bytes = negotiation_bytes(n, wish.k, 3);
        let content = Content::Negotiation;
        // A receiver may wait for all hubs before it says anything.
        let notice_deadline = wish.deadline;
        SenderInput::Start {
            id,
            wish: KeyWish { key_bytes, content, confirm: true, notice_deadline, ..wish },
        }
    }

    pub(super) fn wish_ended(&mut self, shared: &mut Shared, wish: usize, how: &'static str) {
        shared.count(how);
        // Who floods keeps himself busy.
        let honest = shared.plan.kits[shared.wishes[wish].client].is_none();
        if shared.checker.bounds.calm && honest && how != "wish ended: key" {
            let text = format!("nothing was wrong, and wish {wish} came to no key: {how}");
            shared.checker.fail(Invariant::Threshold, text);
        }
        shared.note("wish", [wish as u64, 0, 0], || how.to_owned());
        shared.wishes[wish].state = WishState::Ended;
    }

    /// Hubs with which a message can be exchanged now.
    pub(super) fn usable(&self, core: &Core, shared: &Shared) -> BTreeSet<usize> {
        let open = core.store.open_peers(TableSide::Client);
        let serves = |hub: usize| open.contains(&shared.plan.ids[hub]);
        let usable = self.hubs.iter().filter(|(hub, view)| view.connected && !view.excluded && serves(**hub));
        usable.map(|(&hub, _)| hub).collect()
    }
}
