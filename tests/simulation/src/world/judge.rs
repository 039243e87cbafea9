//! At the end of a run: everything has ended, and what waited for somebody who is there has arrived.

use dske_protocol::{limits::Limits, pad::TAG_KEY_BYTES};
use dske_storage::{LaneStatus, TableSide, TableState, TableStatus};

use super::{Node, World};
use crate::{
    checker::{Invariant, status_adds_up},
    shared::WishState,
};

impl World {
    /// Whether nothing is under way at any node.
    pub(super) fn is_idle(&self) -> bool {
        self.nodes.iter().filter_map(|node| node.process.as_ref()).all(|node| node.under_way().is_none())
    }

    pub(super) fn judge(&mut self) {
        for at in 0..self.shared.wishes.len() {
            let wish = &self.shared.wishes[at];
            if let WishState::Open(_) = wish.state {
                let text = format!("wish {at} of node {} never ended", wish.client);
                self.shared.checker.fail(Invariant::NoHang, text);
            }
        }
        for at in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[at].process else {
                if !self.shared.checker.facts[at].partly_old {
                    self.shared.checker.fail(Invariant::NoHang, format!("node {at} did not come back"));
                }
                continue;
            };
            if let Some(left) = process.under_way() {
                let text = format!("node {at} still has {left} under way at the end");
                self.shared.checker.fail(Invariant::NoHang, text);
            }
            if let Some(held) = process.held() {
                let text = format!("node {at} still counts {held}");
                self.shared.checker.fail(Invariant::Bounded, text);
            }
            if let Some(table) = process.stuck().first() {
                let text = format!("node {at} takes table {table} for open, and its store has shut it");
                self.shared.checker.fail(Invariant::NoHang, text);
            }
            if let Some(text) = status_adds_up(&process.core.store) {
                self.shared.checker.fail(Invariant::StatusAdds, format!("node {at}: {text}"));
            }
            process.core.shadow(&mut self.shared);
        }
        let ids = self.shared.plan.ids.clone();
        self.shared.checker.judge(&ids, &self.away);
        let waiting = |node: &Node| match &node.process {
            Some(process) => process.hub.as_ref().map_or(0, |hub| hub.waiting()),
            None => 0,
        };
        let waiting: usize = self.nodes.iter().map(waiting).sum();
        *self.shared.checker.counts.entry("messages that still wait").or_default() += waiting as u64;
        self.judge_outboxes();
        self.judge_limits();
    }

    /// A limit that a receiver takes to be in force at an honest hub is, once the hub has said so since their tables were
    /// compared. Where nothing but bad hubs and clients is wrong, all are.
    fn judge_limits(&mut self) {
        let honest = |at: &usize| self.shared.plan.kits[*at].is_none();
        let clients: Vec<usize> = self.shared.plan.clients().filter(honest).collect();
        let hubs: Vec<usize> = (0..self.shared.plan.hubs).filter(honest).collect();
        for (client, at) in clients.into_iter().flat_map(|client| hubs.iter().map(move |hub| (client, *hub)))
        {
            let (node, id) = (self.shared.plan.ids[client], self.shared.plan.ids[at]);
            let desk = self.nodes[client].process.as_ref().and_then(|process| process.client.as_ref());
            let hub = self.nodes[at].process.as_ref().and_then(|process| process.hub.as_ref());
            let (Some(desk), Some(hub)) = (desk.map(|client| &client.limits), hub) else { continue };
            let Some((wanted, in_force)) = desk.at(&id).filter(|_| self.shared.is_up(client, at)) else {
                continue;
            };
            // A client that was put back to before all limits, has none now, and does not know that it was, asks nobody.
            let knows_nothing = self.shared.checker.was_put_back[client] && *wanted == Limits::default();
            let applied = hub.limits_of(&node);
            if in_force && !desk.is_asking(&id) && !knows_nothing && applied != *wanted {
                let text = format!(
                    "node {client} takes {wanted:?} to be in force at hub {at}, which applies {applied:?}"
                );
                self.shared.checker.fail(Invariant::Quotas, text);
            } else if !in_force && self.shared.checker.bounds.sharp {
                let text = format!("{wanted:?} of node {client} never came into force at hub {at}");
                self.shared.checker.fail(Invariant::Quotas, text);
            }
        }
    }

    /// What waits for somebody who is there and takes messages must have arrived.
    fn judge_outboxes(&mut self) {
        for at in 0..self.shared.plan.hubs {
            let Some(process) = &self.nodes[at].process else { continue };
            // A lane without room for a tag key carries no mark any more, and its table no message: documented.
            let markable =
                |lane: &LaneStatus| !lane.allocator || lane.left + lane.reserved >= TAG_KEY_BYTES as u64;
            let usable = |table: &TableStatus| {
                table.state == TableState::Active && table.open && table.lanes.iter().all(markable)
            };
            let tables = process.core.store.tables();
            for entry in process.core.store.outbox() {
                let Some(client) = self.shared.plan.index(&entry.receiver) else { continue };
                let deaf = self.shared.plan.kits[client].is_some() || self.shared.plan.kits[at].is_some();
                let ours =
                    |table: &&TableStatus| table.side == TableSide::Hub && table.peer == entry.receiver;
                let all_open = tables.iter().filter(ours).all(usable);
                let hub = self.shared.plan.ids[at];
                let taking = self.nodes[client].process.as_ref().is_some_and(|process| {
                    let tables = process.core.store.tables();
                    let ours = |table: &&TableStatus| table.side == TableSide::Client && table.peer == hub;
                    tables.iter().filter(ours).all(usable)
                });
                if !deaf && all_open && taking && self.shared.is_up(at, client) {
                    let text = format!("hub {at} never delivered {:?} to node {client}", entry.id);
                    self.shared.checker.fail(Invariant::NoHang, text);
                }
            }
        }
    }
}
