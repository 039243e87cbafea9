//! A table in memory, its ledger records, and the rules by which its state changes.

use dske_protocol::ids::{Lane, Name, NodeId, TableId};
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
}

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
        })
    }
}

/// A lane's ledger record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneRecord {
    pub(crate) mark: u64,
    pub(crate) counts: Counts,
}

/// A table that is loaded.
pub(crate) struct Table {
    pub(crate) record: TableRecord,
    /// Up, then down.
    pub(crate) lanes: [LaneState; 2],
    pub(crate) compared: Compared,
    /// It is quarantined because its records disagree with each other: comparing marks with the peer may settle it.
    pub(crate) unsure: bool,
}

impl Table {
    pub(crate) fn new(record: TableRecord, lanes: [LaneState; 2]) -> Self {
        Self { record, lanes, compared: Compared::Never, unsure: false }
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
        match self.record.state {
            TableState::Active => true,
            TableState::Pending => self.record.side == TableSide::Client,
            TableState::Quarantined { .. } => self.unsure,
            _ => false,
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
        let spent = |lane: &LaneState| lane.left() + lane.reserved() < MESSAGE_PAD_BYTES_MIN;
        match &self.record.state {
            TableState::Active | TableState::Pending if self.lanes.iter().any(|l| l.skipped().is_none()) => {
                TableState::Quarantined {
                    reason: "more of it counts as used than was: restart the node".into(),
                }
            }
            TableState::Active if self.lanes.iter().all(spent) => TableState::Spent,
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
            open: self.compared == Compared::Now,
        }
    }

    /// Adds the blocks of a failed tag. Past the budget the table is suspended.
    pub(crate) fn count_forgery(&mut self, blocks: u64) {
        self.record.forged_blocks = self.record.forged_blocks.saturating_add(u128::from(blocks));
        if self.record.forged_blocks >= FORGED_BLOCKS_MAX && self.is_active() {
            let reason =
                "its forgery budget of 2^-64 is spent: retire it and install a new module".to_owned();
            self.record.state = TableState::Suspended { reason };
        }
    }

    /// Puts the table out of use because what is on disk cannot be trusted.
    pub(crate) fn quarantine(&mut self, what: &str) {
        if !matches!(self.record.state, TableState::Retired | TableState::Quarantined { .. }) {
            let reason = format!(
                "{what}; the disk may hold an old copy or a damaged one: check it; where comparing marks with the peer does not settle it, retire this table and install a new module"
            );
            self.record.state = TableState::Quarantined { reason };
        }
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

    /// What its lanes' records disagree about has been settled with the peer.
    pub(crate) fn settle(&mut self) {
        if self.unsure && matches!(self.record.state, TableState::Quarantined { .. }) {
            self.record.state = TableState::Active;
        }
    }

    /// Its record and how it is shown once it is out of use for good.
    pub(crate) fn retire(mut self) -> Result<(TableRecord, TableStatus), StoreError> {
        self.record.state = TableState::Retired;
        let counts = [self.lanes[0].counts, self.lanes[1].counts];
        let status = self.record.retired(counts)?;
        Ok((self.record, status))
    }
}
