//! The targets: each takes any bytes and stops the process where something does not hold.

mod config_text;
mod files;
mod hub;
mod identity;
pub mod messages;
pub mod module;
mod receiver;
mod rounds;
mod sender;
pub mod socket;
mod store;
mod sync;
mod wire;

pub(crate) use store::records as store_records;

/// How far a script got, so that seeds can show that they reach what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Messages, keys or identities that were accepted.
    pub accepted: u64,
    /// Messages that were refused, wishes and questions that failed, agreements that were aborted.
    pub refused: u64,
    /// Pad bytes that were burned.
    pub burned: u64,
    /// Blocks charged for wrong tags.
    pub forged_blocks: u64,
    /// Negotiation keys that both ends of rounds have.
    pub sessions: u64,
    /// Keys of rounds that both ends have.
    pub rounds: u64,
    /// Hubs that were named for a lie in a round, at each end.
    pub named: u64,
    /// Sessions that a receiver was found to have lost.
    pub lost: u64,
}

/// Plays a script of one of the machines and tells how far it got; nothing for other targets.
pub fn reached(name: &str, input: &[u8]) -> Reached {
    match name {
        "hub" => hub::play(input),
        "receiver" => receiver::play(input),
        "rounds" => rounds::play(input),
        "identity" => identity::play(input),
        "sender" => sender::play(input),
        "sync" => sync::play(input),
        _ => Reached::default(),
    }
}

/// A target by name.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, that of its corpus too.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "messages", run: messages::messages },
    Target { name: "wire", run: wire::wire },
    Target { name: "control", run: wire::control },
    Target { name: "text", run: config_text::text },
    Target { name: "config", run: config_text::config },
    Target { name: "files", run: files::files },
    Target { name: "hub", run: |input| drop_reached(hub::play(input)) },
    Target { name: "receiver", run: |input| drop_reached(receiver::play(input)) },
    Target { name: "rounds", run: |input| drop_reached(rounds::play(input)) },
    Target { name: "identity", run: |input| drop_reached(identity::play(input)) },
    Target { name: "sender", run: |input| drop_reached(sender::play(input)) },
    Target { name: "sync", run: |input| drop_reached(sync::play(input)) },
    Target { name: "module", run: module::module },
    Target { name: "socket", run: |input| drop_served(socket::socket(input)) },
    Target { name: "store", run: store::store },
];

fn drop_reached(_: Reached) {}

fn drop_served(_: dske_node::fuzzing::Served) {}

/// Runs a target by its name.
///
/// # Panics
/// If there is no such target, or it finds something.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").run)(input);
}
