//! A simulated network from its seed to its end.

mod judge;

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    enrolment,
    ids::{Name, NodeId, TableId},
    limits::{Limit, Limits},
    message::Identity,
    params::{KEY_BYTES_MAX, Validate, disruption_threshold},
    quota::{DefaultQuota, Quota},
    receiver::ReceiverInput,
    room::OutboxLimits,
};
use dske_storage::{
    ClientRecord, IdentityRecord, TableSide, Transaction,
    simulation::{SimDevice, SimJob, SimSizes, SimStore, SimTable},
};

use crate::{
    checker::{Bounds, Checker, Invariant, Moment},
    faults::Fault,
    lies::{CLIENT_LIES, HUB_LIES, Kit, Lie},
    packet::Packet,
    process::Process,
    rng::Rng,
    scenario::{Budget, Liars, Scenario, Shape},
    shared::{Event, MILLI, Micros, Plan, SECOND, Shared, Telling, Wish, WishState},
};

/// By then everybody has met everybody, where nothing goes wrong.
const SETTLED: Micros = 800 * MILLI;
/// Faults and wishes come within this time.
pub(crate) const BUSY: Micros = 10 * SECOND;
/// Then everything heals.
pub(crate) const HEALED: Micros = 12 * SECOND;
/// And by then everything must have ended.
pub(crate) const END: Micros = HEALED + 45 * SECOND;
/// What cannot be done is tried again every now and then for ever: a run ends at the first moment after its end at
/// which nothing is under way, and something that is under way all this time hangs. What a flood leaves behind takes long:
/// a receiver gives the inventions of a hub a few places at a time, each until its deadline.
const LAST_WORK: Micros = 600 * SECOND;

/// Of the longest key of a seed, in all lanes together: most KiB.
const LONG_KEYS_KIB_MAX: usize = 16 << 10;

/// Most events of one run: far more than any has.
const STEPS_MAX: u64 = 2_000_000;

/// A node: its device, and its process while it runs.
pub(crate) struct Node {
    pub(crate) device: SimDevice,
    pub(crate) process: Option<Process>,
    pub(crate) identity: [u8; 16],
    pub(crate) sizes: SimSizes,
    /// Number of its starts.
    pub(crate) epoch: u32,
    pub(crate) clock_ahead: Micros,
    pub(crate) snapshot: Option<crate::faults::Snapshot>,
    /// A restart is on its way.
    pub(crate) restarting: bool,
}

/// See the head of the file.
pub(crate) struct World {
    pub(crate) shared: Shared,
    pub(crate) nodes: Vec<Node>,
    pub(crate) faults: Vec<Fault>,
    /// Bad hubs that nobody can reach.
    pub(crate) away: BTreeSet<NodeId>,
}

impl World {
    /// Draws a world.
    pub(crate) fn new(seed: u64, scenario: &Scenario, telling: Telling) -> Self {
        let mut rng = Rng::new(seed ^ crate::rng::digest(scenario.name.as_bytes()));
        let shape = &scenario.world;
        let large = rng.chance(shape.large);
        let peers = if shape.peers == [0, 0] { 0 } else { rng.between(shape.peers) };
        let (hubs, clients) = match peers {
            0 if large && is_long(shape) => (rng.between([7, 20]), rng.between(shape.clients)),
            0 if large => (rng.between([7, 20]), rng.between([2, 10])),
            0 => (rng.between(shape.hubs), rng.between(shape.clients)),
            // All of them are both.
            peers => (peers, 0),
        };
        let first_client = if peers > 0 { 0 } else { hubs };
        // Neither the sender nor the receiver of a key is a hub of it.
        let most = if peers > 0 { hubs - 2 } else { hubs };
        let k = rng.within(1..=most as u64) as u8;
        let k_min = rng.within(1..=u64::from(k)) as u8;
        let secrets: Vec<[u8; 32]> =
            (first_client..hubs + clients).map(|_| *NodeId::random(&mut rng.0).as_bytes()).collect();
        let ids: Vec<NodeId> = (0..first_client).map(|_| NodeId::random(&mut rng.0)).collect();
        let ids: Vec<NodeId> = ids.into_iter().chain(secrets.iter().map(enrolment::node_of)).collect();
        let name = |at: usize| if at < hubs { format!("p{at}") } else { format!("c{}", at - hubs) };
        let names: Vec<Name> =
            (0..hubs + clients).map(|at| name(at).parse().expect("a short name")).collect();
        let n = most as u8;
        let bad = match scenario.liars.hubs {
            Budget::None => 0,
            Budget::Within => rng.below(u64::from(disruption_threshold(n, k, k_min))),
            Budget::Near => rng.within(0..=u64::from(disruption_threshold(n, k, k_min))),
            Budget::Safe => rng.below(u64::from(k_min)),
            Budget::Any => rng.within(0..=most as u64),
        };
        let mut order: Vec<usize> = (0..hubs).collect();
        rng.shuffle(&mut order);
        let mut kits: Vec<Option<Kit>> = vec![None; hubs + clients];
        let mut away = BTreeSet::new();
        for &hub in order.iter().take(bad as usize) {
            if peers == 0 && rng.chance(0.25) {
                away.insert(ids[hub]);
            } else {
                kits[hub] = draw_kit(&mut rng, &scenario.liars, &HUB_LIES);
            }
        }
        if peers == 0 && rng.chance(scenario.liars.clients) {
            let client = hubs + rng.index(clients);
            kits[client] = draw_kit(&mut rng, &scenario.liars, &CLIENT_LIES);
        }
        let signed = (0..hubs + clients).map(|at| {
            let Some(secret) = at.checked_sub(first_client).map(|client| &secrets[client]) else {
                return Vec::new();
            };
            let identity = Identity { node: ids[at], name: names[at].clone(), applications: Vec::new() };
            let mut signed = vec![identity];
            if kits[at].as_ref().is_some_and(|kit| kit.has(Lie::EnrolledOtherwise)) {
                let mut other = signed[0].clone();
                if rng.chance(0.5) {
                    other.applications.push("other".to_owned());
                } else {
                    other.name = format!("{}-other", other.name).parse().expect("a short name");
                }
                signed.push(other);
            }
            signed
                .into_iter()
                .map(|identity| (identity.clone(), enrolment::sign(secret, &identity)))
                .collect()
        });
        let signed = signed.collect();
        let plan = Plan {
            ids: ids.clone(),
            names: names.clone(),
            signed,
            hubs,
            first_client,
            k_min,
            k,
            n: if rng.chance(0.2) { rng.within(u64::from(k)..=u64::from(n)) as u8 } else { 0 },
            deadline: rng.within(2..=4) * SECOND,
            validate: if seed % 4 == 3 { Validate::All } else { Validate::First },
            established: rng.chance(shape.established),
            honest_late: scenario.liars.honest_late_ms.map(|ms| ms as u64 * MILLI),
            key_bytes_max: KEY_BYTES_MAX,
            rounds: scenario.world.rounds,
            cramped: scenario.world.cramped,
            default_quota: if scenario.world.quotas { draw_default(&mut rng) } else { DefaultQuota::None },
            limits: scenario.world.quotas,
            outbox: match scenario.world.outbox_kib as u64 {
                0 => OutboxLimits::NONE,
                kib => OutboxLimits { receiver_bytes_max: kib << 10, bytes_max: 2 * (kib << 10) },
            },
            kits,
        };
        let safe = bad < u64::from(k_min);
        let identifiable = plan.established || 2 * bad < u64::from(n);
        // Neither quotas nor a liar among the clients may hinder a wish then.
        let calm = scenario.sharp && bad == 0 && !plan.limits;
        let bounds = Bounds { sharp: scenario.sharp, calm, safe, k_min, identifiable };
        let mut checker = Checker::new(ids.clone(), bounds);
        checker.quotas.default = plan.default_quota;
        let colluding = |kit: &Kit| {
            [Lie::EqualErrors, Lie::CancellingErrors, Lie::Products].into_iter().any(|lie| kit.has(lie))
        };
        checker.colluding = plan.kits.iter().flatten().filter(|kit| colluding(kit)).count() > 1;
        for (at, kit) in plan.kits.iter().enumerate() {
            if kit.is_some() {
                if plan.is_hub(at) {
                    checker.bad_hubs.insert(ids[at]);
                }
                if plan.is_client(at) {
                    checker.bad_clients.insert(ids[at]);
                }
            }
        }
        let shared = Shared::new(rng, plan, scenario.network.clone(), checker, telling);
        let mut world = Self { shared, nodes: Vec::new(), faults: Vec::new(), away };
        let longest = longest_key(&mut world.shared, shape);
        world.found(scenario, large, longest);
        world.plan_wishes(scenario, large, longest);
        world.plan_limits(scenario);
        world.plan_floods();
        world.plan_faults(scenario);
        world
    }

    /// Makes all stores, with their tables. `longest`: of the keys, where they are long.
    fn found(&mut self, scenario: &Scenario, large: bool, longest: Option<usize>) {
        let shared = &mut self.shared;
        let count = shared.plan.ids.len();
        let sizes = SimSizes {
            chunk_bytes_max: 65_536,
            journal_bytes: 8192 + (shared.rng.within(4..=24) << 10),
            segment_bytes: shared.rng.within(2..=12) << 10,
        };
        for _ in 0..count {
            let device = SimDevice::new();
            let mut identity = [0; 16];
            shared.rng.fill(&mut identity);
            SimStore::create(&device, identity, sizes).expect("a new device works");
            let node = Node {
                device,
                process: None,
                identity,
                sizes,
                epoch: 0,
                clock_ahead: 0,
                snapshot: None,
                restarting: false,
            };
            self.nodes.push(node);
        }
        let stores: Vec<SimStore> = self
            .nodes
            .iter()
            .map(|node| SimStore::load(&node.device, node.identity, node.sizes).expect("a new store opens"))
            .collect();
        for (hub, client) in shared.plan.pairs() {
            let tables = if large { 1 } else { shared.rng.between(scenario.world.tables) };
            for number in 0..tables {
                let kib = match longest {
                    None if large => scenario.world.large_lane_kib,
                    _ => shared.rng.between(scenario.world.lane_kib),
                };
                let lane_bytes = (kib << 10) + longest.map_or(0, |longest| keys_of_a_lane(longest, scenario));
                let table = TableId::random(&mut shared.rng.0);
                let (up, down) = (shared.rng.bytes(lane_bytes), shared.rng.bytes(lane_bytes));
                let pending = shared.rng.chance(scenario.world.pending);
                let half = |peer: usize, side, pending| SimTable {
                    table,
                    serial: format!("p{hub}-{client}-{number}"),
                    peer: shared.plan.ids[peer],
                    peer_name: shared.plan.names[peer].clone(),
                    side,
                    pending,
                    up: &up,
                    down: &down,
                };
                stores[hub].install(&half(client, TableSide::Hub, false)).expect("a table");
                stores[client].install(&half(hub, TableSide::Client, pending)).expect("a table");
                shared.checker.lanes.add(table, hub, client, up, down);
            }
        }
        let hubs = shared.plan.hubs;
        let mut odd = BTreeSet::new();
        let twice = |client: &usize| shared.plan.signed[*client].len() > 1;
        let twice: Vec<usize> = shared.plan.clients().filter(twice).collect();
        for client in twice {
            // A minority, so that the client can be known at all.
            let mut order: Vec<usize> = (0..hubs).collect();
            shared.rng.shuffle(&mut order);
            let few = shared.rng.index(hubs.div_ceil(2));
            odd.extend(order.into_iter().take(few).map(|hub| (hub, client)));
            shared.count(Lie::EnrolledOtherwise.name());
        }
        for (at, store) in stores.iter().enumerate() {
            let mut records = Transaction::default();
            for client in shared.plan.clients().filter(|&client| client != at) {
                let signed = &shared.plan.signed[client];
                let (identity, signature) = &signed[usize::from(odd.contains(&(at, client)))];
                let Identity { node, name, applications } = identity.clone();
                let known_as = (0..hubs)
                    .filter(|&hub| hub != client && !odd.contains(&(hub, client)))
                    .map(|hub| (shared.plan.ids[hub], 7))
                    .collect();
                if shared.plan.is_hub(at) {
                    let (name, applications) = (name.clone(), applications.clone());
                    records.clients.push(ClientRecord {
                        node,
                        name,
                        local_id: client as u64,
                        applications,
                        signature: *signature,
                        enabled: true,
                        enrolled_ms: 0,
                    });
                }
                if shared.plan.is_client(at) && shared.plan.established {
                    records.identities.push(IdentityRecord {
                        node,
                        name,
                        applications,
                        known_as,
                        established_ms: 0,
                    });
                }
            }
            store.commit_group(vec![SimJob::Commit(Box::new(records))]);
            store.settle().expect("a new device works");
        }
        for (hub, client) in shared.plan.pairs() {
            let gone = self.away.contains(&shared.plan.ids[hub]);
            shared.link(hub, client).blocked = u32::from(gone);
        }
        for one in shared.plan.clients() {
            for other in one + 1..count {
                if shared.rng.chance(scenario.world.links) {
                    shared.link(one, other);
                }
            }
        }
        drop(stores);
        for node in 0..count {
            self.restart(node);
        }
    }

    fn plan_wishes(&mut self, scenario: &Scenario, large: bool, longest: Option<usize>) {
        let shared = &mut self.shared;
        let clients = shared.plan.clients();
        let mut number = shared.rng.between(scenario.world.wishes);
        if large {
            number = number.min(3);
        }
        // Where nothing else may go wrong, hubs and receivers have compared their marks by then: until it has, a hub
        // refuses, for it could not deliver.
        let settled = if scenario.network.slow > 0.0 { 4 * SECOND } else { SETTLED };
        let first = if scenario.sharp { settled } else { 100 * MILLI };
        // Some come after everything has healed: life goes on.
        for wish in 0..=number {
            let client = clients.start + shared.rng.index(clients.len());
            let mut others: Vec<usize> = clients.clone().filter(|&other| other != client).collect();
            shared.rng.shuffle(&mut others);
            let receivers = 1 + if shared.rng.chance(scenario.world.groups) {
                shared.rng.index(others.len().min(3))
            } else {
                0
            };
            others.truncate(receivers);
            // A group among peers leaves fewer hubs.
            while shared.plan.hubs_of_a_key(others.len()) < usize::from(shared.plan.k) {
                others.pop();
            }
            let hubs = shared.plan.hubs_of_a_key(others.len());
            let k = if shared.rng.chance(0.8) {
                shared.plan.k
            } else {
                shared.rng.within(u64::from(shared.plan.k_min)..=hubs as u64) as u8
            };
            let [least, most] = scenario.world.key_bytes;
            let key_bytes = match longest {
                Some(longest) => {
                    let [least, _] = scenario.world.long_key_kib;
                    shared.rng.between([(least << 10).max(longest / 2), longest])
                }
                None if shared.rng.chance(0.05) => shared.rng.between([most, 3000.max(most)]),
                None => shared.rng.between([least, most]),
            };
            let wish_at = if wish == number {
                HEALED + shared.rng.within(SECOND..=4 * SECOND)
            } else {
                shared.rng.within(first..=BUSY)
            };
            shared.wishes.push(Wish {
                client,
                receivers: others,
                key_bytes: key_bytes as u32,
                k,
                n: shared.plan.n.max(if shared.plan.n > 0 { k } else { 0 }),
                nonce: None,
                // Where slow messages may hinder nothing there is time for a negotiation key before the round.
                timeout: if scenario.sharp && scenario.world.rounds {
                    20 * SECOND
                } else {
                    shared.rng.within(4..=12) * SECOND
                },
                state: WishState::Planned,
            });
            shared.at(wish_at, Event::Wish(wish));
        }
        shared.at(HEALED, Event::Heal);
    }

    /// When clients open agreements in numbers.
    fn plan_floods(&mut self) {
        let shared = &mut self.shared;
        for client in shared.plan.clients() {
            let kit = shared.plan.kits[client].as_ref();
            if kit.is_none_or(|kit| !kit.has(Lie::OpensMany)) {
                continue;
            }
            for _ in 0..shared.rng.within(1..=3) {
                let at = shared.rng.within(SETTLED..=BUSY);
                shared.at(at, Event::Flood(client));
            }
        }
    }

    /// What receivers let others burn, and when they change it.
    fn plan_limits(&mut self, scenario: &Scenario) {
        let shared = &mut self.shared;
        if !shared.plan.limits {
            return;
        }
        let first = if scenario.sharp { SETTLED } else { 100 * MILLI };
        for client in shared.plan.clients() {
            for _ in 0..shared.rng.below(4) {
                let at = shared.rng.within(first..=BUSY);
                shared.at(at, Event::Limits(client));
            }
        }
    }

    /// Runs to the end. What must not be is in the checker then.
    pub(crate) fn run(&mut self) {
        while self.shared.checker.violation.is_none() {
            let Some((&(at, number), _)) = self.shared.queue.first_key_value() else { break };
            if at > END && (self.is_idle() || at > END + LAST_WORK) {
                break;
            }
            if self.shared.step >= STEPS_MAX {
                self.shared.checker.fail(Invariant::NoHang, format!("{STEPS_MAX} events, and no end"));
                return;
            }
            let Some(event) = self.shared.queue.remove(&(at, number)) else { break };
            self.shared.now = at;
            self.shared.step += 1;
            self.shared.checker.moment = Moment { at, step: self.shared.step };
            self.event(event);
        }
        if self.shared.checker.violation.is_none() {
            self.judge();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, link, packet } => self.deliver(from, to, link, packet),
            Event::Pads(node, epoch) => self.with(node, Some(epoch), |process, shared| {
                let many = process.core.begin_pads(shared);
                for _ in 0..many {
                    if let Some(done) = process.core.next_pad(shared) {
                        process.done(shared, done);
                    }
                    if process.core.dead {
                        break;
                    }
                }
                process.core.end(shared);
            }),
            Event::Commits(node, epoch) => self.with(node, Some(epoch), |process, shared| {
                for done in process.core.commit(shared) {
                    process.done(shared, done);
                }
                process.core.end(shared);
            }),
            Event::Erase(node, epoch) => self.with(node, Some(epoch), |process, _| process.core.erase()),
            Event::Settle(node, epoch) => self.with(node, Some(epoch), |process, _| process.core.settle()),
            Event::Timer(node, epoch) => self.with(node, Some(epoch), |process, shared| {
                if process.core.timer.is_some_and(|at| at <= shared.now) {
                    process.core.timer = None;
                    process.tick(shared);
                }
            }),
            Event::Heard(node, epoch, part) => {
                self.with(node, Some(epoch), |process, shared| process.heard(shared, part));
            }
            Event::ExchangeOver(node, epoch, wire) => self.with(node, Some(epoch), |process, shared| {
                process.unanswered(shared, wire);
            }),
            Event::Reconstructed { node, epoch, block, group, result } => {
                self.with(node, Some(epoch), |process, shared| {
                    let input = ReceiverInput::Reconstructed { block, group, result: *result };
                    process.reconstructed(shared, input);
                });
            }
            Event::Fetch(node, key) => {
                self.with(node, None, |process, shared| process.core.take(shared, key))
            }
            Event::Wish(wish) => {
                let client = self.shared.wishes[wish].client;
                self.shared.note("wish", [wish as u64, client as u64, 0], || format!("{wish} of {client}"));
                self.with(client, None, |process, shared| process.wish(shared, wish));
            }
            Event::Flood(client) => self.with(client, None, |process, shared| process.flood(shared)),
            Event::Limits(client) => {
                self.shared.limits[client] = draw_limits(&mut self.shared.rng, &self.shared.plan, client);
                self.shared.count("limits set anew");
                self.with(client, None, |process, shared| process.set_limits(shared));
            }
            Event::Connect(one, other) => self.connect(one, other),
            Event::Restart(node) => self.restart(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Heal => self.heal(),
        }
    }

    /// Lets a process that runs, of the given start, do something; then sees to its end and its timers.
    pub(crate) fn with(
        &mut self,
        node: usize,
        epoch: Option<u32>,
        work: impl FnOnce(&mut Process, &mut Shared),
    ) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if epoch.is_some_and(|epoch| epoch != process.core.epoch) {
            return;
        }
        work(process, &mut self.shared);
        if let Some(text) = process.unbounded() {
            self.shared.checker.fail(Invariant::Bounded, format!("node {node}: {text}"));
        }
        if process.core.dead {
            self.power_failed(node);
        } else {
            process.arm(&mut self.shared);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, link: u64, packet: Packet) {
        let now = *self.shared.link(from, to);
        if !now.up || now.number != link {
            return;
        }
        self.shared.note("deliver", [from as u64, to as u64, packet.fingerprint()], || {
            format!("{from} → {to} {packet}")
        });
        self.with(to, None, |process, shared| process.packet(shared, from, packet));
    }

    fn connect(&mut self, one: usize, other: usize) {
        let both = self.nodes[one].process.is_some() && self.nodes[other].process.is_some();
        let link = self.shared.link(one, other);
        if !both || link.up || link.blocked > 0 {
            return;
        }
        link.up = true;
        link.number += 1;
        self.shared.note("connect", [one as u64, other as u64, 0], || format!("{one} – {other}"));
        for (node, peer) in [(one, other), (other, one)] {
            self.with(node, None, |process, shared| process.connection(shared, peer, true));
        }
    }

    /// Ends a connection. Both ends notice, and what was under way between them fails.
    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        let link = self.shared.link(one, other);
        if !link.up {
            return;
        }
        link.up = false;
        self.shared.note("disconnect", [one as u64, other as u64, 0], || format!("{one} – {other}"));
        for (node, peer) in [(one, other), (other, one)] {
            self.with(node, None, |process, shared| {
                process.connection(shared, peer, false);
                let open: Vec<_> = process
                    .core
                    .exchanges
                    .iter()
                    .filter(|(_, exchange)| exchange.to == peer)
                    .map(|(&wire, _)| wire)
                    .collect();
                open.into_iter().for_each(|wire| process.unanswered(shared, wire));
            });
        }
        let pause = self.shared.rng.within(100 * MILLI..=2 * SECOND);
        self.shared.after(pause, Event::Connect(one, other));
    }

    /// Connects a node with all its peers, soon.
    pub(crate) fn connect_all(&mut self, node: usize) {
        let peers: Vec<(usize, usize)> =
            self.shared.links.keys().copied().filter(|&(one, other)| one == node || other == node).collect();
        for (one, other) in peers {
            let delay = self.shared.rng.within(MILLI..=80 * MILLI);
            self.shared.after(delay, Event::Connect(one, other));
        }
    }
}

fn is_long(shape: &Shape) -> bool {
    shape.long_key_kib != [0, 0]
}

/// Draws the longest key of a seed, where keys are long.
fn longest_key(shared: &mut Shared, shape: &Shape) -> Option<usize> {
    if !is_long(shape) {
        return None;
    }
    let [least, most] = shape.long_key_kib;
    let doublings = (most / least).ilog2() as usize;
    let drawn = (least << shared.rng.between([0, doublings])).min(most);
    let kib = shared.rng.between([drawn, most.min(2 * drawn)]);
    let lanes = 2 * shared.plan.pairs().count();
    Some(kib.min(LONG_KEYS_KIB_MAX / lanes).max(least) << 10)
}

/// What all keys of a seed, each the longest, take of a lane, with the part of it that is kept for marks.
fn keys_of_a_lane(longest: usize, scenario: &Scenario) -> usize {
    let [_, wishes] = scenario.world.wishes;
    let keys = (wishes + 1) * longest;
    keys + keys / 8
}

/// Times of quotas: some come back while a seed runs, some do not.
const PERIODS: [u64; 5] = [5, 20, 60, 3_600, 86_400];

fn draw_period(rng: &mut Rng) -> u64 {
    rng.pick(&PERIODS).copied().unwrap_or(60)
}

/// What hubs let each sender burn of each receiver's lanes, unless somebody says otherwise.
fn draw_default(rng: &mut Rng) -> DefaultQuota {
    let per = Duration::from_secs(draw_period(rng));
    match rng.below(4) {
        0 => DefaultQuota::None,
        1 => DefaultQuota::Part { percent: rng.within(1..=10) as u8, per },
        _ => Quota::new(rng.within(100..=3000), per).map_or(DefaultQuota::None, DefaultQuota::Quota),
    }
}

/// What a receiver lets others burn: some by name, each other, all others together.
fn draw_limits(rng: &mut Rng, plan: &Plan, receiver: usize) -> Limits {
    let draw = |rng: &mut Rng| Limit { bytes: rng.within(100..=4000), per_s: draw_period(rng) as u32 };
    let mut named: Vec<(NodeId, Limit)> = Vec::new();
    for sender in plan.clients().filter(|sender| *sender != receiver) {
        if rng.chance(0.3) {
            named.push((plan.ids[sender], draw(rng)));
        }
    }
    named.sort_unstable_by_key(|(sender, _)| *sender);
    let each = rng.chance(0.4).then(|| draw(rng));
    let all = rng.chance(0.4).then(|| draw(rng));
    Limits { named, each, all }
}

fn draw_kit(rng: &mut Rng, liars: &Liars, among: &[Lie]) -> Option<Kit> {
    let weighted: Vec<(Lie, f64)> = among
        .iter()
        .filter_map(|lie| Some((*lie, *liars.lies.get(lie)?)))
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    if weighted.is_empty() {
        return None;
    }
    let mut lies = Vec::new();
    for _ in 0..=rng.below(2) {
        let mut left = total * (rng.below(1 << 30) as f64 / f64::from(1u32 << 30));
        let drawn = weighted.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        lies.extend(drawn.map(|(lie, _)| *lie));
    }
    lies.sort_unstable();
    lies.dedup();
    let rate = if rng.chance(0.5) { 1.0 } else { 0.6 };
    Some(Kit { lies, rate })
}
