//! Requests of others, and what they are answered.

use dske_protocol::{
    hub::RequestId,
    ids::NodeId,
    message::{ClientMark, Tagged},
    refusal::Refusal,
};
use libp2p::{request_response::ResponseChannel, swarm::ConnectionId};

use super::super::{
    ClientEvent, HubEvent,
    gate::{count, points},
    limits::FAULT_POINTS,
    messages,
    wire::{LinkMessage, Request, Response},
};
use super::{Exchange, Inbound, NetworkTask};
use crate::{config::Role, me::peer_of};

/// Requests of others that are being worked on, and their bytes; further ones are dropped, and the asker
/// sees its exchange fail.
const INBOUND_MAX: usize = 1024;
/// See [`INBOUND_MAX`].
const INBOUND_BYTES_MAX: usize = 256 << 20;
/// Messages on their way to one client that a hub passes on; further ones are dropped, and said again by those who
/// need them. Each takes a stream of the connection, which a flood of them must not use up.
const RELAYED_MAX: usize = 32;

impl NetworkTask {
    pub(super) fn answer(&mut self, id: RequestId, response: Response) {
        if let Some(Inbound { connection, channel, bytes }) = self.inbound.remove(&id) {
            self.inbound_bytes -= bytes;
            self.swarm.behaviour_mut().guard.charge(connection, response.points());
            // What it asked for is recorded, whether or not it is still there.
            self.swarm.behaviour_mut().exchange.send_response(connection, channel, response);
        }
    }

    /// A request whose tag was wrong costs its connection what it would cost if the answer said so.
    pub(super) fn charge_forged(&mut self, id: RequestId) {
        if let Some(Inbound { connection, .. }) = self.inbound.get(&id) {
            self.swarm.behaviour_mut().guard.charge(*connection, points(&Err(Refusal::BadTag)));
        }
    }

    /// Hands a request to the actor that serves it.
    pub(super) fn inbound_request(
        &mut self,
        from: NodeId,
        connection: ConnectionId,
        request: Request,
        channel: ResponseChannel<Response>,
    ) {
        let bytes = request.bytes();
        if !peer_of(&from).is_some_and(|peer| self.swarm.behaviour().guard.is_known(&peer)) {
            // Nothing is served to strangers: they share no table, and their notices count for nothing.
            count(&self.dropped.requests_refused);
            self.swarm.behaviour_mut().guard.charge(connection, FAULT_POINTS);
            self.swarm.behaviour_mut().exchange.send_response(connection, channel, Response::Done);
            return;
        }
        if self.inbound.len() >= INBOUND_MAX || self.inbound_bytes + bytes > INBOUND_BYTES_MAX {
            count(&self.dropped.requests_refused);
            tracing::debug!(from = %from.short(), "dropping a request: too many are under way");
            return;
        }
        let id = RequestId(self.next_inbound);
        self.next_inbound += 1;
        request.sealed().for_each(|bytes| messages::note(false, &from, bytes));
        let served = request.is_within_limits()
            && match request {
                Request::Shares(messages) => self.tell_hub(HubEvent::Shares { id, from, messages }),
                Request::Identity(message) => self.tell_hub(HubEvent::Identity { id, from, message }),
                Request::Hello => self.tell_hub(HubEvent::Hello { id, from }),
                Request::Instructions(messages) => {
                    self.tell_client(ClientEvent::Instructions { id, from, messages })
                }
                Request::SyncHello(hello) => {
                    let over = self.swarm.behaviour().guard.number(connection);
                    self.tell_hub(HubEvent::SyncHello { id, from, over, hello })
                }
                Request::Mark(message) if is_of_client(&message.0) => {
                    self.tell_hub(HubEvent::Mark { id, from, message })
                }
                Request::Mark(message) => self.tell_client(ClientEvent::Mark { id, from, message }),
                Request::Link(message) => {
                    self.tell_client(ClientEvent::Link { id, from, via: None, message })
                }
                Request::Relayed { from: author, message } => {
                    self.tell_client(ClientEvent::Link { id, from: author, via: Some(from), message })
                }
                Request::Relay { to, message } => {
                    self.relay(from, to, message);
                    false
                }
                Request::Notices(notices) => self.tell_client(ClientEvent::Notices { id, from, notices }),
            };
        if served {
            self.inbound.insert(id, Inbound { connection, channel, bytes });
            self.inbound_bytes += bytes;
        } else {
            self.swarm.behaviour_mut().exchange.send_response(connection, channel, Response::Done);
        }
    }
}

impl NetworkTask {
    /// A hub passes on what one of its clients sends another, if that is connected. It takes no part in it.
    fn relay(&mut self, from: NodeId, to: NodeId, message: LinkMessage) {
        // Between clients of its own, whatever else the node has to do with others.
        let serves = |node| self.acquaintances.knows(Role::Hub, node);
        let there = self.is_connected(&to);
        let between_clients = serves(&from) && serves(&to);
        let on_their_way = self.relayed.entry(to).or_default();
        if self.hub.is_some() && between_clients && there && *on_their_way < RELAYED_MAX {
            *on_their_way += 1;
            self.request(to, Exchange::Relayed, Request::Relayed { from, message });
        } else {
            count(&self.dropped.requests_refused);
        }
    }

    /// A message that was passed on has arrived, or will not.
    pub(super) fn relay_ended(&mut self, to: NodeId) {
        if let Some(on_their_way) = self.relayed.get_mut(&to) {
            *on_their_way = on_their_way.saturating_sub(1);
            if *on_their_way == 0 {
                self.relayed.remove(&to);
            }
        }
    }
}

/// Whether a sealed mark says that it is a client's; a node may be both ends of different tables.
pub(super) fn is_of_client(mark: &[u8]) -> bool {
    mark.first() == Some(&ClientMark::KIND)
}
