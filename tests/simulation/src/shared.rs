//! What all nodes of a simulated network share: time, chance, the network, and the checker.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use dske_protocol::{
    Reconstructed,
    enrolment::Signature,
    ids::{BlockId, BlockNonce, KeyId, Name, NodeId},
    limits::Limits,
    message::{Identity, Nonce},
    params::Validate,
    quota::DefaultQuota,
    room::OutboxLimits,
    sync::SyncHello,
};

use crate::{
    checker::Checker,
    lies::Kit,
    packet::{Packet, Wire},
    process::Part,
    rng::{Digest, Rng},
    scenario::Network,
};

/// Microseconds since the start.
pub(crate) type Micros = u64;

pub(crate) const MILLI: Micros = 1000;
pub(crate) const SECOND: Micros = 1_000_000;

/// An exchange that has no answer so long has failed.
pub(crate) const EXCHANGE_TIMEOUT: Micros = 5 * SECOND;

/// Captured messages that an outsider may use again.
const CAPTURED_MAX: usize = 96;

/// Events that are remembered for the report of a failure.
pub(crate) const NOTES_MAX: usize = 40;

/// What happens, to whom.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        link: u64,
        packet: Packet,
    },
    /// The thread that reads and reserves has work.
    Pads(usize, u32),
    /// The thread that commits has work.
    Commits(usize, u32),
    Erase(usize, u32),
    Settle(usize, u32),
    /// A part of a process that has both roles takes in what came for it.
    Heard(usize, u32, Part),
    /// A deadline of a machine or a look at what waits.
    Timer(usize, u32),
    ExchangeOver(usize, u32, Wire),
    Reconstructed {
        node: usize,
        epoch: u32,
        block: BlockId,
        group: usize,
        result: Box<Reconstructed>,
    },
    /// An application asks for a key.
    Fetch(usize, KeyId),
    Wish(usize),
    /// The operator of a client sets other limits.
    Limits(usize),
    /// A client opens agreements in numbers.
    Flood(usize),
    Connect(usize, usize),
    Restart(usize),
    /// A fault of the script.
    Fault(usize),
    Heal,
}

/// A connection between two nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Counts connections, so that what belongs to an old one is told apart.
    pub(crate) number: u64,
    /// Partitions that stand between the two.
    pub(crate) blocked: u32,
}

/// What does not change in a run.
pub(crate) struct Plan {
    pub(crate) ids: Vec<NodeId>,
    pub(crate) names: Vec<Name>,
    /// What each client has signed, for its hubs: as a rule one identity.
    pub(crate) signed: Vec<Vec<(Identity, Signature)>>,
    /// Nodes from 0 on that are hubs.
    pub(crate) hubs: usize,
    /// Nodes from this one on are clients: all of them, where they are hubs as well.
    pub(crate) first_client: usize,
    pub(crate) k_min: u8,
    pub(crate) k: u8,
    /// Hubs per roster; 0 for all.
    pub(crate) n: u8,
    /// Of receivers, for shares.
    pub(crate) deadline: Micros,
    pub(crate) validate: Validate,
    /// What the share of an honest hub takes longer, least and most.
    pub(crate) honest_late: [Micros; 2],
    pub(crate) kits: Vec<Option<Kit>>,
    /// Chance that two clients have a link.
    pub(crate) established: bool,
    pub(crate) key_bytes_max: u64,
    /// Whether most keys for one receiver are rounds of the Adapted protocol.
    pub(crate) rounds: bool,
    /// Whether receivers have places for few agreements at once.
    pub(crate) cramped: bool,
    /// Of hubs.
    pub(crate) default_quota: DefaultQuota,
    /// Whether receivers set limits.
    pub(crate) limits: bool,
    /// Of messages that wait at a hub.
    pub(crate) outbox: OutboxLimits,
}

impl Plan {
    pub(crate) fn is_hub(&self, node: usize) -> bool {
        node < self.hubs
    }

    /// Whether whom an identity is about has signed it. All that liars sign is of clients that do not exist.
    pub(crate) fn is_signed(&self, identity: &Identity) -> bool {
        match self.index(&identity.node) {
            Some(at) => self.signed[at].iter().any(|(signed, _)| signed == identity),
            None => identity.node == dske_protocol::enrolment::node_of(&crate::lies::MADE_UP),
        }
    }

    pub(crate) fn is_client(&self, node: usize) -> bool {
        node >= self.first_client
    }

    /// Whether nodes are hub and client for each other.
    pub(crate) fn is_consortium(&self) -> bool {
        self.first_client < self.hubs
    }

    pub(crate) fn clients(&self) -> std::ops::Range<usize> {
        self.first_client..self.ids.len()
    }

    /// Every hub with each of its clients.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (hubs, clients) = (0..self.hubs, self.clients());
        hubs.flat_map(move |hub| clients.clone().map(move |client| (hub, client))).filter(|(a, b)| a != b)
    }

    /// The most hubs of a key for so many receivers: none of them is one, nor is its sender.
    pub(crate) fn hubs_of_a_key(&self, receivers: usize) -> usize {
        if self.is_consortium() { self.hubs.saturating_sub(1 + receivers) } else { self.hubs }
    }

    pub(crate) fn index(&self, id: &NodeId) -> Option<usize> {
        self.ids.iter().position(|known| known == id)
    }
}

/// A wish of an application.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) client: usize,
    pub(crate) receivers: Vec<usize>,
    pub(crate) key_bytes: u32,
    pub(crate) k: u8,
    pub(crate) n: u8,
    /// Of somebody else's agreement, for this one.
    pub(crate) nonce: Option<BlockNonce>,
    pub(crate) timeout: Micros,
    pub(crate) state: WishState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WishState {
    Planned,
    /// Under way since the given start of the client.
    Open(u32),
    Ended,
    /// The client's process ended meanwhile.
    Lost,
}

/// One remembered event.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    step: u64,
    at: Micros,
    kind: &'static str,
    numbers: [u64; 3],
    text: Option<String>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, at, kind, numbers: [one, two, three], text } = self;
        let at = *at as f64 / MILLI as f64;
        match text {
            Some(text) => write!(f, "{step:>7} {at:>12.3} ms  {kind}: {text}"),
            None => write!(f, "{step:>7} {at:>12.3} ms  {kind} {one} {two} {three:x}"),
        }
    }
}

/// How much is told of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Telling {
    /// Numbers alone, which cost little.
    Numbers,
    /// Words, for the last events before a failure.
    Words,
    /// Words, printed at once.
    Aloud,
}

/// See the head of the file.
pub(crate) struct Shared {
    pub(crate) now: Micros,
    pub(crate) rng: Rng,
    pub(crate) queue: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    pub(crate) checker: Checker,
    pub(crate) wishes: Vec<Wish>,
    /// By node: what its operator wants to be in force at hubs.
    pub(crate) limits: Vec<Limits>,
    /// Keys that applications have heard of.
    pub(crate) heard_of: BTreeSet<(usize, BlockId)>,
    pub(crate) captured: Vec<(usize, usize, Packet)>,
    pub(crate) notes: VecDeque<Note>,
    pub(crate) telling: Telling,
    pub(crate) digest: Digest,
    pub(crate) step: u64,
    next_wire: Wire,
    /// After this everything heals, and the network behaves.
    pub(crate) healed: bool,
}

impl Shared {
    pub(crate) fn new(rng: Rng, plan: Plan, network: Network, checker: Checker, telling: Telling) -> Self {
        Self {
            now: 0,
            rng,
            queue: BTreeMap::new(),
            next_event: 0,
            limits: vec![Limits::default(); plan.ids.len()],
            plan,
            network,
            links: BTreeMap::new(),
            checker,
            wishes: Vec::new(),
            heard_of: BTreeSet::new(),
            captured: Vec::new(),
            notes: VecDeque::new(),
            telling,
            digest: Digest::default(),
            step: 0,
            next_wire: 0,
            healed: false,
        }
    }

    pub(crate) fn at(&mut self, when: Micros, event: Event) {
        self.next_event += 1;
        self.queue.insert((when.max(self.now), self.next_event), event);
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn wire(&mut self) -> Wire {
        self.next_wire += 1;
        self.next_wire
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        self.checker.count(what);
    }

    /// Remembers what happens, for the report of a failure, and takes it into the digest.
    pub(crate) fn note(&mut self, kind: &'static str, numbers: [u64; 3], text: impl FnOnce() -> String) {
        self.digest.number(self.now);
        self.digest.number(kind.len() as u64);
        numbers.iter().for_each(|number| self.digest.number(*number));
        let text = (self.telling > Telling::Numbers).then(text);
        let note = Note { step: self.step, at: self.now, kind, numbers, text };
        if self.telling == Telling::Aloud {
            println!("{note}");
        }
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    pub(crate) fn link(&mut self, one: usize, other: usize) -> &mut Link {
        self.links.entry((one.min(other), one.max(other))).or_default()
    }

    pub(crate) fn is_up(&self, one: usize, other: usize) -> bool {
        self.links.get(&(one.min(other), one.max(other))).is_some_and(|link| link.up)
    }

    /// Puts a packet on its way; the network does with it what the scenario says.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: Packet, extra: Micros) {
        let link = *self.link(from, to);
        self.note("send", [from as u64, to as u64, packet.fingerprint()], || {
            format!("{from} → {to} {packet}")
        });
        if !link.up {
            return;
        }
        let quiet = self.healed;
        if packet.sealed().is_some() {
            let captured = (from, to, packet.clone());
            if self.captured.len() < CAPTURED_MAX {
                self.captured.push(captured);
            } else {
                let at = self.rng.index(CAPTURED_MAX);
                self.captured[at] = captured;
            }
        }
        if !quiet {
            self.interfere(from, to, link.number);
            self.forge_link(from, to, link.number, &packet);
            if self.rng.chance(self.network.loss) {
                self.count("messages lost");
                return;
            }
            if self.rng.chance(self.network.duplicate) {
                self.count("messages duplicated");
                let delay = self.delay();
                let copy = Event::Deliver { from, to, link: link.number, packet: packet.clone() };
                self.after(delay + extra, copy);
            }
        }
        let mut packet = packet;
        if !quiet && self.rng.chance(self.network.corrupt) {
            let at = self.rng.index(self.captured.len());
            let other = self.captured.get(at).and_then(|(_, _, other)| other.sealed().cloned());
            let how = packet.damage(&mut self.rng, other.as_deref());
            self.count(how);
        }
        if !quiet
            && self.rng.chance(self.network.hellos)
            && let Some(lie) = packet.lie_in_hello(&mut self.rng)
        {
            self.count(lie);
        }
        let mark = matches!(packet, Packet::Mark(..) | Packet::MarkAnswer(..));
        if !quiet && mark && self.rng.chance(self.network.withhold) {
            self.count("marks withheld");
            return;
        }
        let delay = self.delay() + extra;
        self.after(delay, Event::Deliver { from, to, link: link.number, packet });
    }

    /// What the share of an honest hub takes longer.
    pub(crate) fn honest_late(&mut self) -> Micros {
        let [least, most] = self.plan.honest_late;
        if most == 0 { 0 } else { self.rng.within(least..=most) }
    }

    fn delay(&mut self) -> Micros {
        let [low, high] = self.network.delay_ms;
        let delay = self.rng.within(low as u64 * MILLI..=high as u64 * MILLI);
        if !self.healed && self.rng.chance(self.network.slow) {
            self.count("messages slow");
            delay * self.rng.within(10..=100)
        } else {
            delay
        }
    }

    /// What outsiders add before a message about a round.
    fn forge_link(&mut self, from: usize, to: usize, number: u64, packet: &Packet) {
        if let Packet::Link(link) = packet
            && self.rng.chance(self.network.forge_links)
        {
            for packet in crate::lies::forged_link(self, link) {
                self.count("messages about rounds forged");
                let delay = self.rng.below(MILLI);
                self.after(delay, Event::Deliver { from, to, link: number, packet });
            }
        }
    }

    /// What outsiders add.
    fn interfere(&mut self, from: usize, to: usize, link: u64) {
        if self.rng.chance(self.network.replay)
            && let Some((from, to, packet)) = self.rng.pick(&self.captured).cloned()
        {
            self.count("messages replayed");
            let (wire, number) = (self.wire(), self.link(from, to).number);
            let delay = self.delay();
            self.after(delay, Event::Deliver { from, to, link: number, packet: packet.with_wire(wire) });
        }
        if self.rng.chance(self.network.hellos)
            && let Some((from, to, table)) = self.checker.lanes.some_table(&mut self.rng)
        {
            // A hello of nobody.
            self.count("hellos invented");
            let (wire, number) = (self.wire(), self.link(from, to).number);
            let hello = SyncHello { table, nonce: Nonce::random(&mut self.rng.0) };
            let delay = self.delay();
            self.after(
                delay,
                Event::Deliver { from, to, link: number, packet: Packet::SyncHello(wire, hello) },
            );
        }
        if self.rng.chance(self.network.forge) {
            self.count("messages forged");
            let wire = self.wire();
            let packet = crate::lies::forged(self, from, to, wire);
            let delay = self.delay();
            self.after(delay, Event::Deliver { from, to, link, packet });
        }
    }
}
