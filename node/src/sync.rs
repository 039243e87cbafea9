//! Carries the comparison of marks for an actor: executes what its [`SyncDesk`] asks for, and lets sealed messages go
//! out only when the desk lets them pass.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    codec::Blob,
    effect::{PadOutcome, Ticket},
    hub::RequestId,
    ids::{Lane, NodeId, TableId},
    message::claimed_range,
    sync::{Found, Said, SyncCounters, SyncDesk, SyncEffect, SyncInput, SyncSide},
};
use dske_storage::{Store, TableState, TableStatus};
use getrandom::SysRng;
use rand_core::UnwrapErr;

use crate::{
    clock::Clock,
    network::{Command, Commands},
    pads::Pads,
    status::Level,
};

/// See the head of the file.
pub(crate) struct Sync<S: SyncSide> {
    desk: SyncDesk<S>,
    pads: Pads,
    clock: Clock,
    rng: UnwrapErr<SysRng>,
    commands: Commands,
    /// Messages that wait for the desk's word. Bounded by what the actor has under way.
    held: BTreeMap<Ticket, Command>,
    next_ticket: u64,
    /// Who asked, for marks that are to be answered.
    askers: BTreeMap<RequestId, NodeId>,
}

/// What the actor has to do about it.
#[derive(Debug)]
pub(crate) enum SyncNews {
    /// A message could not be sent.
    Dropped(Command),
    /// A table is open, or something came to light about it.
    Synced { peer: NodeId, table: TableId, found: Found },
    /// Client: to be begun again.
    Lapsed { table: TableId },
}

impl<S: SyncSide> Sync<S> {
    /// So many hubs must say that this node's directory was put back before keys that wait are void.
    pub(crate) fn new(store: Store, clock: Clock, commands: Commands, k_min: u8) -> Self {
        Self {
            desk: SyncDesk::new(k_min),
            pads: Pads::new(store, clock),
            clock,
            rng: UnwrapErr(SysRng),
            commands,
            held: BTreeMap::new(),
            next_ticket: 0,
            askers: BTreeMap::new(),
        }
    }

    pub(crate) fn counters(&self) -> SyncCounters {
        self.desk.counters()
    }

    pub(crate) fn handle(&mut self, input: SyncInput) {
        if let SyncInput::Mark { id, from, .. } = &input {
            self.askers.insert(*id, *from);
        }
        self.desk.handle(self.clock.now(), input, &mut self.rng);
    }

    /// Tells the desk which of its tables are out of use.
    pub(crate) fn out_of_use(&mut self, tables: &[TableStatus]) {
        let live =
            |table: &TableStatus| !matches!(table.state, TableState::Retired | TableState::Suspended { .. });
        let live: BTreeSet<TableId> =
            tables.iter().filter(|table| live(table)).map(|table| table.table).collect();
        let gone: Vec<TableId> = self.desk.tables().filter(|table| !live.contains(table)).collect();
        gone.into_iter().for_each(|table| self.handle(SyncInput::Left(table)));
    }

    /// Sends a command with a sealed message as soon as the peer has its run on record.
    pub(crate) fn send(&mut self, peer: NodeId, sealed: Vec<u8>, command: impl FnOnce(Vec<u8>) -> Command) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let Some(range) = claimed_range(&sealed) else {
            debug_assert!(false, "what we have sealed names its run");
            return;
        };
        self.held.insert(ticket, command(sealed));
        self.handle(SyncInput::Outgoing { ticket, peer, range });
    }

    /// The next answer of the pads, to be given to [`Sync::handle`]. Never ends.
    pub(crate) async fn next(&mut self) -> PadOutcome {
        self.pads.next().await.outcome
    }

    /// Executes what the desk has put out; gives what the actor has to do.
    pub(crate) fn execute(&mut self) -> Vec<SyncNews> {
        let (mut pad_effects, mut news) = (Vec::new(), Vec::new());
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                SyncEffect::Pad(effect) => pad_effects.push(effect),
                SyncEffect::Hello { peer, hello } => self.command(Command::SyncHello { hub: peer, hello }),
                SyncEffect::AnswerHello { id, result } => {
                    self.command(Command::AnswerSyncHello { id, result });
                }
                SyncEffect::Mark { peer, table, bytes } => {
                    self.command(Command::Mark { peer, table, bytes });
                }
                SyncEffect::AnswerMark { id, result } => {
                    if let Some(to) = self.askers.remove(&id) {
                        self.command(Command::AnswerMark { id, to, result: result.map(Blob) });
                    }
                }
                SyncEffect::Pass(ticket) => {
                    if let Some(command) = self.held.remove(&ticket) {
                        self.command(command);
                    }
                }
                SyncEffect::Drop(ticket) => news.extend(self.held.remove(&ticket).map(SyncNews::Dropped)),
                SyncEffect::Synced { peer, table, found } => {
                    if S::OWN == Lane::Up {
                        self.command(Command::Proved { table });
                    }
                    news.push(SyncNews::Synced { peer, table, found });
                }
                SyncEffect::Lapsed { table, .. } => news.push(SyncNews::Lapsed { table }),
            }
        }
        self.pads.execute(pad_effects);
        news
    }

    fn command(&self, command: Command) {
        // Fails only when the network task has ended, and then the process is ending.
        let _ = self.commands.send(command);
    }
}

/// What an operator is told about a comparison that brought something to light.
pub(crate) fn findings(serial: &str, peer: &str, found: &Found) -> Vec<(Level, String)> {
    let mut findings = Vec::new();
    if found.put_back && !found.settled {
        let skipped = match found.skipped {
            0 => String::new(),
            bytes => format!("{bytes} bytes of our lane were skipped, and "),
        };
        findings.push((
            Level::Crit,
            format!(
                "table {serial}: {peer} has more on record of us than we have: this node was put back to an earlier state, or \
                 {peer} lies; {skipped}all that {peer} had sent under this table counts as used"
            ),
        ));
    }
    if found.settled {
        findings.push((
            Level::Crit,
            format!(
                "table {serial}: our records of it disagreed with each other; what {peer} has on record settled it: all that was sent \
                 so far counts as used, and keys that waited when that began are void, or will be when enough hubs have said the same"
            ),
        ));
    }
    if found.peer_put_back {
        findings.push((
            Level::Warn,
            format!("table {serial}: {peer} was put back to an earlier state; it goes on from what we have on record"),
        ));
    }
    findings
}

/// What an operator is told after a hub has said that this node was put back: `said` is what hubs have said of that so
/// far and has not been dealt with.
pub(crate) fn voices(
    name: &str,
    hub: &NodeId,
    said: &BTreeMap<NodeId, Said>,
    k_min: u8,
) -> Option<(Level, String)> {
    match said.get(hub) {
        None => Some((
            Level::Crit,
            "enough hubs have said that this node was put back to an earlier state: keys that waited then are void".to_owned(),
        )),
        Some(Said { times: 1, .. }) => Some((
            Level::Crit,
            format!(
                "{} of the {k_min} hubs that it takes say that this node was put back to an earlier state: keys that wait are kept",
                said.len()
            ),
        )),
        // Told more seldom each time.
        Some(Said { times, .. }) if times.is_power_of_two() => Some((
            Level::Crit,
            format!(
                "{name} has said {times} times that this node was put back to an earlier state, and fewer than {k_min} hubs say \
                 so: it overstates what it has on record, or its disk is bad"
            ),
        )),
        Some(_) => None,
    }
}
