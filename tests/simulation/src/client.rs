//! A simulated client's process: sender, receiver and identity desk, its hubs, and the wishes of its
//! applications. What it decides is what the node's client decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    effect::EstablishedIdentity,
    hub::RequestId,
    identity::{IdentityDesk, IdentityEffect, IdentityFailure, IdentityInput},
    ids::{KeyId, NodeId, TableId},
    message::{Identity, KeyInstruction, Notice, NoticeOutcome, Subject, claimed_range},
    params::{AcceptancePolicy, LATE_SHARES, Time},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::{AbortReason, Refusal, SendFailure},
    sender::{AgreedKey, HubChoice, KeyWish, Sender, SenderEffect, SenderInput},
    sync::ClientEnd,
};
use dske_storage::{BlockState, IdentityRecord, TableSide, TakeError};

use crate::{
    checker::{Ended, Invariant, body},
    core::{About, Core, Done, Exchange, Machine},
    hub::refusal_name,
    lies::{self, Lie},
    packet::{Packet, Wire},
    shared::{Event, MILLI, Micros, SECOND, Shared, WishState},
    sync::{Held, News, Sync},
};

/// Between two looks at wishes and inquiries.
const HOUSEKEEPING: Micros = 100 * MILLI;
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);
const INQUIRY_PATIENCE: Duration = Duration::from_millis(600);
const INQUIRY_PATIENCE_MAX: Duration = Duration::from_secs(4);
/// Before a hub that made no claim about somebody is asked again.
const WIDEN_PAUSE: Duration = Duration::from_secs(10);
const NOTICE_MARGIN: Duration = Duration::from_secs(1);
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Between two questions for active tables while one of ours is not among them.
const HELLO_PAUSE: Micros = SECOND;

/// Between two tries to compare marks, at first and at last.
const SYNC_PAUSE_MIN: Micros = 250 * MILLI;
const SYNC_PAUSE_MAX: Micros = 60 * SECOND;

/// See the head of the file.
pub(crate) struct ClientRole {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) desk: IdentityDesk,
    sync: Sync<ClientEnd>,
    hubs: BTreeMap<usize, HubView>,
    identities: BTreeMap<NodeId, BTreeSet<NodeId>>,
    inquiries: Vec<(Subject, Time)>,
    asked: BTreeMap<(NodeId, NodeId), Time>,
    wishes: Vec<(usize, Time)>,
    under_way: BTreeMap<RequestId, usize>,
    served: BTreeMap<u64, Served>,
    next: u64,
    look_at: Option<Micros>,
    started: Duration,
}

struct HubView {
    connected: bool,
    excluded: bool,
    /// When it was, for the checks.
    excluded_at: Option<Micros>,
    active: BTreeSet<TableId>,
    hello_at: Option<Micros>,
    /// No comparison of marks before this.
    sync_due: Micros,
    sync_pause: Micros,
}

impl Default for HubView {
    fn default() -> Self {
        Self {
            connected: false,
            excluded: false,
            excluded_at: None,
            active: BTreeSet::new(),
            hello_at: None,
            sync_due: 0,
            sync_pause: SYNC_PAUSE_MIN,
        }
    }
}

struct Served {
    from: usize,
    wire: Wire,
    bytes: Vec<u8>,
    arrived: Micros,
}

impl ClientRole {
    /// A client as it starts: what its store holds, and no more.
    pub(crate) fn start(core: &Core, shared: &mut Shared) -> Self {
        let plan = &shared.plan;
        let mut hubs: BTreeMap<usize, HubView> = BTreeMap::new();
        for record in core.store.hubs().unwrap_or_default() {
            if let Some(hub) = plan.index(&record.node) {
                hubs.insert(hub, HubView::default());
            }
        }
        for exclusion in core.store.exclusions().unwrap_or_default() {
            if let Some(view) = plan.index(&exclusion.hub).and_then(|hub| hubs.get_mut(&hub)) {
                view.excluded = true;
                view.excluded_at = Some(0);
            }
        }
        let identities: BTreeMap<NodeId, BTreeSet<NodeId>> = core
            .store
            .identities()
            .unwrap_or_default()
            .into_iter()
            .map(|record| (record.node, record.known_as.into_iter().map(|(hub, _)| hub).collect()))
            .collect();
        let accepted = hubs.iter().filter(|(_, view)| !view.excluded).map(|(&hub, _)| plan.ids[hub]);
        let policy = AcceptancePolicy {
            k_min: plan.k_min,
            hubs: accepted.collect(),
            key_bytes_max: plan.key_bytes_max,
            deadline: Duration::from_micros(plan.deadline),
        };
        let me = plan.ids[core.me];
        Self {
            sender: Sender::new(me),
            receiver: Receiver::new(me, policy, identities.keys().copied()),
            desk: IdentityDesk::new(plan.k_min),
            sync: Sync::new(),
            hubs,
            identities,
            inquiries: Vec::new(),
            asked: BTreeMap::new(),
            wishes: Vec::new(),
            under_way: BTreeMap::new(),
            served: BTreeMap::new(),
            next: 0,
            look_at: None,
            started: core.now(shared),
        }
    }

    /// What is still under way, in words.
    pub(crate) fn under_way(&self) -> Option<String> {
        let counts = [
            ("agreements sent", self.sender.under_way()),
            ("shares collected", self.receiver.under_way()),
            ("inquiries", self.desk.under_way() + self.inquiries.len()),
            ("wishes", self.wishes.len() + self.under_way.len()),
            ("answers owed", self.served.len()),
            ("marks", self.sync.under_way()),
        ];
        let left: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if left.is_empty() { None } else { Some(left.join(", ")) }
    }

    // -- input

    pub(crate) fn packet(&mut self, core: &mut Core, shared: &mut Shared, from: usize, packet: Packet) {
        let now = core.now(shared);
        let peer = shared.plan.ids[from];
        let Some(packet) = self.sync.packet(core, shared, from, packet) else {
            return self.execute(core, shared);
        };
        match packet {
            Packet::Instruction(wire, bytes) => {
                self.next += 1;
                let served = Served { from, wire, bytes: bytes.clone(), arrived: shared.now };
                self.served.insert(self.next, served);
                let id = RequestId(self.next);
                self.receiver.handle(now, ReceiverInput::KeyInstruction { id, from: peer, bytes });
            }
            Packet::Notice(notice) => {
                let input = SenderInput::Notice { from: peer, notice };
                self.sender.handle(now, input, &mut shared.rng.0);
            }
            Packet::KeyAnswer(wire, result) => {
                self.answered(core, shared, from, wire, Some(Answer::Key(result)));
            }
            Packet::IdentityAnswer(wire, result) => {
                self.answered(core, shared, from, wire, Some(Answer::Identity(result.ok())));
            }
            Packet::HelloAnswer(wire, active) => {
                self.answered(core, shared, from, wire, Some(Answer::Hello(active)));
            }
            _ => {}
        }
        self.execute(core, shared);
    }

    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        from: usize,
        wire: Wire,
        answer: Option<Answer>,
    ) {
        let Some(&Exchange { to, about }) = core.exchanges.get(&wire) else { return };
        if to != from {
            return;
        }
        let (now, hub) = (core.now(shared), shared.plan.ids[to]);
        match (about, answer) {
            (About::Key(block), answer @ (None | Some(Answer::Key(_)))) => {
                let answer = match answer {
                    Some(Answer::Key(result)) => Some(result),
                    _ => None,
                };
                let input = SenderInput::HubAnswer { block, hub, answer };
                self.sender.handle(now, input, &mut shared.rng.0);
            }
            (About::Identity(inquiry), answer @ (None | Some(Answer::Identity(_)))) => {
                let bytes = match answer {
                    Some(Answer::Identity(bytes)) => bytes,
                    _ => None,
                };
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes });
            }
            (About::Hello, answer @ (None | Some(Answer::Hello(_)))) => {
                self.hello_answered(core, shared, to, answer);
            }
            (about @ (About::SyncHello(_) | About::Mark(_)), None) => {
                self.sync.unanswered(core, shared, to, about);
            }
            // Not the answer to what was asked.
            _ => return,
        }
        core.exchanges.remove(&wire);
        self.execute(core, shared);
    }

    fn hello_answered(&mut self, core: &mut Core, shared: &mut Shared, hub: usize, answer: Option<Answer>) {
        let Some(view) = self.hubs.get_mut(&hub) else { return };
        let peer = shared.plan.ids[hub];
        let tables = core.store.tables();
        let ours = tables.iter().filter(|table| table.peer == peer && table.side == TableSide::Client);
        let ours: Vec<_> = ours.collect();
        if let Some(Answer::Hello(active)) = answer {
            view.active = active.into_iter().collect();
        }
        let complete = ours.iter().all(|table| view.active.contains(&table.table));
        if view.connected && !complete {
            view.hello_at = Some(shared.now + HELLO_PAUSE);
        }
        self.compare(core, shared);
        self.look_soon(shared);
    }

    /// Tables whose marks may be compared and have not been.
    fn apart(&self, core: &Core, shared: &Shared) -> Vec<(usize, NodeId, TableId)> {
        let apart = core.store.tables_apart().into_iter();
        apart
            .filter_map(|(peer, table)| {
                let hub = shared.plan.index(&peer)?;
                let view = self.hubs.get(&hub)?;
                let ready = view.connected && !view.excluded && view.active.contains(&table);
                ready.then_some((hub, peer, table))
            })
            .collect()
    }

    fn compare(&mut self, core: &mut Core, shared: &mut Shared) {
        for (hub, peer, table) in self.apart(core, shared) {
            if self.hubs.get(&hub).is_some_and(|view| view.sync_due <= shared.now) {
                self.sync.begin(core, shared, peer, table);
            }
        }
    }

    fn sync_news(&mut self, core: &mut Core, shared: &mut Shared, news: News) {
        let now = core.now(shared);
        match news {
            News::Dropped(Held::Ask { to, about: About::Key(block), .. }) => {
                let hub = shared.plan.ids[to];
                let input = SenderInput::HubAnswer { block, hub, answer: None };
                self.sender.handle(now, input, &mut shared.rng.0);
            }
            News::Dropped(Held::Ask { to, about: About::Identity(inquiry), .. }) => {
                let hub = shared.plan.ids[to];
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes: None });
            }
            News::Dropped(_) => {}
            News::Synced { peer } => {
                if let Some(view) = self.hubs.get_mut(&peer) {
                    view.sync_pause = SYNC_PAUSE_MIN;
                }
                self.advance(core, shared);
            }
            News::Lapsed { peer } => {
                if let Some(view) = self.hubs.get_mut(&peer) {
                    view.sync_due = shared.now + view.sync_pause;
                    view.sync_pause = (view.sync_pause * 2).min(SYNC_PAUSE_MAX);
                }
            }
        }
    }

    pub(crate) fn connection(&mut self, core: &mut Core, shared: &mut Shared, peer: usize, up: bool) {
        let now = core.now(shared);
        if let Some(view) = self.hubs.get_mut(&peer) {
            view.connected = up;
            view.active.clear();
            view.hello_at = None;
            if up {
                core.ask(shared, peer, About::Hello, Packet::Hello);
            }
        }
        if shared.plan.is_hub(peer) && !up {
            let gone = shared.plan.ids[peer];
            self.sync.disconnected(core, shared, gone);
        } else if !up {
            let gone = shared.plan.ids[peer];
            self.sender.handle(now, SenderInput::Unlinked(gone), &mut shared.rng.0);
        }
        self.execute(core, shared);
    }

    pub(crate) fn done(&mut self, core: &mut Core, shared: &mut Shared, done: Done) {
        let now = core.now(shared);
        match done {
            Done::Pad(Machine::Sender, outcome) => {
                self.sender.handle(now, SenderInput::Pad(outcome), &mut shared.rng.0);
            }
            Done::Pad(Machine::Receiver, outcome) => self.receiver.handle(now, ReceiverInput::Pad(outcome)),
            Done::Pad(Machine::Sync, outcome) => self.sync.pad(core, shared, outcome),
            Done::Pad(_, outcome) => self.desk.handle(now, IdentityInput::Pad(outcome)),
            Done::Taken(id, result) => self.taken(core, shared, id, result),
            Done::Queued(_) | Done::Read(..) => {}
        }
        self.execute(core, shared);
    }

    fn taken(
        &mut self,
        core: &Core,
        shared: &mut Shared,
        id: KeyId,
        result: Result<dske_storage::SecretBytes, TakeError>,
    ) {
        match result {
            Ok(key) => {
                let recorded = core.store.block(&id.block).ok().flatten();
                if recorded.is_none_or(|record| record.state != BlockState::Taken) {
                    let text = format!("node {} handed out {id} before that was recorded", core.me);
                    shared.checker.fail(Invariant::DurableFirst, text);
                }
                shared.checker.handed_out(core.me, id.block, key.expose());
            }
            Err(TakeError::Unknown(_)) => {
                let known = shared.checker.facts[core.me].blocks.get(&id.block);
                if known.is_some_and(|fact| fact.key.is_some()) {
                    let text = format!("node {} lost the key {id}", core.me);
                    shared.checker.fail(Invariant::NothingLost, text);
                }
            }
            Err(_) => shared.count("keys asked for again or in vain"),
        }
    }

    pub(crate) fn reconstructed(&mut self, core: &mut Core, shared: &mut Shared, input: ReceiverInput) {
        self.receiver.handle(core.now(shared), input);
        self.execute(core, shared);
    }

    // -- wishes

    pub(crate) fn wish(&mut self, core: &mut Core, shared: &mut Shared, wish: usize) {
        shared.wishes[wish].state = WishState::Open(core.epoch);
        self.wishes.push((wish, core.now(shared)));
        self.advance(core, shared);
        self.execute(core, shared);
    }

    /// Takes wishes and inquiries as far as they can go.
    fn advance(&mut self, core: &mut Core, shared: &mut Shared) {
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

    fn begin(
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
        let serves = |hub: &NodeId| {
            receivers.iter().all(|receiver| self.identities.get(receiver).is_some_and(|by| by.contains(hub)))
        };
        let mut hubs: Vec<HubChoice> = self
            .hubs
            .iter()
            .filter(|(_, view)| !view.excluded)
            .map(|(&hub, _)| (hub, shared.plan.ids[hub]))
            .filter(|(_, id)| serves(id))
            .map(|(hub, node)| HubChoice { node, reachable: usable.contains(&hub) })
            .collect();
        hubs.sort_by_key(|choice| !choice.reachable);
        if wanted.n > 0 {
            hubs.truncate(usize::from(wanted.n));
        }
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
            purpose: "simulation".to_owned(),
            k: wanted.k,
            hubs,
            linked,
            deadline,
            notice_deadline: (now + patience).min(deadline),
        };
        self.next += 1;
        let id = RequestId(self.next);
        self.under_way.insert(id, wish);
        self.sender.handle(now, SenderInput::Start { id, wish: key_wish }, &mut shared.rng.0);
    }

    fn wish_ended(&mut self, shared: &mut Shared, wish: usize, how: &'static str) {
        shared.count(how);
        shared.note("wish", [wish as u64, 0, 0], || how.to_owned());
        shared.wishes[wish].state = WishState::Ended;
    }

    /// Hubs with which a message can be exchanged now.
    fn usable(&self, core: &Core, shared: &Shared) -> BTreeSet<usize> {
        let open = core.store.open_peers();
        let serves = |hub: usize| open.contains(&shared.plan.ids[hub]);
        let usable = self.hubs.iter().filter(|(hub, view)| view.connected && !view.excluded && serves(**hub));
        usable.map(|(&hub, _)| hub).collect()
    }

    fn establish(&mut self, now: Time, subject: Subject) {
        if !self.inquiries.iter().any(|(open, _)| *open == subject) {
            self.inquiries.push((subject, now));
        }
    }

    fn inquire(&mut self, core: &Core, shared: &Shared) {
        if self.inquiries.is_empty() {
            return;
        }
        let now = core.now(shared);
        let usable = self.usable(core, shared);
        let accepted = self.hubs.values().filter(|view| !view.excluded).count();
        let all = usable.len() >= accepted;
        let enough = usable.len() >= usize::from(shared.plan.k_min);
        for (subject, since) in std::mem::take(&mut self.inquiries) {
            let waited = now.saturating_sub(since);
            if all || (enough && waited >= INQUIRY_PATIENCE) || waited >= INQUIRY_PATIENCE_MAX {
                let hubs = usable.iter().map(|&hub| shared.plan.ids[hub]).collect();
                let deadline = now + IDENTITY_TIMEOUT;
                self.desk.handle(now, IdentityInput::Establish { subject, hubs, deadline });
            } else {
                self.inquiries.push((subject, since));
            }
        }
    }

    /// Asks hubs that have made no claim about somebody who is known.
    fn widen(&mut self, core: &Core, shared: &Shared) {
        let now = core.now(shared);
        let usable: BTreeSet<NodeId> =
            self.usable(core, shared).into_iter().map(|hub| shared.plan.ids[hub]).collect();
        if self.identities.values().all(|hubs| usable.is_subset(hubs)) {
            return;
        }
        for record in core.store.identities().unwrap_or_default() {
            let Some(claimed) = self.identities.get(&record.node) else { continue };
            let silent: Vec<NodeId> = usable.difference(claimed).copied().collect();
            let mut due = |hub: &NodeId| {
                let ask = self.asked.get(&(record.node, *hub)).is_none_or(|due| *due <= now);
                if ask {
                    self.asked.insert((record.node, *hub), now + WIDEN_PAUSE);
                }
                ask
            };
            let hubs: Vec<NodeId> = silent.into_iter().filter(|hub| due(hub)).collect();
            if !hubs.is_empty() {
                let IdentityRecord { node, name, applications, known_as, .. } = record;
                let known = EstablishedIdentity { identity: Identity { node, name, applications }, known_as };
                let deadline = now + IDENTITY_TIMEOUT;
                self.desk.handle(now, IdentityInput::Widen { known, hubs, deadline });
            }
        }
    }

    // -- effects

    pub(crate) fn execute(&mut self, core: &mut Core, shared: &mut Shared) {
        loop {
            let mut busy = false;
            while let Some(effect) = self.sender.poll_effect() {
                busy = true;
                self.sender_effect(core, shared, effect);
            }
            while let Some(effect) = self.receiver.poll_effect() {
                busy = true;
                self.receiver_effect(core, shared, effect);
            }
            while let Some(effect) = self.desk.poll_effect() {
                busy = true;
                self.desk_effect(core, shared, effect);
            }
            for news in self.sync.execute(core, shared) {
                busy = true;
                self.sync_news(core, shared, news);
            }
            if !busy {
                return;
            }
        }
    }

    fn sender_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: SenderEffect) {
        match effect {
            SenderEffect::Pad(effect) => core.effect(shared, Machine::Sender, effect),
            SenderEffect::Send { block, hub, bytes } => {
                let Some(to) = shared.plan.index(&hub) else { return };
                let bytes = match core.honest {
                    true => bytes,
                    false => lies::client_request(shared, core.me, to, bytes),
                };
                self.sync.send(core, shared, Held::Ask { to, about: About::Key(block), bytes });
            }
            SenderEffect::Began { agreement, .. } => {
                shared.count("agreements begun");
                shared.checker.began(&agreement);
            }
            SenderEffect::Ended { id, block, result } => {
                let Some(wish) = self.under_way.remove(&id) else { return };
                if core.dead {
                    return;
                }
                if let Some(block) = block {
                    let ended = if result.is_ok() { Ended::Key } else { Ended::Nothing };
                    shared.checker.sender_ended(block, ended);
                }
                let how = match &result {
                    Ok(agreed) => {
                        self.sender_got(core, shared, agreed);
                        "wish ended: key"
                    }
                    Err(failure) => failure_name(failure),
                };
                self.wish_ended(shared, wish, how);
            }
        }
    }

    fn sender_got(&mut self, core: &Core, shared: &mut Shared, agreed: &AgreedKey) {
        let block = agreed.agreement.block;
        let recorded = core.store.block(&block).ok().flatten();
        if recorded.is_none_or(|record| record.state != BlockState::Taken) {
            let text = format!("node {} gave the key of block {block} out before its record", core.me);
            shared.checker.fail(Invariant::DurableFirst, text);
        }
        shared.checker.handed_out(core.me, block, &agreed.key.0);
        for receiver in &agreed.agreement.receivers {
            if let Some(receiver) = shared.plan.index(receiver) {
                self.hear_of(shared, receiver, block);
            }
        }
    }

    /// An application hears of a key, and will ask for it, now and then twice.
    fn hear_of(&self, shared: &mut Shared, client: usize, block: dske_protocol::ids::BlockId) {
        shared.heard_of.insert((client, block));
        let key = KeyId { block, index: 0 };
        let times = if shared.rng.chance(0.2) { 2 } else { 1 };
        for _ in 0..times {
            let delay = shared.rng.within(MILLI..=3 * SECOND);
            shared.after(delay, Event::Fetch(client, key));
        }
    }

    fn receiver_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: ReceiverEffect) {
        match effect {
            ReceiverEffect::Pad(effect) => core.effect(shared, Machine::Receiver, effect),
            ReceiverEffect::Answer { id, result } => {
                let Some(served) = self.served.remove(&id.0) else { return };
                self.check_answer(core, shared, &served, result);
                if lies::draw(shared, core.me, |lie| lie == Lie::DeafReceiver).is_none() {
                    core.send(shared, served.from, Packet::InstructionAnswer(served.wire, result));
                }
            }
            ReceiverEffect::Establish(node) => {
                self.establish(core.now(shared), Subject::Node(node));
                self.inquire(core, shared);
                self.look_soon(shared);
            }
            ReceiverEffect::Reconstruct { block, group, job } => {
                let light = job.is_light();
                let result = job.run(&mut shared.rng.0, &|| false);
                if light {
                    let input = ReceiverInput::Reconstructed { block, group, result };
                    self.receiver.handle(core.now(shared), input);
                } else {
                    let (node, epoch, result) = (core.me, core.epoch, Box::new(result));
                    let delay = shared.rng.within(100..=20 * MILLI);
                    shared.after(delay, Event::Reconstructed { node, epoch, block, group, result });
                }
            }
            ReceiverEffect::Began(_) | ReceiverEffect::LateShare { .. } => {}
            ReceiverEffect::Progress { agreement, outcome, .. } => {
                if core.dead {
                    return;
                }
                self.check_progress(core, shared, &agreement, &outcome);
                let block = agreement.block;
                if matches!(outcome, NoticeOutcome::Validated { .. }) {
                    self.hear_of(shared, core.me, block);
                }
                let outcome = lies::notice(shared, core.me, outcome);
                if let Some(sender) = shared.plan.index(&agreement.sender) {
                    core.send(shared, sender, Packet::Notice(Notice { block, outcome }));
                }
            }
        }
    }

    fn check_progress(
        &self,
        core: &Core,
        shared: &mut Shared,
        agreement: &dske_protocol::message::Agreement,
        outcome: &NoticeOutcome,
    ) {
        match outcome {
            NoticeOutcome::Validated { .. } => {
                let recorded = core.store.block(&agreement.block).ok().flatten();
                let kept = |state: &BlockState| matches!(state, BlockState::Ready | BlockState::Taken);
                if recorded.is_none_or(|record| !kept(&record.state)) {
                    let text =
                        format!("node {} announced block {} before its record", core.me, agreement.block);
                    shared.checker.fail(Invariant::DurableFirst, text);
                }
                shared.count("validated");
            }
            NoticeOutcome::Aborted(reason) => shared.count(abort_name(reason)),
        }
        if core.honest {
            shared.checker.verdict(core.me, agreement, outcome);
        }
    }

    fn check_answer(&self, core: &Core, shared: &mut Shared, served: &Served, result: Result<(), Refusal>) {
        if !core.honest || core.dead {
            return;
        }
        match result {
            Ok(()) => {
                shared.checker.took_in(core.me, &served.bytes, &core.store);
                let Some(instruction) = body::<KeyInstruction>(&served.bytes) else { return };
                let block = instruction.agreement.block;
                let lied =
                    !shared.plan.is_hub(served.from) || lies::is_false(shared, served.from, &served.bytes);
                shared.note("took in", [core.me as u64, served.from as u64, u64::from(lied)], || {
                    let what = if lied { "a false" } else { "a true" };
                    format!("{} took in {what} share of {} for block {block}", core.me, served.from)
                });
                shared.checker.spoke(core.me, shared.plan.ids[served.from], block, lied);
                let excluded = self.hubs.get(&served.from).and_then(|view| view.excluded_at);
                if excluded.is_some_and(|at| at < served.arrived) {
                    let text = format!("node {} took in a share of a hub that it has excluded", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
                let arrived = Duration::from_micros(served.arrived + core.clock_ahead);
                let slack = LATE_SHARES + Duration::from_millis(100);
                let ended = shared.checker.facts[core.me].blocks.get(&block).map(|fact| fact.ended);
                if ended.is_some_and(|ended| ended < self.started || ended + slack < arrived) {
                    let text = format!("node {} took in a share of block {block}, which had ended", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
            }
            Err(Refusal::BadTag) => {
                shared.count("tags refused");
                if claimed_range(&served.bytes).is_some_and(|range| core.store.is_spent(&range)) {
                    let text = format!("node {} burned pad for a wrong tag", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
            }
            Err(refusal) => shared.count(refusal_name(refusal)),
        }
    }

    fn desk_effect(&mut self, core: &mut Core, shared: &mut Shared, effect: IdentityEffect) {
        match effect {
            IdentityEffect::Pad(effect) => core.effect(shared, Machine::Desk, effect),
            IdentityEffect::Ask { inquiry, hub, bytes } => {
                let Some(to) = shared.plan.index(&hub) else { return };
                self.sync.send(core, shared, Held::Ask { to, about: About::Identity(inquiry), bytes });
            }
            IdentityEffect::Widened(established) => {
                shared.count("identities widened");
                let node = established.identity.node;
                if core.honest {
                    check_identity(core.me, shared, &Subject::Node(node), &established);
                }
                let hubs = established.known_as.iter().map(|(hub, _)| *hub).collect();
                self.identities.insert(node, hubs);
                self.advance(core, shared);
            }
            IdentityEffect::Contradicted { hub, .. } => {
                shared.count("identities contradicted");
                if core.honest && shared.checker.bounds.safe && !shared.checker.bad_hubs.contains(&hub) {
                    let text =
                        format!("{}, which is honest, contradicts what node {} knows", hub.short(), core.me);
                    shared.checker.fail(Invariant::Identities, text);
                }
            }
            IdentityEffect::Excluded { hub, .. } => {
                shared.count("hubs excluded");
                if core.honest && shared.checker.bounds.safe && !shared.checker.bad_hubs.contains(&hub) {
                    let text = format!("node {} excluded {}, which is honest", core.me, hub.short());
                    shared.checker.fail(Invariant::Identities, text);
                }
                let now = shared.now;
                if let Some(view) = shared.plan.index(&hub).and_then(|hub| self.hubs.get_mut(&hub)) {
                    view.excluded = true;
                    view.excluded_at.get_or_insert(now);
                }
                self.receiver.handle(core.now(shared), ReceiverInput::ExcludeHub(hub));
            }
            IdentityEffect::Decided { subject, result } => {
                self.decided(core, shared, &subject, result);
                self.advance(core, shared);
            }
        }
    }

    fn decided(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        subject: &Subject,
        result: Result<EstablishedIdentity, IdentityFailure>,
    ) {
        if core.dead {
            return;
        }
        let now = core.now(shared);
        match result {
            Ok(established) => {
                shared.count("identities established");
                if core.honest {
                    check_identity(core.me, shared, subject, &established);
                }
                let node = established.identity.node;
                let hubs = established.known_as.iter().map(|(hub, _)| *hub).collect();
                self.identities.insert(node, hubs);
                self.receiver.handle(now, ReceiverInput::Sender { node, established: true });
            }
            Err(_) => {
                shared.count("identities not established");
                match subject {
                    Subject::Node(node) => {
                        let input = ReceiverInput::Sender { node: *node, established: false };
                        self.receiver.handle(now, input);
                    }
                    Subject::Name(name) => {
                        let wishes = std::mem::take(&mut self.wishes);
                        for (wish, began) in wishes {
                            let names = &shared.plan.names;
                            if shared.wishes[wish].receivers.iter().any(|&at| names[at] == *name) {
                                self.wish_ended(shared, wish, "wish ended: receiver unknown");
                            } else {
                                self.wishes.push((wish, began));
                            }
                        }
                    }
                }
            }
        }
    }

    // -- time

    fn look_soon(&mut self, shared: &Shared) {
        self.look_at = Some(self.look_at.unwrap_or(Micros::MAX).min(shared.now + HOUSEKEEPING));
    }

    /// When the next tick is due.
    pub(crate) fn due(&mut self, core: &Core, shared: &Shared) -> Option<Micros> {
        if !self.wishes.is_empty() || !self.inquiries.is_empty() {
            self.look_soon(shared);
        }
        let apart = self.apart(core, shared);
        let waiting = |(hub, _, _): &(usize, NodeId, TableId)| {
            self.hubs.get(hub).map(|view| view.sync_due).filter(|due| *due > shared.now)
        };
        let compare = apart.iter().filter_map(waiting).min();
        let hello = self.hubs.values().filter_map(|view| view.hello_at).min();
        let machines = [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.desk.poll_timeout()];
        let machines = machines.into_iter().flatten().min();
        let machines = machines.map(|at| (at.as_micros() as Micros).saturating_sub(core.clock_ahead));
        [self.look_at, hello, compare, machines].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, core: &mut Core, shared: &mut Shared) {
        let now = core.now(shared);
        self.sender.handle(now, SenderInput::Tick, &mut shared.rng.0);
        self.receiver.handle(now, ReceiverInput::Tick);
        self.desk.handle(now, IdentityInput::Tick);
        let machines = [
            ("sender", self.sender.poll_timeout()),
            ("receiver", self.receiver.poll_timeout()),
            ("identity desk", self.desk.poll_timeout()),
        ];
        for (machine, timeout) in machines {
            if timeout.is_some_and(|timeout| timeout <= now) {
                let text = format!("the {machine} of node {} has a deadline that never fires", core.me);
                shared.checker.fail(Invariant::NoHang, text);
            }
        }
        let due: Vec<usize> = self
            .hubs
            .iter()
            .filter(|(_, view)| view.hello_at.is_some_and(|at| at <= shared.now))
            .map(|(&hub, _)| hub)
            .collect();
        for hub in due {
            if let Some(view) = self.hubs.get_mut(&hub) {
                view.hello_at = None;
            }
            core.ask(shared, hub, About::Hello, Packet::Hello);
        }
        self.compare(core, shared);
        if self.look_at.is_some_and(|at| at <= shared.now) {
            self.look_at = None;
            self.advance(core, shared);
        }
        self.execute(core, shared);
    }
}

/// The answer to an exchange.
pub(crate) enum Answer {
    Key(Result<(), Refusal>),
    Identity(Option<Vec<u8>>),
    Hello(Vec<TableId>),
}

fn check_identity(me: usize, shared: &mut Shared, subject: &Subject, established: &EstablishedIdentity) {
    let EstablishedIdentity { identity, known_as } = established;
    let voices: BTreeSet<&NodeId> = known_as.iter().map(|(hub, _)| hub).collect();
    if voices.len() < usize::from(shared.plan.k_min) {
        let text = format!("node {me} believes {} hubs about {}", voices.len(), identity.name);
        return shared.checker.fail(Invariant::Identities, text);
    }
    let about = match subject {
        Subject::Node(node) => identity.node == *node,
        Subject::Name(name) => identity.name == *name,
    };
    let truth = shared.plan.index(&identity.node).map(|at| &shared.plan.names[at]);
    let right = about && truth == Some(&identity.name) && identity.applications.is_empty();
    if shared.checker.bounds.safe && !right {
        let text = format!("node {me} believes that {identity:?} is {subject:?}");
        shared.checker.fail(Invariant::Identities, text);
    }
}

fn failure_name(failure: &SendFailure) -> &'static str {
    match failure {
        SendFailure::TooFewHubs { .. } => "wish ended: too few hubs",
        SendFailure::Parameters(_) => "wish ended: parameters",
        SendFailure::PadLow { .. } => "wish ended: pad low",
        SendFailure::TooFewAccepted { .. } => "wish ended: too few accepted",
        SendFailure::ReceiverAborted { .. } => "wish ended: receiver aborted",
        SendFailure::Busy => "wish ended: busy",
        SendFailure::Internal => "wish ended: store failed",
        SendFailure::NotSynced { .. } => "wish ended: not synced",
    }
}

fn abort_name(reason: &AbortReason) -> &'static str {
    match reason {
        AbortReason::TooFewShares { .. } => "aborted: too few shares",
        AbortReason::NoneValidates { .. } => "aborted: none validates",
        AbortReason::Ambiguous => "aborted: ambiguous",
        AbortReason::WorkBound { .. } => "aborted: work bound",
        AbortReason::SenderNotEstablished => "aborted: sender not established",
        AbortReason::Internal => "aborted: store failed",
        AbortReason::QuotaExceeded { .. } => "aborted: quota exceeded",
    }
}
