//! The network that a measurement runs on: the testnet that was named, or one of its own, which ends with it.

use dske_node::config::Role;
use dske_protocol::ids::Name;
use tokio::runtime::Runtime;

use crate::{
    cli::{
        context::Context,
        error::{CliError, Result},
        interrupt::{self, Interrupt},
        units,
    },
    testnet::{Descriptor, Lifetime, Net, NodeEntry, Pads, Plan, private_root},
};

/// Hubs, their k, and how many pad bytes go through each table of a network of its own, with two clients: from the one that
/// sends, or to the other.
pub(super) struct Size {
    pub(super) hubs: u8,
    pub(super) k: u8,
    pub(super) lane_bytes: u64,
}

/// A network to measure on. Dropping it takes down what was started for it.
pub(super) struct Network {
    descriptor: Descriptor,
    own: Option<Net>,
}

impl Network {
    /// Runs a measurement on a network and takes down what was started for it.
    pub(super) fn measured<T>(
        context: &Context,
        size: impl FnOnce() -> Result<Size>,
        measure: impl AsyncFnOnce(&Descriptor) -> Result<T>,
    ) -> Result<(T, Descriptor)> {
        let runtime = interrupt::runtime()?;
        let interrupt = Interrupt::listen(&runtime)?;
        let net = Self::up(context, &runtime, &interrupt, size)?;
        let descriptor = net.descriptor.clone();
        let found = runtime.block_on(interrupt.or(measure(&descriptor)));
        let ended = net.down();
        let found = found?;
        ended?;
        Ok((found, descriptor))
    }

    /// The testnet that the options name, or one of this size. `size` is asked only then.
    fn up(
        context: &Context,
        runtime: &Runtime,
        interrupt: &Interrupt,
        size: impl FnOnce() -> Result<Size>,
    ) -> Result<Self> {
        if let Some(name) = &context.globals.testnet {
            return Ok(Self { descriptor: Descriptor::load(name)?, own: None });
        }
        let Size { hubs, k, lane_bytes } = size()?;
        let pads = Pads::OneWay(lane_bytes);
        let (name, root): (Name, _) = private_root("bench")?;
        let clients = 2;
        let peers = 0;
        let plan =
            Plan { name, root, hubs, clients, peers, k, pads, deadline: None, port: None, metrics: false };
        let table = pads.table_bytes();
        // Both ends of every table.
        let all = table * u64::from(hubs) * u64::from(clients) * 2;
        let (table, all) = (units::size(table), units::size(all));
        context
            .out
            .note(format_args!("starting {hubs} hubs and 2 clients, pads {table} a table, {all} in all"));
        let net = Net::up(&plan, Lifetime::Bound, runtime, interrupt)?;
        Ok(Self { descriptor: net.descriptor().clone(), own: Some(net) })
    }

    /// Takes down what was started.
    fn down(self) -> Result<()> {
        self.own.map_or(Ok(()), Net::down)
    }
}

/// The sender and the receiver of a measurement.
pub(super) fn two_clients(net: &Descriptor) -> Result<[&NodeEntry; 2]> {
    let mut clients = net.with_role(Role::Client);
    match (clients.next(), clients.next()) {
        (Some(sender), Some(receiver)) => Ok([sender, receiver]),
        _ => Err(CliError::usage(format!("testnet {} has fewer than two clients", net.name))),
    }
}
