//! A running testnet in the hands of this program. Dropping it stops its processes and removes its
//! directory, unless it is kept; so every way out of a failure leaves nothing behind.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::Child,
    time::Duration,
};

use dske_protocol::ids::Name;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    cli::{
        error::{CliError, Result},
        interrupt::Interrupt,
    },
    testnet::{Descriptor, Lifetime, Plan, process, provision, readiness},
};

/// How long a testnet gets to become ready.
const READY_WAIT: Duration = Duration::from_secs(30);

/// A running testnet.
#[derive(Debug)]
pub(crate) struct Net {
    descriptor: Descriptor,
    children: Vec<Child>,
    kept: bool,
}

impl Net {
    /// Makes and starts a testnet and waits until all clients can use all hubs. Must be called on the main
    /// thread; see [`process::start`].
    pub(crate) fn up(
        plan: &Plan,
        lifetime: Lifetime,
        runtime: &Runtime,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        plan.check()?;
        let parent = plan.root.parent().filter(|parent| !parent.exists()).map(ToOwned::to_owned);
        make_root(&plan.root)?;
        // Holds the directory from now on, so that it is removed whatever happens.
        let guard = Descriptor::new(plan.name.clone(), plan.root.clone(), plan.k, plan.pads.table_bytes());
        let mut net = Self { descriptor: guard, children: Vec::new(), kept: false };
        let up = net.bring_up(plan, lifetime, runtime, interrupt);
        if let Err(error) = up {
            drop(net);
            if let Some(parent) = parent {
                // Made for this testnet; other testnets may have come in meanwhile, then it stays.
                let _ = fs::remove_dir(parent);
            }
            return Err(error);
        }
        Ok(net)
    }

    fn bring_up(
        &mut self,
        plan: &Plan,
        lifetime: Lifetime,
        runtime: &Runtime,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let root = &self.descriptor.root;
        self.descriptor.root = fs::canonicalize(root).map_err(|error| CliError::file("use", root, error))?;
        // From now on `testnet down` removes it, should this program be ended before it can.
        self.descriptor.save()?;
        let (descriptor, ports) = provision::provision(plan, interrupt)?;
        self.descriptor = descriptor;
        self.descriptor.save()?;
        for place in 0..self.descriptor.nodes.len() {
            interrupt.check()?;
            self.start(place, lifetime)?;
        }
        self.descriptor.save()?;
        let ready = readiness::await_net(&self.descriptor, Instant::now() + READY_WAIT);
        runtime.block_on(interrupt.or(ready))?;
        drop(ports);
        self.descriptor.maker = None;
        self.descriptor.save()
    }

    fn start(&mut self, place: usize, lifetime: Lifetime) -> Result<()> {
        let Some(node) = self.descriptor.nodes.get_mut(place) else { return Ok(()) };
        let child = process::start(node, lifetime)?;
        node.pid = Some(child.id());
        self.children.push(child);
        Ok(())
    }

    /// What it consists of.
    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Ends one node at once, as a crash would.
    pub(crate) fn kill(&self, name: &Name) -> Result<()> {
        process::stop_hard([self.descriptor.node(name)?])
    }

    /// Leaves it running.
    pub(crate) fn keep(mut self) -> Descriptor {
        self.kept = true;
        self.descriptor.clone()
    }

    /// Stops it and removes everything of it; says what could not be done.
    pub(crate) fn down(mut self) -> Result<()> {
        self.kept = true;
        process::stop(&self.descriptor.nodes)?;
        self.reap();
        remove(&self.descriptor)
    }

    /// Collects the exit statuses of processes that have ended.
    fn reap(&mut self) {
        for child in &mut self.children {
            // Nothing depends on it: what is not collected goes with this program.
            let _ = child.try_wait();
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for child in &mut self.children {
            // It has ended already, or is ours and can be ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = remove(&self.descriptor) {
            tracing::warn!("{error}: remove it by hand");
        }
    }
}

/// Makes the directory, which must not have been there: what is rolled back must be this testnet's alone.
fn make_root(root: &Path) -> Result<()> {
    let mut private = DirBuilder::new();
    private.mode(0o700);
    let parents = root.parent().map_or(Ok(()), |parent| private.recursive(true).create(parent));
    parents
        .and_then(|()| private.recursive(false).create(root))
        .map_err(|error| CliError::file("make", root, error))
}

/// Removes a testnet's directory.
pub(crate) fn remove(net: &Descriptor) -> Result<()> {
    match fs::remove_dir_all(&net.root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CliError::file("remove", &net.root, error))
        }
        _ => Ok(()),
    }
}
