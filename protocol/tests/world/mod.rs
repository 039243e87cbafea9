//! The state machines of a whole network in one thread: hubs and clients over pads in memory, messages
//! delivered at once and in order. Every byte of every lane is watched: using one twice fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::LazyLock,
};

use dske_protocol::{
    Ways,
    codec::Blob,
    effect::{EstablishedIdentity, MintRefusal, Minted, PadEffect, PadOutcome, Record, Usage, Want},
    enrolment::{self, Signature},
    hub::{Hub, HubClient, HubEffect, HubInput, RequestId},
    identity::{IdentityDesk, IdentityEffect, IdentityFailure, IdentityInput},
    ids::{BlockId, Lane, Name, NodeId, PadRange, TableId},
    message::{
        Agreement, Content, Identity, KeyInstruction, NO_KEY_TAG, Notice, NoticeOutcome, Subject, seal,
    },
    pad::PadBytes,
    params::{AcceptancePolicy, KEY_BYTES_MAX, Time, Validate},
    receiver::{Receiver, ReceiverEffect, ReceiverInput},
    refusal::{AbortReason, Refusal, SendFailure},
    sender::{AgreedKey, HubChoice, KeyWish, RoundWish, Sender, SenderEffect, SenderInput},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(crate) const DEADLINE: Time = Time::from_secs(10);

/// One lane: its bytes, how far its allocator got, and which bytes have been used by whom.
struct LaneBytes {
    bytes: Vec<u8>,
    mark: u64,
    used: BTreeSet<u64>,
    held: BTreeSet<u64>,
}

pub(crate) struct Table {
    client: NodeId,
    hub: NodeId,
    lanes: BTreeMap<Lane, LaneBytes>,
}

/// All pads of the network, and the ended blocks of every node.
pub(crate) struct Pads {
    tables: BTreeMap<TableId, Table>,
    ended: BTreeSet<(NodeId, BlockId)>,
    pub(crate) keys: BTreeMap<(NodeId, BlockId), Vec<u8>>,
    pub(crate) forged_blocks: u64,
}

impl Pads {
    /// The table in which `me` allocates this lane towards `peer`.
    fn table(&mut self, me: NodeId, peer: NodeId, lane: Lane) -> Option<(&TableId, &mut Table)> {
        let ends = if lane == Lane::Up { (me, peer) } else { (peer, me) };
        self.tables.iter_mut().find(|(_, table)| (table.client, table.hub) == ends)
    }

    /// A hub's table with a client is out of use.
    pub(crate) fn remove_table(&mut self, client: NodeId, hub: NodeId) {
        self.tables.retain(|_, table| (table.client, table.hub) != (client, hub));
    }

    /// A hub's table with a client is out of use for a while.
    pub(crate) fn take_table(&mut self, client: NodeId, hub: NodeId) -> (TableId, Table) {
        let of = |(_, table): &(&TableId, &Table)| (table.client, table.hub) == (client, hub);
        let id = *self.tables.iter().find(of).unwrap().0;
        (id, self.tables.remove(&id).unwrap())
    }

    /// A table that was taken is in use again.
    pub(crate) fn put_table(&mut self, (id, table): (TableId, Table)) {
        self.tables.insert(id, table);
    }

    /// All but so many bytes of a lane are handed out.
    pub(crate) fn use_up(&mut self, client: NodeId, hub: NodeId, lane: Lane, left: u64) {
        let table = self.tables.values_mut().find(|t| (t.client, t.hub) == (client, hub)).unwrap();
        let lane = table.lanes.get_mut(&lane).unwrap();
        lane.mark = lane.bytes.len() as u64 - left;
    }

    /// Bytes used in a lane: by its allocator, and by its receiver.
    pub(crate) fn burned(&self, client: NodeId, hub: NodeId, lane: Lane) -> (u64, u64) {
        let table = self.tables.values().find(|t| (t.client, t.hub) == (client, hub)).unwrap();
        let lane = &table.lanes[&lane];
        (lane.mark, lane.used.len() as u64)
    }

    fn hold(&mut self, me: NodeId, from: NodeId, range: PadRange) -> Result<PadBytes, Refusal> {
        let table = self.tables.get_mut(&range.table).ok_or(Refusal::UnknownTable)?;
        let theirs = if table.client == me { Lane::Down } else { Lane::Up };
        if (table.client, table.hub) != (me, from) && (table.client, table.hub) != (from, me) {
            return Err(Refusal::UnknownTable);
        }
        let lane = table.lanes.get_mut(&range.lane).unwrap();
        let end = range.end().ok_or(Refusal::OutOfRange)?;
        if range.lane != theirs || end > lane.bytes.len() as u64 {
            return Err(Refusal::OutOfRange);
        }
        if (range.offset..end).any(|at| lane.used.contains(&at) || lane.held.contains(&at)) {
            return Err(Refusal::PadUsed);
        }
        lane.held.extend(range.offset..end);
        Ok(PadBytes::mint(lane.bytes[range.offset as usize..end as usize].to_vec()))
    }

    fn release(&mut self, range: PadRange) {
        let lane = self.tables.get_mut(&range.table).unwrap().lanes.get_mut(&range.lane).unwrap();
        (range.offset..range.end().unwrap()).for_each(|at| assert!(lane.held.remove(&at)));
    }

    fn claim(&mut self, range: PadRange) {
        self.release(range);
        let lane = self.tables.get_mut(&range.table).unwrap().lanes.get_mut(&range.lane).unwrap();
        (range.offset..range.end().unwrap()).for_each(|at| assert!(lane.used.insert(at), "used twice"));
    }

    fn marks(&self) -> BTreeMap<(TableId, Lane), u64> {
        let of = |(id, table): (&TableId, &Table)| {
            let id = *id;
            table.lanes.iter().map(move |(lane, bytes)| ((id, *lane), bytes.mark)).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(of).collect()
    }

    fn put_marks_back(&mut self, marks: &BTreeMap<(TableId, Lane), u64>) {
        for (id, table) in &mut self.tables {
            for (lane, bytes) in &mut table.lanes {
                bytes.mark = marks[&(*id, *lane)];
            }
        }
    }

    fn mint(&mut self, me: NodeId, want: Want) -> Result<Minted, MintRefusal> {
        let Want { peer, lane: lane_id, bytes, .. } = want;
        let (&id, table) = self.table(me, peer, lane_id).ok_or(MintRefusal::NoTable { peer })?;
        let lane = table.lanes.get_mut(&lane_id).unwrap();
        let left = lane.bytes.len() as u64 - lane.mark;
        if left < bytes {
            return Err(MintRefusal::Low { peer, left, needed: bytes });
        }
        let range = PadRange { table: id, lane: lane_id, offset: lane.mark, len: bytes };
        lane.mark += bytes;
        let pad = lane.bytes[range.offset as usize..lane.mark as usize].to_vec();
        Ok(Minted { range, pad: PadBytes::mint(pad) })
    }

    /// Executes an effect as `me`. Messages that became durable come back beside the outcome.
    fn execute(&mut self, me: NodeId, effect: PadEffect) -> (Option<PadOutcome>, Record) {
        match effect {
            PadEffect::Hold { ticket, from, range, block, .. } => {
                let block_ended = block.is_some_and(|block| self.ended.contains(&(me, block)));
                let result = self.hold(me, from, range);
                (Some(PadOutcome::Held { ticket, result, block_ended }), Record::default())
            }
            PadEffect::Release { range, forged_blocks } => {
                self.forged_blocks += forged_blocks.unwrap_or(0);
                self.release(range);
                (None, Record::default())
            }
            PadEffect::Mint { ticket, wants } => {
                // All or none.
                let marks: BTreeMap<_, _> = self.marks();
                let result: Result<Vec<_>, _> = wants.iter().map(|want| self.mint(me, *want)).collect();
                if result.is_err() {
                    self.put_marks_back(&marks);
                }
                (Some(PadOutcome::Minted { ticket, result }), Record::default())
            }
            PadEffect::Commit { ticket, mut record } => {
                for (range, _) in &record.claims {
                    self.claim(*range);
                }
                let mut ok = true;
                if let Some(ended) = record.block.take() {
                    ok = self.ended.insert((me, ended.agreement.block()));
                    if let (true, Ok(dske_protocol::effect::BlockKey::Keep(key))) = (ok, ended.result) {
                        self.keys.insert((me, ended.agreement.block()), key.0.to_vec());
                    }
                }
                (Some(PadOutcome::Committed { ticket, ok }), *record)
            }
            effect => unreachable!("marks are not compared here: {effect:?}"),
        }
    }
}

/// A client with all its machines.
pub(crate) struct Client {
    pub(crate) id: NodeId,
    sender: Sender,
    pub(crate) receiver: Receiver,
    desk: IdentityDesk,
}

/// The network.
pub(crate) struct World {
    pub(crate) hubs: Vec<(NodeId, Hub)>,
    pub(crate) clients: Vec<Client>,
    pub(crate) pads: Pads,
    pub(crate) now: Time,
    /// Hubs whose messages to receivers are lost.
    pub(crate) cut: BTreeSet<NodeId>,
    /// A client whose messages from hubs do not arrive yet.
    pub(crate) withheld_from: Option<NodeId>,
    /// Messages from hubs to clients as they were sent: hub, client, sealed message.
    pub(crate) passed_on: Vec<(NodeId, NodeId, Vec<u8>)>,
    /// Hubs whose messages to receivers take so long.
    pub(crate) slow: BTreeMap<NodeId, Time>,
    on_the_way: BTreeMap<(Time, u64), (NodeId, NodeId, Vec<u8>)>,
    /// Changes a message on its way from a hub to a receiver.
    pub(crate) tamper: Option<fn(&mut Vec<u8>)>,
    /// Changes a message of a negotiation on its way between two clients; `false` loses it.
    pub(crate) link: Option<fn(&mut Vec<u8>) -> bool>,
    /// What the sender of the next round is told of its end as soon as it has begun, and by whom.
    pub(crate) told: Vec<(Option<NodeId>, NoticeOutcome)>,
    told_after: Vec<(usize, SenderInput)>,
    /// How many hubs pass on that a session is lost.
    pub(crate) voices: usize,
    /// How often a receiver has said so.
    pub(crate) said_lost: usize,
    /// How many forged messages come before each message of a negotiation.
    pub(crate) before_each: usize,
    /// Whether two clients have no link, and what goes one way is lost: it went through a bad hub.
    pub(crate) swallowed: bool,
    /// Messages of negotiations as they were sent.
    pub(crate) negotiated: Vec<Vec<u8>>,
    /// What receivers announced.
    pub(crate) notices: Vec<(NodeId, Notice)>,
    pub(crate) excluded: Vec<(NodeId, NodeId)>,
    pub(crate) widened: Vec<EstablishedIdentity>,
    pub(crate) contradicted: Vec<NodeId>,
    /// What receivers start with.
    policy: AcceptancePolicy,
    known: Vec<NodeId>,
    rng: StdRng,
    next_request: u64,
    ended: BTreeMap<RequestId, Result<AgreedKey, SendFailure>>,
    decided: Vec<(NodeId, Result<EstablishedIdentity, IdentityFailure>)>,
    to_clients: VecDeque<(NodeId, NodeId, Vec<u8>)>,
}

pub(crate) fn hub_id(at: usize) -> NodeId {
    // Random: a lying hub derives its lie from its id, and equal bytes would let lies cancel out.
    NodeId::random(&mut StdRng::seed_from_u64(1000 + at as u64))
}

fn client_secret(at: usize) -> [u8; 32] {
    [1 + u8::try_from(at).unwrap(); 32]
}

pub(crate) fn client_id(at: usize) -> NodeId {
    static IDS: LazyLock<Vec<NodeId>> =
        LazyLock::new(|| (0..32).map(|at| enrolment::node_of(&client_secret(at))).collect());
    IDS[at]
}

/// A client's own signature.
pub(crate) fn signature(at: usize, identity: &Identity) -> Signature {
    enrolment::sign(&client_secret(at), identity)
}

/// A client as a hub takes it on, by its own signed request.
pub(crate) fn enrolled(at: usize, name: Name, known_as: u64) -> HubClient {
    let identity = Identity { node: client_id(at), name, applications: Vec::new() };
    let signature = signature(at, &identity);
    HubClient { identity, signature, known_as, enabled: true }
}

pub(crate) fn client_name(at: usize) -> Name {
    format!("client{at}").parse().unwrap()
}

impl World {
    /// `lane_bytes` of pad in each lane of each pair; all clients know each other if `established`.
    pub(crate) fn new(
        seed: u64,
        hubs: usize,
        clients: usize,
        k_min: u8,
        lane_bytes: usize,
        established: bool,
    ) -> Self {
        let (hubs, clients) = ((0..hubs).map(hub_id).collect(), (0..clients).map(client_id).collect());
        Self::of(seed, hubs, clients, k_min, lane_bytes, established)
    }

    /// Nodes that are hub and client for each other.
    pub(crate) fn consortium(seed: u64, nodes: usize, k_min: u8, lane_bytes: usize) -> Self {
        let nodes: Vec<NodeId> = (0..nodes).map(client_id).collect();
        Self::of(seed, nodes.clone(), nodes, k_min, lane_bytes, false)
    }

    fn of(
        seed: u64,
        hub_ids: Vec<NodeId>,
        client_ids: Vec<NodeId>,
        k_min: u8,
        lane_bytes: usize,
        established: bool,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tables = BTreeMap::new();
        let pairs = hub_ids.iter().flat_map(|hub| client_ids.iter().map(move |client| (*hub, *client)));
        for (hub, client) in pairs.filter(|(hub, client)| hub != client) {
            let mut lane = || {
                let mut bytes = vec![0; lane_bytes];
                rng.fill_bytes(&mut bytes);
                LaneBytes { bytes, mark: 0, used: BTreeSet::new(), held: BTreeSet::new() }
            };
            let lanes = BTreeMap::from([(Lane::Up, lane()), (Lane::Down, lane())]);
            let table = Table { client, hub, lanes };
            tables.insert(TableId::random(&mut rng), table);
        }
        let policy = AcceptancePolicy {
            k_min,
            hubs: hub_ids.iter().copied().collect(),
            key_bytes_max: KEY_BYTES_MAX,
            deadline: DEADLINE,
            validate: Validate::First,
        };
        let known = client_ids.iter().copied().filter(|_| established).collect::<Vec<_>>();
        let make_client = |&id: &NodeId| Client {
            id,
            sender: Sender::new(id, k_min),
            receiver: Receiver::new(id, policy.clone(), known.iter().copied()),
            desk: IdentityDesk::new(k_min),
        };
        let make_hub = |&id: &NodeId| {
            let mut hub = Hub::new(id, KEY_BYTES_MAX);
            for at in (0..client_ids.len()).filter(|&at| client_ids[at] != id) {
                hub.set_client(enrolled(at, client_name(at), at as u64 + 1));
            }
            (id, hub)
        };
        let (hubs, clients) =
            (hub_ids.iter().map(make_hub).collect(), client_ids.iter().map(make_client).collect());
        Self {
            hubs,
            clients,
            pads: Pads { tables, ended: BTreeSet::new(), keys: BTreeMap::new(), forged_blocks: 0 },
            now: Time::ZERO,
            cut: BTreeSet::new(),
            withheld_from: None,
            passed_on: Vec::new(),
            slow: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            tamper: None,
            link: None,
            told: Vec::new(),
            told_after: Vec::new(),
            voices: usize::MAX,
            said_lost: 0,
            before_each: 0,
            swallowed: false,
            negotiated: Vec::new(),
            notices: Vec::new(),
            excluded: Vec::new(),
            widened: Vec::new(),
            contradicted: Vec::new(),
            policy,
            known,
            rng,
            next_request: 0,
            ended: BTreeMap::new(),
            decided: Vec::new(),
            to_clients: VecDeque::new(),
        }
    }

    /// A wish of client 0 for a key with the others.
    pub(crate) fn wish(&self, k: u8, key_bytes: u32) -> KeyWish {
        let receivers: Vec<_> = self.clients[1..].iter().map(|client| client.id).collect();
        KeyWish {
            linked: receivers.iter().copied().collect(),
            receivers,
            key_bytes,
            content: Content::Keys(1),
            keep: false,
            confirm: false,
            purpose: "test".into(),
            k,
            n: 0,
            hubs: self
                .hubs
                .iter()
                .map(|(node, _)| HubChoice { node: *node, reachable: true, left: u64::MAX })
                .collect(),
            deadline: self.now + DEADLINE,
            notice_deadline: self.now + DEADLINE + DEADLINE,
        }
    }

    /// Has client 0 agree a key, to the end.
    pub(crate) fn agree(&mut self, wish: KeyWish) -> Result<AgreedKey, SendFailure> {
        let id = self.begin(wish);
        self.finish(id)
    }

    /// Has a client agree a key, to the end.
    pub(crate) fn finish_of(&mut self, at: usize, wish: KeyWish) -> Result<AgreedKey, SendFailure> {
        let id = self.begin_at(at, wish);
        self.finish(id)
    }

    /// Has client 0 begin a key, as far as it goes at once.
    pub(crate) fn begin(&mut self, wish: KeyWish) -> RequestId {
        let id = self.begin_at(0, wish);
        self.settle();
        id
    }

    /// Has a client begin a key; nothing happens yet.
    pub(crate) fn begin_at(&mut self, at: usize, wish: KeyWish) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.sender_input(at, SenderInput::Start { id, wish });
        id
    }

    /// Has a client begin a key with this seed for what it draws, as far as it goes at once: two with one seed have one
    /// nonce.
    pub(crate) fn begin_drawing(&mut self, at: usize, wish: KeyWish, seed: u64) -> RequestId {
        self.rng = StdRng::seed_from_u64(seed);
        let id = self.begin_at(at, wish);
        self.settle();
        id
    }

    /// Lets time pass until what was begun has ended.
    pub(crate) fn finish(&mut self, id: RequestId) -> Result<AgreedKey, SendFailure> {
        self.settle();
        for _ in 0..4 {
            if let Some(result) = self.ended.remove(&id) {
                return result;
            }
            self.now += DEADLINE;
            self.tick();
        }
        panic!("the agreement hangs");
    }

    /// Has client 0 agree the key for so many rounds with client 1.
    pub(crate) fn negotiate(&mut self, k: u8, rounds: u32) -> BlockId {
        let n = u8::try_from(self.hubs.len()).unwrap();
        let wish = KeyWish {
            content: Content::Negotiation,
            keep: true,
            confirm: true,
            ..self.wish(k, dske_protocol::negotiation::negotiation_bytes(n, k, rounds))
        };
        let agreed = self.agree(wish).expect("a negotiation key");
        assert!(agreed.key.is_none(), "no application sees it");
        agreed.agreement.block()
    }

    /// The hubs of a session, in its order.
    pub(crate) fn roster_of(&self, session: BlockId) -> Vec<NodeId> {
        self.clients[0].sender.session(&session).expect("a session").roster.clone()
    }

    /// Sessions of client 0.
    pub(crate) fn sessions(&self) -> usize {
        self.clients[0].sender.sessions().count()
    }

    /// Rounds that are left to client 0 in all its sessions.
    pub(crate) fn rounds_left(&self) -> u32 {
        self.clients[0].sender.sessions().map(|(_, _, rounds)| rounds).sum()
    }

    /// A wish of client 0 for one block of a session.
    pub(crate) fn round_wish(&self, session: BlockId, key_bytes: u32, keys: u32) -> RoundWish {
        RoundWish {
            session,
            key_bytes,
            keys,
            purpose: "rounds".into(),
            reachable: self.hubs.iter().map(|(hub, _)| *hub).collect(),
            deadline: self.now + DEADLINE + DEADLINE,
        }
    }

    /// A client loses what its receiver held in memory, as in a restart.
    pub(crate) fn forget(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.receiver = Receiver::new(client.id, self.policy.clone(), self.known.iter().copied());
    }

    /// Has client 0 begin one block of a session: as far as it gets without waiting.
    pub(crate) fn begin_round(&mut self, wish: RoundWish) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.sender_input(0, SenderInput::Round { id, wish });
        self.settle();
        id
    }

    /// Has client 0 agree one block of a session, to the end.
    pub(crate) fn round(&mut self, wish: RoundWish) -> Result<AgreedKey, SendFailure> {
        let id = self.begin_round(wish);
        for _ in 0..64 {
            if let Some(result) = self.ended.remove(&id) {
                return result;
            }
            let next = self.clients.iter().flat_map(|c| [c.sender.poll_timeout(), c.receiver.poll_timeout()]);
            let arrival = self.on_the_way.first_key_value().map(|((due, _), _)| *due);
            let next = next.flatten().chain(arrival).min();
            self.now = next.unwrap_or(self.now).max(self.now + Time::from_millis(1));
            self.tick();
        }
        panic!("the round hangs");
    }

    /// Delivers a message of a negotiation, or whatever claims to be one.
    pub(crate) fn deliver(&mut self, from: NodeId, to: NodeId, bytes: Vec<u8>) {
        let at = self.clients.iter().position(|client| client.id == to).unwrap();
        self.sender_input(at, SenderInput::Offer { from, bytes: bytes.clone() });
        self.sender_input(at, SenderInput::Confirmation { from, bytes: bytes.clone() });
        let now = self.now;
        self.clients[at].receiver.handle(now, ReceiverInput::Choice { from, bytes });
    }

    fn over_the_link(&mut self, from: NodeId, to: NodeId, ways: Ways, mut bytes: Vec<u8>) {
        self.negotiated.push(bytes.clone());
        match ways {
            Ways::One if self.swallowed => return,
            // One more copy comes below.
            Ways::All if self.swallowed => {
                (1..self.hubs.len()).for_each(|_| self.deliver(from, to, bytes.clone()))
            }
            _ => {}
        }
        for number in 0..self.before_each {
            let mut forged = bytes.clone();
            let at = forged.len() - 1 - number % 16;
            forged[at] ^= 1 + (number % 255) as u8;
            self.deliver(from, to, forged);
        }
        if self.link.is_none_or(|link| link(&mut bytes)) {
            self.deliver(from, to, bytes);
        }
    }

    /// Has client 0 begin a key whose receiver goes away before it hears of it; the link to it breaks.
    pub(crate) fn agree_while_unlinking(&mut self, wish: KeyWish) -> Option<Result<AgreedKey, SendFailure>> {
        self.next_request += 1;
        let (id, receivers) = (RequestId(self.next_request), wish.receivers.clone());
        self.cut = self.hubs.iter().map(|(hub, _)| *hub).collect();
        self.sender_input(0, SenderInput::Start { id, wish });
        self.settle();
        assert!(!self.ended.contains_key(&id), "a notice is awaited over a link");
        receivers.into_iter().for_each(|receiver| self.sender_input(0, SenderInput::Unlinked(receiver)));
        self.settle();
        self.ended.remove(&id)
    }

    /// Has a client establish who `subject` is.
    pub(crate) fn establish(
        &mut self,
        at: usize,
        subject: Subject,
    ) -> Result<EstablishedIdentity, IdentityFailure> {
        let hubs = self.hubs.iter().map(|(hub, _)| *hub).collect();
        let deadline = self.now + DEADLINE;
        self.clients[at].desk.handle(self.now, IdentityInput::Establish { subject, hubs, deadline });
        self.settle();
        self.decided.pop().expect("decided").1
    }

    /// Has a client ask further hubs about somebody whose identity is established.
    pub(crate) fn widen(&mut self, at: usize, known: EstablishedIdentity, hubs: Vec<NodeId>) {
        let deadline = self.now + DEADLINE;
        self.clients[at].desk.handle(self.now, IdentityInput::Widen { known, hubs, deadline });
        self.settle();
    }

    pub(crate) fn tick(&mut self) {
        while let Some(first) = self.on_the_way.first_entry().filter(|first| first.key().0 <= self.now) {
            self.to_clients.push_back(first.remove());
        }
        for at in 0..self.clients.len() {
            self.sender_input(at, SenderInput::Tick);
            let now = self.now;
            self.clients[at].receiver.handle(now, ReceiverInput::Tick);
            self.clients[at].desk.handle(now, IdentityInput::Tick);
        }
        self.settle();
    }

    fn sender_input(&mut self, at: usize, input: SenderInput) {
        self.clients[at].sender.handle(self.now, input, &mut self.rng);
    }

    /// A hub sends a client a key instruction of its own making, under a right tag.
    pub(crate) fn invent(&mut self, hub: NodeId, client: NodeId, agreement: Agreement) {
        let want = Want {
            peer: client,
            lane: Lane::Down,
            bytes: agreement.burned_bytes(Lane::Down),
            usage: Usage::Key,
        };
        let minted = self.pads.mint(hub, want).unwrap();
        let (range, (pad, tag_key)) = (minted.range, minted.pad.split().unwrap());
        let share = Blob(pad.into_bytes().to_vec());
        let instruction = KeyInstruction { range, agreement, key_tag: NO_KEY_TAG, share };
        self.to_clients.push_back((hub, client, seal(&instruction, tag_key).unwrap()));
        self.settle();
    }

    /// A hub's message reaches a client.
    pub(crate) fn hand_over(&mut self, hub: NodeId, client: NodeId, bytes: Vec<u8>) {
        self.to_clients.push_back((hub, client, bytes));
        self.settle();
    }

    /// The bytes of a run, as both ends of its table have them.
    pub(crate) fn run_bytes(&self, range: &PadRange) -> Vec<u8> {
        let lane = &self.pads.tables[&range.table].lanes[&range.lane];
        lane.bytes[range.offset as usize..range.end().unwrap() as usize].to_vec()
    }

    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for (at, input) in std::mem::take(&mut self.told_after) {
                busy = true;
                self.sender_input(at, input);
            }
            for at in 0..self.clients.len() {
                busy |= self.run_sender(at);
                busy |= self.run_receiver(at);
                busy |= self.run_desk(at);
            }
            while let Some((hub, client, bytes)) = self.to_clients.pop_front() {
                busy = true;
                let now = self.now;
                let client = self.clients.iter_mut().find(|c| c.id == client).unwrap();
                let id = RequestId(0);
                client.receiver.handle(now, ReceiverInput::KeyInstruction { id, from: hub, bytes });
            }
            if !busy {
                return;
            }
        }
    }

    fn run_sender(&mut self, at: usize) -> bool {
        let mut busy = false;
        while let Some(effect) = self.clients[at].sender.poll_effect() {
            busy = true;
            let me = self.clients[at].id;
            match effect {
                SenderEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(me, effect) {
                        self.sender_input(at, SenderInput::Pad(outcome));
                    }
                }
                SenderEffect::Send { block, hub, bytes } => {
                    let answer = Some(self.at_hub(hub, me, bytes));
                    self.sender_input(at, SenderInput::HubAnswer { block, hub, answer });
                }
                SenderEffect::Began { agreement, .. } => {
                    if agreement.is_round() {
                        self.tell_ends(at, &agreement);
                    }
                }
                SenderEffect::Choose { to, ways, bytes, .. } => self.over_the_link(me, to, ways, bytes),
                SenderEffect::Ended { id, result, .. } => {
                    self.ended.insert(id, result);
                }
            }
        }
        busy
    }

    /// Tells the sender of a round what is said of its end.
    fn tell_ends(&mut self, at: usize, round: &Agreement) {
        for (via, outcome) in std::mem::take(&mut self.told) {
            let notice = Notice { block: round.block(), outcome };
            self.told_after.push((at, SenderInput::Notice { from: round.receivers[0], via, notice }));
        }
    }

    /// Tells client 0 that a session is lost: whose word it is said to be, and who passes it on.
    pub(crate) fn tell_lost(&mut self, from: NodeId, via: NodeId, session: BlockId) {
        self.sender_input(0, SenderInput::SessionLost { from, via, session });
    }

    fn at_hub(&mut self, hub: NodeId, from: NodeId, bytes: Vec<u8>) -> Result<(), Refusal> {
        let position = self.hubs.iter().position(|(id, _)| *id == hub).unwrap();
        self.hubs[position].1.handle(self.now, HubInput::KeyRequest { id: RequestId(0), from, bytes });
        let mut answer = None;
        while let Some(effect) = self.hubs[position].1.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    let (outcome, record) = self.pads.execute(hub, effect);
                    for mut message in record.outgoing {
                        if let Some(tamper) = self.tamper {
                            tamper(&mut message.bytes);
                        }
                        let sent = (hub, message.receiver, message.bytes.clone());
                        self.passed_on.push(sent);
                        if self.cut.contains(&hub) || self.withheld_from == Some(message.receiver) {
                            continue;
                        }
                        let message = (hub, message.receiver, message.bytes);
                        match self.slow.get(&hub) {
                            Some(delay) => {
                                self.next_request += 1;
                                let at = (self.now + *delay, self.next_request);
                                self.on_the_way.insert(at, message);
                            }
                            None => self.to_clients.push_back(message),
                        }
                    }
                    if let Some(outcome) = outcome {
                        self.hubs[position].1.handle(self.now, HubInput::Pad(outcome));
                    }
                }
                HubEffect::KeyAnswer { result, .. } => answer = Some(result),
                HubEffect::Answer { .. } => unreachable!("no identity was asked for"),
            }
        }
        answer.expect("a hub answers every request")
    }

    fn run_receiver(&mut self, at: usize) -> bool {
        let mut busy = false;
        while let Some(effect) = self.clients[at].receiver.poll_effect() {
            busy = true;
            let (me, now) = (self.clients[at].id, self.now);
            match effect {
                ReceiverEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(me, effect) {
                        self.clients[at].receiver.handle(now, ReceiverInput::Pad(outcome));
                    }
                }
                ReceiverEffect::Establish(node) => {
                    let hubs = self.hubs.iter().map(|(hub, _)| *hub).filter(|hub| *hub != me).collect();
                    let (subject, deadline) = (Subject::Node(node), now + DEADLINE);
                    self.clients[at].desk.handle(now, IdentityInput::Establish { subject, hubs, deadline });
                }
                ReceiverEffect::Reconstruct { block, group, job } => {
                    let result = job.run(&mut self.rng, &|| false);
                    let input = ReceiverInput::Reconstructed { block, group, result };
                    self.clients[at].receiver.handle(now, input);
                }
                ReceiverEffect::Progress { agreement, outcome, .. } => {
                    let notice = Notice { block: agreement.block(), outcome };
                    self.notices.push((me, notice.clone()));
                    let sender =
                        self.clients.iter().position(|client| client.id == agreement.sender).unwrap();
                    // Of a round it comes through the hubs: a direct word of it counts for nothing.
                    let ways = agreement.roster.iter().map(|hub| Some(*hub));
                    let ways: Vec<_> = if agreement.is_round() { ways.collect() } else { vec![None] };
                    for via in ways {
                        let notice = notice.clone();
                        self.sender_input(sender, SenderInput::Notice { from: me, via, notice });
                    }
                }
                ReceiverEffect::Offer { to, ways, bytes, .. }
                | ReceiverEffect::Confirm { to, ways, bytes, .. } => {
                    self.over_the_link(me, to, ways, bytes);
                }
                ReceiverEffect::SessionLost { sender, session } => {
                    self.said_lost += 1;
                    let at = self.clients.iter().position(|client| client.id == sender).unwrap();
                    let hubs: Vec<_> = self.hubs.iter().map(|(hub, _)| *hub).collect();
                    for via in hubs.into_iter().take(self.voices) {
                        self.sender_input(at, SenderInput::SessionLost { from: me, via, session });
                    }
                }
                ReceiverEffect::Answer { .. }
                | ReceiverEffect::Began(_)
                | ReceiverEffect::Heard { .. }
                | ReceiverEffect::LateShare { .. } => {}
            }
        }
        busy
    }

    fn run_desk(&mut self, at: usize) -> bool {
        let mut busy = false;
        while let Some(effect) = self.clients[at].desk.poll_effect() {
            busy = true;
            let (me, now) = (self.clients[at].id, self.now);
            match effect {
                IdentityEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(me, effect) {
                        self.clients[at].desk.handle(now, IdentityInput::Pad(outcome));
                    }
                }
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    let bytes = self.identity_at_hub(hub, me, bytes);
                    self.clients[at].desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes });
                }
                IdentityEffect::Decided { subject, result } => {
                    if let Subject::Node(node) = subject {
                        let established = result.is_ok();
                        let input = ReceiverInput::Sender { node, established };
                        self.clients[at].receiver.handle(now, input);
                    }
                    self.decided.push((me, result));
                }
                IdentityEffect::Excluded { hub, .. } => self.excluded.push((me, hub)),
                IdentityEffect::Widened(established) => self.widened.push(established),
                IdentityEffect::Heard { .. } => {}
                IdentityEffect::Contradicted { hub, .. } => self.contradicted.push(hub),
            }
        }
        busy
    }

    fn identity_at_hub(&mut self, hub: NodeId, from: NodeId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let position = self.hubs.iter().position(|(id, _)| *id == hub).unwrap();
        self.hubs[position].1.handle(self.now, HubInput::Question { id: RequestId(0), from, bytes });
        let mut answer = None;
        while let Some(effect) = self.hubs[position].1.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => {
                    if let (Some(outcome), _) = self.pads.execute(hub, effect) {
                        self.hubs[position].1.handle(self.now, HubInput::Pad(outcome));
                    }
                }
                HubEffect::Answer { result, .. } => answer = Some(result),
                HubEffect::KeyAnswer { .. } => unreachable!("no key was asked for"),
            }
        }
        answer.expect("a hub answers every request").ok()
    }

    /// Has a client ask all hubs but itself who somebody is.
    pub(crate) fn ask_by_name(&mut self, at: usize, name: Name) {
        let me = self.clients[at].id;
        let hubs = self.hubs.iter().map(|(hub, _)| *hub).filter(|hub| *hub != me).collect();
        let (subject, deadline) = (Subject::Name(name), self.now + DEADLINE);
        self.clients[at].desk.handle(self.now, IdentityInput::Establish { subject, hubs, deadline });
        self.settle();
    }

    /// What a client has come to know last.
    pub(crate) fn decided(&self, at: usize) -> Result<EstablishedIdentity, IdentityFailure> {
        let of = |(who, _): &&(NodeId, _)| *who == self.clients[at].id;
        self.decided.iter().rev().find(of).expect("a decision").1.clone()
    }

    /// The last verdict of a receiver.
    pub(crate) fn verdict(&self, client: usize) -> &NoticeOutcome {
        let id = client_id(client);
        &self.notices.iter().rev().find(|(from, _)| *from == id).expect("a verdict").1.outcome
    }
}

/// Why a receiver gave up, where it did.
pub(crate) fn abort_reason(outcome: &NoticeOutcome) -> Option<&AbortReason> {
    match outcome {
        NoticeOutcome::Aborted(reason) => Some(reason),
        NoticeOutcome::Validated { .. } => None,
    }
}
