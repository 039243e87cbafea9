//! A table in memory, its ledger records, and the rules by which its state changes.

use dske_protocol::{
    ids::{Lane, Name, NodeId, TableId},
    planted::{Fault, planted},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    lane_header::Counts,
    lane_state::LaneState,
    ledger::lane_byte,
    status::{Compared, LaneStatus, TableSide, TableState, TableStatus},
};

/// Failed tags cost their message's blocks; at 2^64 of 2^128 the table is suspended.
const FORGED_BLOCKS_MAX: u128 = 1 << 64;
/// A lane with less than this has no room for even an empty tagged message.
const MESSAGE_PAD_BYTES_MIN: u64 = 32;

/// A table's ledger record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) table: TableId,
    pub(crate) serial: String,
    pub(crate) peer: NodeId,
    pub(crate) peer_name: Name,
    pub(crate) side: TableSide,
    pub(crate) state: TableState,
    /// Place in the order of activation, from 1; 0 where it has not been active.
    pub(crate) activation: u64,
    /// Up, then down.
    pub(crate) lane_bytes: [u64; 2],
    pub(crate) forged_blocks: u128,
    /// Where it is quarantined.
    pub(crate) quarantine: Option<Quarantine>,
}

/// What a quarantined table was, and may become again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// Its state before.
    pub(crate) before: TableState,
    /// Pads of it are damaged: nothing that a peer says mends that.
    pub(crate) damaged: bool,
}

/// Why a table is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its records disagree with each other: some of them may be old.
    Disagreement,
    /// Its pads are not what was written.
    Damage,
}

/// Most characters of a reason that stand in a table's record.
const REASON_CHARS_MAX: usize = 600;

fn other(lane: Lane) -> Lane {
    match lane {
        Lane::Up => Lane::Down,
        Lane::Down => Lane::Up,
    }
}

impl TableRecord {
    /// A retired table as it is shown: what was not used is lost. Fails where more than there was counts as used.
    pub(crate) fn retired(&self, counts: [Counts; 2]) -> Result<TableStatus, StoreError> {
        let lane = |lane: Lane, bytes: u64, counts: Counts| {
            let skipped = bytes.checked_sub(counts.total()).ok_or_else(|| StoreError::Damaged {
                what: "the ledger's record of a lane",
                detail: format!(
                    "{} of {bytes} bytes of the {lane} lane of the retired table {} count as used: check the disk",
                    counts.total(),
                    self.table
                ),
            })?;
            Ok::<_, StoreError>(LaneStatus {
                lane,
                allocator: self.side.allocates() == lane,
                bytes,
                used_key: counts.key,
                used_identity: counts.identity,
                used_sync: counts.sync,
                skipped,
                reserved: 0,
                left: 0,
                for_keys: 0,
            })
        };
        let ([up, down], [up_bytes, down_bytes]) = (counts, self.lane_bytes);
        Ok(TableStatus {
            table: self.table,
            serial: self.serial.clone(),
            peer: self.peer,
            peer_name: self.peer_name.clone(),
            side: self.side,
            state: TableState::Retired,
            lanes: [lane(Lane::Up, up_bytes, up)?, lane(Lane::Down, down_bytes, down)?],
            forged_blocks: self.forged_blocks,
            open: false,
            comparable: false,
        })
    }
}

/// A lane's ledger record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneRecord {
    pub(crate) mark: u64,
    pub(crate) counts: Counts,
}

/// What marks tell of records that a group of commits may be changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// The furthest byte of the peer's lane that is on record.
    pub(crate) seen: u64,
    /// Everything below counts as used in the peer's lane.
    pub(crate) used_below: u64,
    /// What the peer has on record of the lane that this node allocates.
    pub(crate) lease: u64,
    /// Below this all places for tag keys of marks are used, in the lane that this node allocates.
    pub(crate) keys: u64,
    /// The same in the peer's.
    pub(crate) keys_seen: u64,
}

/// When the marks of a table were compared, in turns ([`dske_protocol::sync::Restores`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComparedRecord {
    /// The last time; 0 where they never were.
    pub(crate) last: u64,
    /// Since when its records disagree with each other; 0 where they do not.
    pub(crate) unsure_since: u64,
}

/// A table that is loaded.
pub(crate) struct Table {
    pub(crate) record: TableRecord,
    /// Up, then down.
    pub(crate) lanes: [LaneState; 2],
    pub(crate) compared: Compared,
    /// What the peer may be told, while a group that changes it is on its way to the device.
    held_back: Option<Told>,
    /// It is quarantined because its records disagree with each other: comparing marks with the peer may settle it.
    pub(crate) unsure: bool,
    /// When its marks were compared.
    pub(crate) when: ComparedRecord,
}

impl Table {
    pub(crate) fn new(record: TableRecord, lanes: [LaneState; 2]) -> Self {
        Self {
            record,
            lanes,
            compared: Compared::Never,
            held_back: None,
            unsure: false,
            when: ComparedRecord::default(),
        }
    }

    /// What the peer may be told: what is on the device.
    pub(crate) fn told(&self) -> Told {
        let peers = self.peer_lane();
        self.held_back.unwrap_or_else(|| Told {
            seen: peers.furthest(),
            used_below: peers.used.end_from(0).min(peers.keys_from()),
            lease: self.own_lane().told,
            keys: self.own_lane().keys(),
            keys_seen: peers.keys(),
        })
    }

    /// A group of commits is about to change what is told: until it is on the device, the peer is told what was.
    pub(crate) fn hold_back(&mut self) {
        self.held_back = Some(self.told());
    }

    /// The group is on the device.
    pub(crate) fn let_out(&mut self) {
        self.held_back = None;
    }

    pub(crate) fn lane(&self, lane: Lane) -> &LaneState {
        let [up, down] = &self.lanes;
        if lane_byte(lane) == 0 { up } else { down }
    }

    pub(crate) fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        let [up, down] = &mut self.lanes;
        if lane_byte(lane) == 0 { up } else { down }
    }

    /// The lane that this node allocates from.
    pub(crate) fn own_lane(&self) -> &LaneState {
        self.lane(self.record.side.allocates())
    }

    pub(crate) fn own_lane_mut(&mut self) -> &mut LaneState {
        self.lane_mut(self.record.side.allocates())
    }

    /// Whether it is shared with this peer, and this node is that end of it.
    pub(crate) fn is_shared(&self, peer: NodeId, side: TableSide) -> bool {
        self.record.peer == peer && self.record.side == side
    }

    pub(crate) fn is_active(&self) -> bool {
        self.record.state == TableState::Active
    }

    /// The lane that the peer allocates from.
    pub(crate) fn peer_lane(&self) -> &LaneState {
        self.lane(other(self.record.side.allocates()))
    }

    pub(crate) fn peer_lane_mut(&mut self) -> &mut LaneState {
        self.lane_mut(other(self.record.side.allocates()))
    }

    /// Whether marks may be compared: also to learn that its receipt has come back to the hub.
    pub(crate) fn may_sync(&self) -> bool {
        let may = |state: &TableState| match state {
            TableState::Active => true,
            TableState::Pending => self.record.side == TableSide::Client,
            _ => false,
        };
        match (&self.record.state, &self.record.quarantine) {
            (TableState::Quarantined { .. }, Some(was)) => self.unsure && !was.damaged && may(&was.before),
            (state, _) => may(state),
        }
    }

    /// Whether pads may be taken from it for messages. A hub takes them also for a client that is away.
    pub(crate) fn may_mint(&self) -> bool {
        match self.record.side {
            TableSide::Hub => self.compared != Compared::Never,
            TableSide::Client => self.compared == Compared::Now,
        }
    }

    /// Its state as shown: spent is a matter of what is left, not of a decision.
    pub(crate) fn state(&self) -> TableState {
        let spent = |lane: &LaneState| lane.left_for_messages() < MESSAGE_PAD_BYTES_MIN;
        match &self.record.state {
            TableState::Active | TableState::Pending if self.lanes.iter().any(|l| l.skipped().is_none()) => {
                TableState::Quarantined {
                    reason: "more of it counts as used than was: restart the node".into(),
                }
            }
            TableState::Active if self.lanes.iter().all(spent) => TableState::Spent,
            // Its marks cannot be compared any more.
            TableState::Active if self.own_lane().free_key_place(0).is_none() => TableState::Spent,
            state => state.clone(),
        }
    }

    pub(crate) fn status(&self) -> TableStatus {
        let [up, down] = &self.lanes;
        TableStatus {
            table: self.record.table,
            serial: self.record.serial.clone(),
            peer: self.record.peer,
            peer_name: self.record.peer_name.clone(),
            side: self.record.side,
            state: self.state(),
            lanes: [up.status(), down.status()],
            forged_blocks: self.record.forged_blocks,
            open: self.compared == Compared::Now && self.record.quarantine.is_none(),
            comparable: self.may_sync(),
        }
    }

    /// Adds the blocks of a failed tag. Past the budget the table is suspended, whatever it is used for now.
    pub(crate) fn count_forgery(&mut self, blocks: u64) {
        self.record.forged_blocks = self.record.forged_blocks.saturating_add(u128::from(blocks));
        if self.record.forged_blocks < FORGED_BLOCKS_MAX {
            return;
        }
        let before = self.record.quarantine.as_mut().map(|was| &mut was.before);
        let state = before.unwrap_or(&mut self.record.state);
        if matches!(state, TableState::Active | TableState::Pending) {
            let reason =
                "its forgery budget of 2^-64 is spent: retire it and install a new module".to_owned();
            *state = TableState::Suspended { reason };
        }
    }

    /// Puts the table out of use because what is on disk cannot be trusted. What it was before is remembered with it.
    pub(crate) fn quarantine(&mut self, what: &str, cause: Cause) {
        let damaged = cause == Cause::Damage;
        let before = match (&self.record.state, &self.record.quarantine) {
            (TableState::Retired, _) => return,
            (TableState::Quarantined { .. }, Some(was)) if was.damaged || !damaged => return,
            (TableState::Quarantined { .. }, Some(was)) => was.before.clone(),
            // Nobody knows what it was.
            (TableState::Quarantined { .. }, None) => return,
            (state, _) => state.clone(),
        };
        let what: String = what.chars().take(REASON_CHARS_MAX).collect();
        let remedy = match cause {
            Cause::Disagreement => {
                "the disk may hold an old copy or a damaged one: check it; where comparing marks with the peer does not \
                 settle it, retire this table and install a new module"
            }
            Cause::Damage => {
                "what else the disk has changed nobody knows: check it, retire this table and install a new module"
            }
        };
        self.record.state = TableState::Quarantined { reason: format!("{what}; {remedy}") };
        self.record.quarantine = Some(Quarantine { before, damaged });
        self.unsure &= !damaged;
    }

    /// Bytes that no record says were used read as erased. After marks were compared no old copy explains that.
    pub(crate) fn found_erased(&mut self, at: u64) {
        let cause = if self.compared == Compared::Now { Cause::Damage } else { Cause::Disagreement };
        self.quarantine(&format!("bytes at {at} that were never used read as erased"), cause);
        self.unsure |= self.record.quarantine.as_ref().is_some_and(|was| !was.damaged);
    }

    /// Whether [`Table::activate`] would succeed.
    pub(crate) fn check_activate(&self) -> Result<(), StoreError> {
        match &self.record.state {
            TableState::Pending | TableState::Active | TableState::Spent => Ok(()),
            state => Err(StoreError::WrongState {
                table: self.record.table,
                state: state.to_string(),
                action: "be activated",
            }),
        }
    }

    /// Makes a pending table active, in its place in the order.
    pub(crate) fn activate(&mut self, activation: u64) {
        if self.record.state == TableState::Pending {
            self.record.state = TableState::Active;
            self.record.activation = activation;
        }
    }

    /// What its lanes' records disagree about has been settled with the peer: it is what it was before.
    pub(crate) fn settle(&mut self) {
        if self.unsure
            && let Some(was) = self.record.quarantine.take_if(|was| !was.damaged)
        {
            self.record.state = match was.before {
                TableState::Pending if planted(Fault::SettleActivates) => TableState::Active,
                before => before,
            };
        }
    }

    /// Its record and how it is shown once it is out of use for good.
    pub(crate) fn retire(mut self) -> Result<(TableRecord, TableStatus), StoreError> {
        self.record.state = TableState::Retired;
        self.record.quarantine = None;
        let counts = [self.lanes[0].counts, self.lanes[1].counts];
        let status = self.record.retired(counts)?;
        Ok((self.record, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::Disk, intervals::IntervalSet, lane_checks::file_bytes, lane_file::LaneFile, sim::SimDisk,
    };

    fn table(side: TableSide, state: TableState) -> Table {
        let (disk, table) = (SimDisk::default(), TableId::new([4; 16]));
        let lane = |name: Lane| {
            let path = std::path::PathBuf::from(format!("{name}"));
            let file = disk.create(&path).expect("a file");
            file.allocate(file_bytes(4096)).expect("space");
            LaneFile::format(&*file, table, name, 4096).expect("a header");
            let (file, problem) = LaneFile::open(&disk, &path, table, name, 4096).expect("it opens");
            assert_eq!(problem, None);
            let allocator = side.allocates() == name;
            let used = IntervalSet::default();
            LaneState::new(file.into(), name, 4096, allocator, 0, Counts::default(), used)
        };
        let record = TableRecord {
            table,
            serial: "p1-0001".into(),
            peer: NodeId::new([1; 32]),
            peer_name: "p1".parse().expect("a name"),
            side,
            state,
            activation: 0,
            lane_bytes: [4096; 2],
            forged_blocks: 0,
            quarantine: None,
        };
        Table::new(record, [lane(Lane::Up), lane(Lane::Down)])
    }

    fn suspended() -> TableState {
        TableState::Suspended { reason: "forged".into() }
    }

    fn is_quarantined(table: &Table) -> bool {
        matches!(table.state(), TableState::Quarantined { .. })
    }

    #[test]
    fn what_was_quarantined_is_what_it_was_before_once_it_is_settled() {
        for (side, state, may_sync) in [
            (TableSide::Client, TableState::Active, true),
            (TableSide::Client, TableState::Pending, true),
            (TableSide::Client, suspended(), false),
            (TableSide::Hub, TableState::Active, true),
            (TableSide::Hub, TableState::Pending, false),
            (TableSide::Hub, suspended(), false),
        ] {
            let mut table = table(side, state.clone());
            table.quarantine("old", Cause::Disagreement);
            table.unsure = true;
            table.quarantine("older", Cause::Disagreement);
            assert!(is_quarantined(&table));
            assert_eq!(table.may_sync(), may_sync, "{side:?} {state}");
            table.settle();
            assert_eq!(table.state(), state, "{side:?}");
        }
    }

    #[test]
    fn damage_is_not_settled_by_what_a_peer_says_whichever_was_met_first() {
        for order in [[Cause::Damage, Cause::Disagreement], [Cause::Disagreement, Cause::Damage]] {
            let mut table = table(TableSide::Client, TableState::Active);
            for cause in order {
                table.quarantine("met", cause);
                table.unsure |= cause == Cause::Disagreement;
            }
            assert!(!table.may_sync());
            table.settle();
            assert!(is_quarantined(&table), "{order:?}");
        }
    }

    #[test]
    fn a_spent_forgery_budget_counts_whatever_the_table_is_used_for() {
        for state in [TableState::Active, TableState::Pending] {
            let mut plain = table(TableSide::Client, state.clone());
            let mut apart = table(TableSide::Client, state);
            apart.quarantine("old", Cause::Disagreement);
            apart.unsure = true;
            for table in [&mut plain, &mut apart] {
                table.record.forged_blocks = FORGED_BLOCKS_MAX - 2;
                table.count_forgery(1);
                assert!(!matches!(table.state(), TableState::Suspended { .. }), "not yet");
                table.count_forgery(1);
                assert!(!table.may_sync());
                table.settle();
                assert!(matches!(table.state(), TableState::Suspended { .. }));
            }
        }
    }

    #[test]
    fn erased_bytes_are_damage_once_marks_are_compared_and_may_be_an_old_copy_before() {
        for (compared, damaged) in
            [(Compared::Never, false), (Compared::Before, false), (Compared::Now, true)]
        {
            let mut table = table(TableSide::Hub, TableState::Active);
            table.compared = compared;
            table.found_erased(100);
            assert!(is_quarantined(&table));
            assert_eq!((table.unsure, table.may_sync()), (!damaged, !damaged), "{compared:?}");
        }
    }
}
