//! Executes what was asked for on the screen, and puts into words what came of it.

use std::{path::Path, time::Duration};

use dske_node::control::{Chaos, Client, Course, KeyDelivery, KeyGet, Reply, Request};
use dske_protocol::{ids::Name, naming::NodeRef};
use dske_tui::{Deed, Order};

use super::{Running, Target};
use crate::{
    cli::{
        control,
        error::{CliError, Result},
        key_out::{Encoding, KeyFile},
        progress::Progress,
        units,
    },
    testnet::{self, Descriptor},
};

/// What is given to a node beyond what the work itself may take.
const MARGIN: Duration = Duration::from_secs(5);

/// Executes an order. Gives whether it was carried out, and what to tell.
pub(super) async fn execute(running: &Running, order: Order) -> (bool, String) {
    match carry_out(running, &order).await {
        Ok(told) => (true, told),
        Err(error) => (false, format!("{order}: {error} ({})", error.code())),
    }
}

async fn carry_out(running: &Running, order: &Order) -> Result<String> {
    let target = || {
        let known = running.watched.targets.iter().find(|target| target.name == order.node);
        known.ok_or_else(|| CliError::usage(format!("{} is not watched here", order.node)))
    };
    match &order.deed {
        Deed::Key { with, bits, out } => key(running, target()?, with, *bits, out.as_deref()).await,
        Deed::Readmit { hub } => {
            done(ask(running, target()?, Request::Readmit { hub: hub.clone() }).await?)?;
            Ok(format!("{hub} is used again by {}", order.node))
        }
        Deed::Retire { serial } => {
            match ask(running, target()?, Request::PskmRetire { serial: serial.clone() }).await? {
                Reply::Module(module) => Ok(format!("{} is retired at {}", module.serial, order.node)),
                _ => Err(CliError::strange_reply()),
            }
        }
        Deed::Stop => {
            let node = descriptor(running)?.node(&order.node)?.clone();
            blocking(move || testnet::stop([&node])).await?;
            Ok(format!("{} is stopped", order.node))
        }
        Deed::Restart => {
            let (net, name) = (descriptor(running)?, order.node.clone());
            let handle = tokio::runtime::Handle::current();
            blocking(move || handle.block_on(testnet::restart(net, &name))).await?;
            Ok(format!("{} runs again", order.node))
        }
        Deed::Lie(lie) => {
            let chaos = if *lie { Chaos::FalseShares } else { Chaos::Off };
            done(ask(running, target()?, Request::Chaos(chaos)).await?)?;
            let what = if *lie { "sends false shares" } else { "behaves" };
            Ok(format!("{} {what}", order.node))
        }
    }
}

fn descriptor(running: &Running) -> Result<Descriptor> {
    match &running.watched.net {
        Some(net) => Descriptor::load(net),
        None => Err(CliError::usage("this is no local net")),
    }
}

/// Work that waits for processes: not where the screen is painted.
async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(CliError::new("dske::top::order", 1, "this went wrong: see the log")))
}

fn done(reply: Reply) -> Result<()> {
    if matches!(reply, Reply::Done) { Ok(()) } else { Err(CliError::strange_reply()) }
}

async fn ask(running: &Running, target: &Target, request: Request) -> Result<Reply> {
    ask_for(target, request, running.timeout).await
}

async fn ask_for(target: &Target, request: Request, wait: Duration) -> Result<Reply> {
    let mut client =
        Client::connect(&target.dir).await.map_err(|error| control::unreachable(&target.dir, error))?;
    control::call(&mut client, request, &Progress::hidden(), wait).await
}

async fn key(
    running: &Running,
    target: &Target,
    with: &[Name],
    bits: u64,
    out: Option<&str>,
) -> Result<String> {
    // There is a place for it before it is asked for.
    let file = out.map(|path| KeyFile::create(Path::new(path), bits / 8, Encoding::Raw)).transpose()?;
    let get = KeyGet {
        with: with.iter().cloned().map(NodeRef::Name).collect(),
        bits,
        hubs: Vec::new(),
        k: None,
        purpose: String::new(),
        timeout_ms: units::millis(running.timeout),
    };
    let delivery = match ask_for(target, Request::KeyGet(get), running.timeout.saturating_add(MARGIN)).await?
    {
        Reply::Key(delivery) => delivery,
        _ => return Err(CliError::strange_reply()),
    };
    if let Some(file) = file {
        file.fill(delivery.key.expose())?;
    }
    Ok(told(&delivery, out))
}

fn told(delivery: &KeyDelivery, out: Option<&str>) -> String {
    let KeyDelivery { id, n, course, .. } = delivery;
    let mut told = format!("key {id}");
    if let Some(Course { shares, liars, took_us, .. }) = course {
        told.push_str(&format!(": shares {shares}/{n}, {}", units::micros(*took_us)));
        if !liars.is_empty() {
            told.push_str(&format!(", FALSE share from {}", liars.join(", ")));
        }
    }
    match out {
        Some(path) => told.push_str(&format!(", in {path}")),
        None => told.push_str(", erased here"),
    }
    told
}
