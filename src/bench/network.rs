//! The network that a measurement runs on: the testnet that was named, or one of its own, which ends with it.

use dske_protocol::ids::Name;
use tokio::runtime::Runtime;

use crate::{
    cli::{context::Context, error::Result, interrupt::Interrupt, units},
    testnet::{Descriptor, Lifetime, Net, Plan, private_root},
};

/// Hubs, their k, and pad bytes of each table of a network of its own, with two clients.
pub(super) struct Size {
    pub(super) hubs: u8,
    pub(super) k: u8,
    pub(super) pad_bytes: u64,
}

/// A network to measure on. Dropping it takes down what was started for it.
pub(super) struct Network {
    pub(super) descriptor: Descriptor,
    own: Option<Net>,
}

impl Network {
    /// The testnet that the options name, or one of this size. `size` is asked only then.
    pub(super) fn up(
        context: &Context,
        runtime: &Runtime,
        interrupt: &Interrupt,
        size: impl FnOnce() -> Result<Size>,
    ) -> Result<Self> {
        if let Some(name) = &context.globals.testnet {
            return Ok(Self { descriptor: Descriptor::load(name)?, own: None });
        }
        let Size { hubs, k, pad_bytes } = size()?;
        let (name, root): (Name, _) = private_root("bench")?;
        let plan =
            Plan { name, root, hubs, clients: 2, k, pad_bytes, deadline: None, port: None, metrics: false };
        context.out.note(format_args!("starting {hubs} hubs and 2 clients, pads {}", units::size(pad_bytes)));
        let net = Net::up(&plan, Lifetime::Bound, runtime, interrupt)?;
        Ok(Self { descriptor: net.descriptor().clone(), own: Some(net) })
    }

    /// Takes down what was started.
    pub(super) fn down(self) -> Result<()> {
        self.own.map_or(Ok(()), Net::down)
    }
}
