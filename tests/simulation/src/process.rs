//! A process that runs: the store and exchanges of its node, with the hub's part, the client's, or both. Each part of a
//! process that has both is an actor of its own: what comes for it waits in a queue, so that one may hear of a thing long
//! after the other, and each hears of everything in order. A part that is behind is behind with all of it: what the store
//! answers, what an application wants and what is due wait as well.

use std::collections::VecDeque;

use dske_protocol::{
    hub::JOBS_MAX,
    ids::{Lane, TableId},
    message::{ClientMark, Tagged},
    params::COLLECTING_BYTES_MAX,
    receiver::ReceiverInput,
};

use crate::{
    client::{Answer, ClientRole},
    core::{About, Core, Done},
    hub::HubRole,
    packet::{Packet, Wire},
    shared::{Event, MILLI, Micros, SECOND, Shared},
};

/// A part is so much behind at most.
const BEHIND_MAX: Micros = 60 * MILLI;
/// The same of the end of a connection, which a part that has much to do may hear of after it has begun anew.
const ENDED_BEHIND_MAX: Micros = 4 * SECOND;

/// One of the two parts of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Hub,
    Client,
}

/// What comes for a part.
#[derive(Debug)]
enum Input {
    Packet { from: usize, packet: Packet },
    Connection { peer: usize, up: bool },
    Unanswered(Wire),
    Done(Done),
    Reconstructed(ReceiverInput),
    Wish(usize),
    Limits,
    Flood,
}

/// See the head of the file.
pub(crate) struct Process {
    pub(crate) core: Core,
    pub(crate) hub: Option<Box<HubRole>>,
    pub(crate) client: Option<Box<ClientRole>>,
    /// What waits for the hub's part, and for the client's.
    queues: [VecDeque<Input>; 2],
}

impl Process {
    /// A process as it starts: what its store holds, and no more.
    pub(crate) fn start(core: Core, shared: &mut Shared) -> Self {
        let hub = shared.plan.is_hub(core.me).then(|| Box::new(HubRole::start(&core, shared)));
        let client = shared.plan.is_client(core.me).then(|| Box::new(ClientRole::start(&core, shared)));
        Self { core, hub, client, queues: Default::default() }
    }

    // -- input

    pub(crate) fn packet(&mut self, shared: &mut Shared, from: usize, packet: Packet) {
        let part = self.reader(&packet);
        self.hear(shared, part, Input::Packet { from, packet });
    }

    pub(crate) fn connection(&mut self, shared: &mut Shared, peer: usize, up: bool) {
        for part in [Part::Hub, Part::Client] {
            self.hear(shared, part, Input::Connection { peer, up });
        }
    }

    /// An exchange came to nothing.
    pub(crate) fn unanswered(&mut self, shared: &mut Shared, wire: Wire) {
        let Some(exchange) = self.core.exchanges.get(&wire) else { return };
        let part = asker(exchange.about);
        self.hear(shared, part, Input::Unanswered(wire));
    }

    pub(crate) fn done(&mut self, shared: &mut Shared, done: Done) {
        let of_hub = match &done {
            Done::Pad(machine, _) => machine.is_of_hub(),
            Done::Queued(_) | Done::Read(..) => true,
            Done::Taken(..) | Done::Ended(_) => false,
        };
        let part =
            if self.client.is_none() || of_hub && self.hub.is_some() { Part::Hub } else { Part::Client };
        self.follow(shared, part, Input::Done(done));
    }

    pub(crate) fn reconstructed(&mut self, shared: &mut Shared, input: ReceiverInput) {
        self.follow(shared, Part::Client, Input::Reconstructed(input));
    }

    pub(crate) fn wish(&mut self, shared: &mut Shared, wish: usize) {
        self.follow(shared, Part::Client, Input::Wish(wish));
    }

    pub(crate) fn set_limits(&mut self, shared: &mut Shared) {
        self.follow(shared, Part::Client, Input::Limits);
    }

    pub(crate) fn flood(&mut self, shared: &mut Shared) {
        self.follow(shared, Part::Client, Input::Flood);
    }

    /// What does not come from the network is taken in at once where nothing waits before it.
    fn follow(&mut self, shared: &mut Shared, part: Part, input: Input) {
        if self.is_behind(part) {
            self.queues[part as usize].push_back(input);
        } else {
            self.take_in(shared, part, input);
        }
    }

    fn is_behind(&self, part: Part) -> bool {
        !self.queues[part as usize].is_empty()
    }

    /// A part takes in what waits for it.
    pub(crate) fn heard(&mut self, shared: &mut Shared, part: Part) {
        for input in std::mem::take(&mut self.queues[part as usize]) {
            if self.core.dead {
                return;
            }
            self.take_in(shared, part, input);
        }
    }

    /// What comes for a part of a process that has both waits until that part gets to it.
    fn hear(&mut self, shared: &mut Shared, part: Part, input: Input) {
        if self.hub.is_none() || self.client.is_none() {
            return self.take_in(shared, part, input);
        }
        let ended = matches!(input, Input::Connection { up: false, .. });
        let queue = &mut self.queues[part as usize];
        queue.push_back(input);
        if queue.len() == 1 {
            // Mostly at once, now and then late: of the end of a connection when there has long been another.
            let quiet = shared.healed || shared.checker.bounds.sharp;
            let behind = match () {
                () if ended && !quiet && shared.rng.chance(0.3) => shared.rng.below(ENDED_BEHIND_MAX),
                () if shared.rng.chance(0.8) => 0,
                () => shared.rng.below(BEHIND_MAX),
            };
            shared.after(behind, Event::Heard(self.core.me, self.core.epoch, part));
        }
    }

    fn take_in(&mut self, shared: &mut Shared, part: Part, input: Input) {
        let core = &mut self.core;
        match (part, input) {
            (Part::Hub, input) => {
                let Some(hub) = &mut self.hub else { return };
                match input {
                    Input::Packet { from, packet } => hub.packet(core, shared, from, packet),
                    Input::Connection { peer, up } => hub.connection(core, shared, peer, up),
                    Input::Unanswered(wire) => {
                        let to = core.exchanges.get(&wire).map(|exchange| exchange.to);
                        to.into_iter().for_each(|to| hub.answered(core, shared, to, wire, None));
                    }
                    Input::Done(done) => hub.done(core, shared, done),
                    Input::Reconstructed(_) | Input::Wish(_) | Input::Limits | Input::Flood => {}
                }
            }
            (Part::Client, input) => {
                let Some(client) = &mut self.client else { return };
                match input {
                    Input::Packet { from, packet } => client.packet(core, shared, from, packet),
                    Input::Connection { peer, up } => client.connection(core, shared, peer, up),
                    Input::Unanswered(wire) => {
                        let to = core.exchanges.get(&wire).map(|exchange| exchange.to);
                        let none = || -> Option<Answer> { None };
                        to.into_iter().for_each(|to| client.answered(core, shared, to, wire, none()));
                    }
                    Input::Done(done) => client.done(core, shared, done),
                    Input::Reconstructed(input) => client.reconstructed(core, shared, input),
                    Input::Wish(wish) => client.wish(core, shared, wish),
                    Input::Flood => client.flood(core, shared),
                    Input::Limits => client.set_limits(core, shared),
                }
            }
        }
    }

    /// Which part a packet is for.
    fn reader(&self, packet: &Packet) -> Part {
        match packet {
            Packet::Key(..)
            | Packet::Identity(..)
            | Packet::Hello(_)
            | Packet::SyncHello(..)
            | Packet::Relay(..) => Part::Hub,
            Packet::Mark(_, bytes) if bytes.first() == Some(&ClientMark::KIND) => Part::Hub,
            // Whoever has one part alone hears everything.
            _ if self.client.is_none() => Part::Hub,
            _ if self.hub.is_none() => Part::Client,
            Packet::InstructionAnswer(..) => Part::Hub,
            Packet::MarkAnswer(wire, _) => {
                self.core.exchanges.get(wire).map_or(Part::Client, |exchange| asker(exchange.about))
            }
            _ => Part::Client,
        }
    }

    // -- time

    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        let (hub_behind, client_behind) = (self.is_behind(Part::Hub), self.is_behind(Part::Client));
        if let Some(hub) = self.hub.as_mut().filter(|_| !hub_behind) {
            hub.tick(&mut self.core, shared);
            hub.execute(&mut self.core, shared);
        }
        if let Some(client) = self.client.as_mut().filter(|_| !client_behind) {
            client.tick(&mut self.core, shared);
        }
    }

    /// Sees to it that the next deadline is met.
    pub(crate) fn arm(&mut self, shared: &mut Shared) {
        let (hub_behind, client_behind) = (self.is_behind(Part::Hub), self.is_behind(Part::Client));
        let hub = self.hub.as_mut().filter(|_| !hub_behind).and_then(|hub| hub.due(shared));
        let client = self.client.as_mut().filter(|_| !client_behind);
        let client = client.and_then(|client| client.due(&self.core, shared));
        let due = [hub, client].into_iter().flatten().min();
        let Some(due) = due.map(|due| due.max(shared.now + 1)) else { return };
        if self.core.timer.is_none_or(|at| due < at) {
            self.core.timer = Some(due);
            shared.at(due, Event::Timer(self.core.me, self.core.epoch));
        }
    }

    // -- for the checks

    /// What is held beyond its limit.
    pub(crate) fn unbounded(&self) -> Option<String> {
        let jobs = self.hub.as_ref().map_or(0, |hub| hub.hub.under_way());
        if jobs > JOBS_MAX {
            return Some(format!("{jobs} jobs"));
        }
        let bytes = self.held_bytes();
        (bytes > COLLECTING_BYTES_MAX).then(|| format!("{bytes} bytes of shares"))
    }

    /// What a client counts against its limits, in words.
    pub(crate) fn held(&self) -> Option<String> {
        let receiver = &self.client.as_ref()?.receiver;
        let (shares, messages, agreements) =
            (receiver.held_bytes(), receiver.taken_bytes(), receiver.collected());
        (shares > 0 || messages > 0 || agreements > 0)
            .then(|| format!("{shares} bytes of shares, {messages} of messages and {agreements} agreements"))
    }

    fn held_bytes(&self) -> usize {
        self.client.as_ref().map_or(0, |client| client.receiver.held_bytes())
    }

    /// Tables that are open for the machine that compares them, and shut in the store.
    pub(crate) fn stuck(&self) -> Vec<TableId> {
        let of_hub = self.hub.iter().flat_map(|hub| hub.stuck(&self.core));
        of_hub.chain(self.client.iter().flat_map(|client| client.stuck(&self.core))).collect()
    }

    /// What is under way, in words.
    pub(crate) fn under_way(&self) -> Option<String> {
        let hub = self.hub.as_ref().filter(|hub| !hub.is_idle());
        let hub = hub.map(|hub| format!("{} requests", hub.under_way()));
        hub.or_else(|| self.client.as_ref().and_then(|client| client.under_way()))
            .or_else(|| (!self.core.is_idle()).then(|| "work for the store".to_owned()))
            .or_else(|| {
                self.queues.iter().any(|queue| !queue.is_empty()).then(|| "input to take in".to_owned())
            })
    }
}

/// Which part asked.
fn asker(about: About) -> Part {
    match about {
        About::Instruction(_) | About::Mark(_, Lane::Down) => Part::Hub,
        About::Key(_)
        | About::Identity(_)
        | About::Limits
        | About::Hello
        | About::SyncHello(_)
        | About::Mark(_, Lane::Up) => Part::Client,
    }
}
