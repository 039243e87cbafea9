//! How a table comes into the store: its lane files are complete and in their place, then one batch of the
//! ledger makes it exist.

use dske_protocol::ids::Lane;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    error::StoreError,
    group::put_module,
    intervals::IntervalSet,
    lane_file::{LaneFile, lane_file_name},
    lane_header::Counts,
    lane_state::LaneState,
    layout,
    ledger::{Draft, key, kind, lane_key, node_key, table_key},
    lock_short,
    records::{HubRecord, ModuleRecord},
    status::TableState,
    table::{LaneRecord, Table, TableRecord},
};

/// A table that is ready to exist, with the records that come with it.
pub(crate) struct NewTable {
    pub(crate) record: TableRecord,
    pub(crate) module: ModuleRecord,
    pub(crate) hub: Option<HubRecord>,
    pub(crate) receipt: Option<ReceiptRecord>,
}

/// What a hub expects to be told before it activates a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiptRecord {
    pub(crate) serial: String,
    pub(crate) phrase: String,
    pub(crate) failures: u32,
}

/// Puts a receipt.
pub(crate) fn put_receipt(draft: &mut Draft<'_>, receipt: &ReceiptRecord) -> Result<(), StoreError> {
    draft.put("receipt", key(kind::RECEIPT, &[receipt.serial.as_bytes()]), receipt)
}

impl Engine {
    /// Puts the records of a new table and loads it.
    pub(crate) fn add_table(&self, draft: &mut Draft<'_>, new: NewTable) -> Result<Table, StoreError> {
        self.check()?;
        let mut record = new.record;
        let known: Option<TableRecord> = draft.get("table", &table_key(&record.table))?;
        if known.is_some() {
            return Err(StoreError::invalid(format!("table {} exists already", record.table)));
        }
        if record.state == TableState::Active {
            record.activation = lock_short(&self.state).next_activation();
        }
        let dir = layout::table_dir(&self.dir, &record.table);
        let [up, down] = record.lane_bytes;
        let load = |lane: Lane, bytes: u64| {
            let path = dir.join(lane_file_name(lane));
            let (file, problem) = LaneFile::open(&*self.disk, &path, record.table, lane, bytes)?;
            match problem {
                None if file.header().is_virgin() => {}
                None => {
                    return Err(StoreError::invalid(format!("table {} has been used before", record.table)));
                }
                Some(detail) => {
                    return Err(StoreError::Damaged { what: "a new lane", detail: detail.to_string() });
                }
            }
            let allocator = record.side.allocates() == lane;
            Ok(LaneState::new(
                file.into(),
                lane,
                bytes,
                allocator,
                0,
                Counts::default(),
                IntervalSet::default(),
            ))
        };
        let lanes = [load(Lane::Up, up)?, load(Lane::Down, down)?];
        draft.put("table", table_key(&record.table), &record)?;
        for lane in [Lane::Up, Lane::Down] {
            draft.put("lane", lane_key(&record.table, lane), &LaneRecord::default())?;
        }
        put_module(draft, &new.module)?;
        if let Some(hub) = &new.hub {
            draft.put("hub", node_key(kind::HUB, &hub.node), hub)?;
        }
        new.receipt.map_or(Ok(()), |receipt| put_receipt(draft, &receipt))?;
        Ok(Table::new(record, lanes))
    }
}
