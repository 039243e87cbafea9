//! What happens to nodes and connections, and how all of it heals.

use dske_protocol::ids::{Lane, TableId};
use dske_storage::simulation::{Keep, LaneLoss, SimDevice, SimStore};

use crate::{
    checker::{Facts, Invariant},
    core::Core,
    process::Process,
    scenario::Scenario,
    shared::{Event, MILLI, Micros, SECOND, Shared, WishState},
    world::{BUSY, World},
};

/// One item of the script.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The process is killed.
    Crash(usize),
    /// The power goes after so many more writes and syncs.
    PowerCut(usize, u64),
    /// A clean end and start.
    Restart(usize),
    /// Writes fail from then on; the process goes on until somebody starts it anew.
    DiskFailure(usize, u64),
    DiskFull(usize),
    DiskFree(usize),
    ClockJump(usize, Micros),
    /// These nodes are cut off from the others.
    Partition(Vec<usize>),
    Rejoin(Vec<usize>),
    Disconnect(usize, usize),
    /// The directory is copied, to be put back later.
    Snapshot(usize),
    PutBack(usize),
    /// The ledger alone is put back.
    OldLedger(usize),
    /// A lane of a table is lost at one end; the process is killed with it.
    LostLane(usize, TableId, Lane, LaneLoss),
}

/// A lane of any table, at either end.
fn lost_lane(shared: &mut Shared) -> Option<Fault> {
    let (client, hub, table) = shared.checker.lanes.some_table(&mut shared.rng)?;
    let node = if shared.rng.chance(0.5) { client } else { hub };
    let lane = if shared.rng.chance(0.5) { Lane::Up } else { Lane::Down };
    let how = match shared.rng.below(3) {
        0 => LaneLoss::Gone,
        1 => LaneLoss::CutAt(shared.rng.below(1 << 20)),
        _ => LaneLoss::NoHeader,
    };
    Some(Fault::LostLane(node, table, lane, how))
}

/// A copy of a directory, with what was true then.
pub(crate) struct Snapshot {
    pub(crate) device: SimDevice,
    pub(crate) facts: Facts,
}

impl World {
    pub(crate) fn plan_faults(&mut self, scenario: &Scenario) {
        let shared = &mut self.shared;
        let count = shared.plan.ids.len();
        let (nodes, network) = (&scenario.nodes, &scenario.network);
        let mut script: Vec<(Micros, Fault)> = Vec::new();
        let when = |rng: &mut crate::rng::Rng| rng.within(50 * MILLI..=BUSY);
        for _ in 0..shared.rng.count(nodes.crashes) {
            script.push((when(&mut shared.rng), Fault::Crash(shared.rng.index(count))));
        }
        for _ in 0..shared.rng.count(nodes.power_cuts) {
            let (node, steps) = (shared.rng.index(count), shared.rng.below(24));
            script.push((when(&mut shared.rng), Fault::PowerCut(node, steps)));
        }
        for _ in 0..shared.rng.count(nodes.restarts) {
            script.push((when(&mut shared.rng), Fault::Restart(shared.rng.index(count))));
        }
        for _ in 0..shared.rng.count(nodes.disk_failures) {
            let (node, steps) = (shared.rng.index(count), shared.rng.below(24));
            script.push((when(&mut shared.rng), Fault::DiskFailure(node, steps)));
        }
        for _ in 0..shared.rng.count(nodes.disk_full) {
            let (node, at) = (shared.rng.index(count), when(&mut shared.rng));
            script.push((at, Fault::DiskFull(node)));
            script.push((at + shared.rng.within(SECOND..=4 * SECOND), Fault::DiskFree(node)));
        }
        for _ in 0..shared.rng.count(nodes.clock_jumps) {
            let (node, by) = (shared.rng.index(count), shared.rng.within(SECOND..=100 * SECOND));
            script.push((when(&mut shared.rng), Fault::ClockJump(node, by)));
        }
        for _ in 0..shared.rng.count(network.partitions) {
            let some: Vec<usize> = (0..count).filter(|_| shared.rng.chance(0.4)).collect();
            let at = when(&mut shared.rng);
            script.push((at, Fault::Partition(some.clone())));
            script.push((at + shared.rng.within(100 * MILLI..=5 * SECOND), Fault::Rejoin(some)));
        }
        // Either hubs or clients: both ends of a table are never put back to before the same point.
        let (hubs, clients) =
            (shared.rng.count(nodes.restores_of_hubs), shared.rng.count(nodes.restores_of_clients));
        let of_hubs = hubs > 0 && (clients == 0 || shared.rng.chance(0.5));
        let (first, among, times) = if shared.plan.is_consortium() {
            // Every node is an end of a table with every other: one of them is put back.
            (shared.rng.index(count), 1, hubs.max(clients))
        } else if of_hubs {
            (0, shared.plan.hubs, hubs)
        } else {
            (shared.plan.hubs, count - shared.plan.hubs, clients)
        };
        for _ in 0..times {
            let node = first + shared.rng.index(among);
            let copied = when(&mut shared.rng);
            script.push((copied, Fault::Snapshot(node)));
            script.push((copied + shared.rng.within(100 * MILLI..=6 * SECOND), Fault::PutBack(node)));
        }
        for _ in 0..shared.rng.count(nodes.old_ledgers) {
            let (node, copied) = (shared.rng.index(shared.plan.hubs), when(&mut shared.rng));
            script.push((copied, Fault::Snapshot(node)));
            script.push((copied + shared.rng.within(100 * MILLI..=3 * SECOND), Fault::OldLedger(node)));
        }
        // Nothing is drawn where none can be: the seeds of other scenarios stay what they are.
        let lost = if nodes.lost_lanes > 0.0 { shared.rng.count(nodes.lost_lanes) } else { 0 };
        for _ in 0..lost {
            script.extend(lost_lane(shared).map(|fault| (when(&mut shared.rng), fault)));
        }
        let pairs: Vec<(usize, usize)> = shared.links.keys().copied().collect();
        for _ in 0..shared.rng.count(network.disconnects) {
            if let Some(&(one, other)) = shared.rng.pick(&pairs) {
                script.push((when(&mut shared.rng), Fault::Disconnect(one, other)));
            }
        }
        for (at, fault) in script {
            shared.at(at, Event::Fault(self.faults.len()));
            self.faults.push(fault);
        }
    }

    pub(crate) fn fault(&mut self, number: usize) {
        let fault = self.faults[number].clone();
        if self.shared.healed && !matches!(fault, Fault::Rejoin(_) | Fault::DiskFree(_)) {
            return;
        }
        self.shared.note("fault", [number as u64, 0, 0], || format!("{fault:?}"));
        match fault {
            Fault::Crash(node) => {
                self.shared.count("crashes");
                let keep = self.draw_keep();
                self.kill(node, keep);
            }
            Fault::PowerCut(node, steps) => {
                if let Some(process) = &self.nodes[node].process {
                    process.core.store.device().cut_after(steps);
                }
            }
            Fault::Restart(node) => self.restart_cleanly(node),
            Fault::DiskFailure(node, steps) => {
                if let Some(process) = &mut self.nodes[node].process {
                    self.shared.count("disk failures");
                    process.core.dies_with_device = false;
                    process.core.store.device().cut_after(steps);
                }
            }
            Fault::DiskFull(node) => {
                self.shared.count("full disks");
                self.nodes[node].device.set_full(true);
            }
            Fault::DiskFree(node) => self.nodes[node].device.set_full(false),
            Fault::ClockJump(node, by) => {
                self.shared.count("clock jumps");
                self.nodes[node].clock_ahead += by;
                self.with(node, None, |process, _| process.core.clock_ahead += by);
            }
            Fault::Partition(nodes) => {
                self.shared.count("partitions");
                for (one, other) in self.across(&nodes) {
                    self.shared.link(one, other).blocked += 1;
                    self.disconnect(one, other);
                }
            }
            Fault::Rejoin(nodes) => {
                for (one, other) in self.across(&nodes) {
                    let link = self.shared.link(one, other);
                    link.blocked = link.blocked.saturating_sub(1);
                    let delay = self.shared.rng.within(MILLI..=500 * MILLI);
                    self.shared.after(delay, Event::Connect(one, other));
                }
            }
            Fault::Snapshot(node) => {
                let device = self.nodes[node].device.after_power_cut(Keep::All);
                let facts = self.shared.checker.facts[node].clone();
                self.nodes[node].snapshot = Some(Snapshot { device, facts });
            }
            Fault::PutBack(node) => self.put_back(node, false),
            Fault::OldLedger(node) => self.put_back(node, true),
            Fault::LostLane(node, table, lane, how) => self.lose_lane(node, table, lane, how),
            Fault::Disconnect(one, other) => {
                self.shared.count("disconnects");
                self.disconnect(one, other);
            }
        }
    }

    /// The pairs with one end among these nodes and one outside.
    fn across(&self, nodes: &[usize]) -> Vec<(usize, usize)> {
        let inside = |node: &usize| nodes.contains(node);
        let links = self.shared.links.keys().copied();
        links.filter(|(one, other)| inside(one) != inside(other)).collect()
    }

    fn draw_keep(&mut self) -> Keep {
        match self.shared.rng.below(4) {
            0 => Keep::Nothing,
            1 => Keep::All,
            _ => Keep::Some(self.shared.rng.number()),
        }
    }

    /// The process dies because its device did.
    pub(crate) fn power_failed(&mut self, node: usize) {
        self.shared.count("power cuts");
        let keep = self.draw_keep();
        self.kill(node, keep);
    }

    /// Ends a process at once; of what was not synced the device keeps what `keep` says.
    pub(crate) fn kill(&mut self, node: usize, keep: Keep) {
        let Some(process) = self.nodes[node].process.take() else { return };
        self.shared.note("killed", [node as u64, 0, 0], || format!("{node}, the device keeps {keep:?}"));
        self.nodes[node].device = self.nodes[node].device.after_power_cut(keep);
        drop(process);
        self.gone(node);
        let pause = self.shared.rng.within(50 * MILLI..=3 * SECOND);
        self.restart_after(node, pause);
    }

    /// Puts the directory of a node back to its copy.
    fn put_back(&mut self, node: usize, ledger_alone: bool) {
        let Some(snapshot) = self.nodes[node].snapshot.take() else { return };
        self.shared.count(match (ledger_alone, self.shared.plan.is_hub(node)) {
            (true, _) => "ledgers put back",
            (false, true) => "hubs put back",
            (false, false) => "clients put back",
        });
        self.kill(node, Keep::All);
        let checker = &mut self.shared.checker;
        // What was handed out since the copy may be again, which is documented: a key that waited in it, or one whose
        // shares still wait at enough hubs and is agreed once more, the same one.
        let since = checker.facts[node].handed_out.difference(&snapshot.facts.handed_out);
        let since: Vec<_> = since.copied().collect();
        checker.put_back.extend(since);
        checker.directory_put_back(node, snapshot.facts);
        if ledger_alone {
            checker.facts[node].partly_old = true;
            self.nodes[node].device = self.nodes[node].device.with_ledger_of(&snapshot.device);
        } else {
            self.nodes[node].device = snapshot.device;
        }
        self.restart_after(node, 10 * MILLI);
    }

    /// From then on that table is of no use at this end, and everything else is as it was.
    fn lose_lane(&mut self, node: usize, table: TableId, lane: Lane, how: LaneLoss) {
        let keep = self.draw_keep();
        self.kill(node, keep);
        if self.nodes[node].device.lose_lane(&table, lane, how) {
            self.shared.count(match how {
                LaneLoss::Gone => "lanes gone",
                LaneLoss::CutAt(_) => "lanes cut short",
                LaneLoss::NoHeader => "lanes without a header",
            });
            self.shared.checker.facts[node].lost.insert(table);
        }
    }

    fn restart_cleanly(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else { return };
        self.shared.count("clean restarts");
        // A failure on the way is one more crash.
        let closed = process.core.store.close();
        let keep = if closed.is_ok() { Keep::Nothing } else { self.draw_keep() };
        self.nodes[node].device = self.nodes[node].device.after_power_cut(keep);
        self.gone(node);
        let pause = self.shared.rng.within(50 * MILLI..=SECOND);
        self.restart_after(node, pause);
    }

    fn restart_after(&mut self, node: usize, pause: Micros) {
        if !std::mem::replace(&mut self.nodes[node].restarting, true) {
            self.shared.after(pause, Event::Restart(node));
        }
    }

    /// A process is no more: its peers notice, its applications' wishes are lost.
    fn gone(&mut self, node: usize) {
        self.shared.checker.forgets(node);
        let epoch = self.nodes[node].epoch;
        for wish in &mut self.shared.wishes {
            if wish.client == node && wish.state == WishState::Open(epoch) {
                wish.state = WishState::Lost;
            }
        }
        let peers: Vec<(usize, usize)> = self
            .shared
            .links
            .iter()
            .filter(|((one, other), link)| link.up && (*one == node || *other == node))
            .map(|(&pair, _)| pair)
            .collect();
        peers.into_iter().for_each(|(one, other)| self.disconnect(one, other));
    }

    /// Starts a process on what its device holds.
    pub(crate) fn restart(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        at.restarting = false;
        if at.process.is_some() {
            return;
        }
        let again = at.epoch > 0;
        if again && !self.shared.healed && self.shared.rng.chance(0.15) {
            let steps = self.shared.rng.below(12);
            at.device.cut_after(steps);
        }
        let store = match SimStore::load(&at.device, at.identity, at.sizes) {
            Ok(store) => store,
            Err(_) if at.device.is_cut() => {
                self.shared.count("power cuts at a start");
                let keep = self.draw_keep();
                self.nodes[node].device = self.nodes[node].device.after_power_cut(keep);
                return self.restart_after(node, 100 * MILLI);
            }
            Err(_) if self.shared.checker.facts[node].partly_old => {
                return self.shared.count("refused: mixed directory");
            }
            Err(error) => {
                let text = format!("node {node} does not start: {error}");
                return self.shared.checker.fail(Invariant::NothingLost, text);
            }
        };
        at.device.mend();
        at.epoch += 1;
        let (epoch, honest) = (at.epoch, self.shared.plan.kits[node].is_none());
        let mut core = Core::new(node, epoch, honest, store, at.identity, at.sizes);
        core.clock_ahead = at.clock_ahead;
        if again {
            self.shared.count("starts");
            self.shared.note("start", [node as u64, u64::from(epoch), 0], || node.to_string());
            self.shared.checker.remembers(node, &core.store, "after a start");
            // What was durable, but not acknowledged before the end, counts from now on.
            for table in core.store.tables() {
                if let Ok(marks) = core.store.marks(table.peer, table.side, table.table, false) {
                    self.shared.checker.facts[node].told.insert(table.table, marks.seen);
                }
            }
        }
        self.nodes[node].process = Some(Process::start(core, &mut self.shared));
        self.connect_all(node);
        // Applications ask again for what they have heard of.
        let heard_of: Vec<_> = self
            .shared
            .heard_of
            .iter()
            .filter(|(client, _)| *client == node)
            .map(|(_, block)| *block)
            .collect();
        for block in heard_of {
            let delay = self.shared.rng.within(MILLI..=2 * SECOND);
            let key = dske_protocol::ids::KeyId { block, index: 0 };
            self.shared.after(delay, Event::Fetch(node, key));
        }
    }

    /// All faults end; liars and hubs that are away stay what they are.
    pub(crate) fn heal(&mut self) {
        self.shared.healed = true;
        self.shared.note("healed", [0; 3], String::new);
        for node in 0..self.nodes.len() {
            self.nodes[node].device.set_full(false);
            let broken = self.nodes[node].process.as_ref().is_some_and(|process| {
                process.core.store.poison_cause().is_some() || process.core.store.device().is_cut()
            });
            if broken {
                let keep = self.draw_keep();
                self.kill(node, keep);
            } else {
                self.nodes[node].device.mend();
            }
            if self.nodes[node].process.is_none() {
                self.restart_after(node, 10 * MILLI);
            }
        }
        let pairs: Vec<(usize, usize)> = self.shared.links.keys().copied().collect();
        for (one, other) in pairs {
            let away = self.away.contains(&self.shared.plan.ids[one]);
            self.shared.link(one, other).blocked = u32::from(away);
            self.shared.after(500 * MILLI, Event::Connect(one, other));
        }
    }
}
