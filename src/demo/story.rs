//! The story, step by step. A step that fails is told and the story goes on; only what makes the rest
//! meaningless (a node that cannot be asked any more) ends it.

use std::time::Instant;

use dske_node::{
    config::Role,
    control::{Chaos, Reply, Request},
};
use dske_protocol::ids::Name;
use tokio::runtime::Runtime;

use crate::{
    cli::{
        control,
        error::{CliError, Result},
        interrupt::Interrupt,
        output::printable,
        progress::Progress,
        units,
    },
    demo::{
        agree::{Order, cost_bytes},
        cast::{Cast, burned},
        expected::{Expected, spent},
        report::{Outcome, Report},
    },
    testnet::{Lifetime, Net, Plan, await_node},
};

/// Exit statuses of an abort that is expected: too few shares, or no shares that fit together.
const ABORTS: [u8; 2] = [4, 5];
/// Lengths that are agreed both ways.
const LENGTHS_BITS: [u64; 3] = [256, 1_000_000, 8_000_000];

/// The demo in progress.
pub(crate) struct Story {
    net: Net,
    cast: Cast,
    plan: Plan,
    /// The hubs of a key between alice and bob.
    hubs: Vec<Name>,
    alice: Name,
    bob: Name,
    carol: Name,
}

impl Story {
    /// Starts hubs and clients.
    pub(crate) fn begin(
        plan: Plan,
        runtime: &Runtime,
        interrupt: &Interrupt,
        report: &mut Report,
    ) -> Result<Self> {
        let began = Instant::now();
        let net = Net::up(&plan, Lifetime::Bound, runtime, interrupt)?;
        let modules = plan.modules();
        let result =
            format!("{modules} modules made, imported and acknowledged; every client reaches every hub");
        report.add("start", began, Outcome::of(true, result))?;
        let cast = runtime.block_on(interrupt.or(Cast::assemble(net.descriptor())))?;
        let (alice, bob, carol) = (name("alice")?, name("bob")?, name("carol")?);
        let hubs = net.descriptor().with_role(Role::Hub).map(|hub| hub.name.clone());
        let hubs = hubs.filter(|hub| *hub != alice && *hub != bob).collect();
        Ok(Self { net, cast, plan, hubs, alice, bob, carol })
    }

    /// How many hubs a key of alice with these has: a receiver that is a hub is none of it.
    fn hubs_with(&self, to: &[&Name]) -> u8 {
        let serves = |hub: &&Name| !to.contains(hub);
        u8::try_from(self.hubs.iter().filter(serves).count()).unwrap_or(u8::MAX)
    }

    fn hub(&self, place: u8) -> Result<Name> {
        let hub = self.hubs.get(usize::from(place).saturating_sub(1));
        hub.cloned().ok_or_else(|| CliError::new("dske::demo", 1, format!("there is no hub number {place}")))
    }

    /// Plays it.
    pub(crate) async fn play(&mut self, report: &mut Report) -> Result<()> {
        let (alice, bob, carol) = (self.alice.clone(), self.bob.clone(), self.carol.clone());
        self.identities(report).await?;
        for bits in LENGTHS_BITS {
            self.key(report, bits, &alice, &[&bob], &Expected::AllHubs).await?;
            self.key(report, bits, &bob, &[&alice], &Expected::AllHubs).await?;
        }
        self.key(report, 256, &alice, &[&bob, &carol], &Expected::AllHubs).await?;
        let hubs = self.plan.hubs_of_a_key();
        let (last, liar) = (self.hub(hubs)?, self.hub(hubs - 1)?);
        self.stop(report, &last).await?;
        self.lie(report, &liar).await?;
        self.key(report, 256, &alice, &[&bob], &Expected::Liar(liar)).await?;
        // One honest hub fewer than k is left.
        for place in (self.plan.k..=hubs - 2).rev() {
            let hub = self.hub(place)?;
            self.stop(report, &hub).await?;
        }
        self.abort(report, 256, &alice, &bob).await
    }

    /// Stops everything and removes it.
    pub(crate) fn end(self, report: &mut Report) -> Result<()> {
        let began = Instant::now();
        let root = self.plan.root.clone();
        self.net.down()?;
        let outcome = Outcome::of(!root.exists(), "all processes stopped, all files removed");
        report.add("tear down", began, outcome)
    }

    /// The first contact of all clients: each learns from the hubs who the others are (§2.2).
    async fn identities(&mut self, report: &mut Report) -> Result<()> {
        let began = Instant::now();
        let order = Order { with: vec![self.bob.clone(), self.carol.clone()], bits: 256 };
        let agreed = self.cast.agree(&self.alice, &order).await;
        let mut claims = Vec::new();
        let pairs = [
            (&self.alice, &self.bob),
            (&self.alice, &self.carol),
            (&self.bob, &self.alice),
            (&self.carol, &self.alice),
        ];
        for (at, of) in pairs {
            let status = self.cast.status(at).await?;
            claims.push(
                status
                    .identities
                    .iter()
                    .find(|identity| identity.name == *of)
                    .map_or(0, |identity| identity.claims),
            );
        }
        let least = claims.into_iter().min().unwrap_or(0);
        let outcome = match agreed {
            Err(error) => failed(&error),
            Ok(agreed) => Outcome {
                burned_bytes: Some(agreed.burned_bytes),
                ..Outcome::of(
                    agreed.equal && least >= u32::from(self.plan.k),
                    format!(
                        "{least} of {} hubs claim each client alike; first key agreed",
                        self.plan.hubs_of_a_key()
                    ),
                )
            },
        };
        report.add("identities", began, outcome)
    }

    /// A key that must be agreed.
    async fn key(
        &mut self,
        report: &mut Report,
        bits: u64,
        from: &Name,
        to: &[&Name],
        expected: &Expected,
    ) -> Result<()> {
        let began = Instant::now();
        let order = Order { with: to.iter().map(|name| (*name).clone()).collect(), bits };
        let before = burned(&self.cast.status(from).await?);
        let mut agreed = self.cast.agree(from, &order).await;
        if let (Ok(agreed), Expected::Liar(_)) = (&mut agreed, expected) {
            self.cast.notice_liar(to, agreed).await?;
        }
        let after = burned(&self.cast.status(from).await?);
        let outcome = match agreed {
            Err(error) => failed(&error),
            Ok(agreed) => Outcome {
                took: Some(agreed.took),
                burned_bytes: Some(agreed.burned_bytes),
                ..expected.judge(
                    &agreed,
                    cost_bytes(bits, to.len()),
                    &spent(&before, &after),
                    self.hubs_with(to),
                )
            },
        };
        let names: Vec<&str> = to.iter().map(|name| name.as_str()).collect();
        let step = format!("{} {from} → {}", units::bits(bits), names.join(", "));
        report.add(&step, began, outcome)
    }

    /// A key that must not be agreed: the abort is the right end.
    async fn abort(&mut self, report: &mut Report, bits: u64, from: &Name, to: &Name) -> Result<()> {
        let began = Instant::now();
        let order = Order { with: vec![to.clone()], bits };
        let outcome = match self.cast.agree(from, &order).await {
            Ok(_) => Outcome::of(false, "a key was agreed with fewer than k honest hubs"),
            Err(error) if ABORTS.contains(&error.exit()) => {
                Outcome::of(true, format!("aborted, as it must: {}", printable(&error.to_string())))
            }
            Err(error) => failed(&error),
        };
        report.add(&format!("{} {from} → {to}", units::bits(bits)), began, outcome)
    }

    /// Ends a hub's process as a crash would.
    async fn stop(&mut self, report: &mut Report, hub: &Name) -> Result<()> {
        let began = Instant::now();
        self.net.kill(hub)?;
        // It may have been a client as well.
        self.cast.without(hub);
        self.cast.notice_gone(hub).await?;
        report.add(&format!("stop {hub}"), began, Outcome::of(true, "killed"))
    }

    /// Makes a hub forward false shares.
    async fn lie(&mut self, report: &mut Report, hub: &Name) -> Result<()> {
        let began = Instant::now();
        let node = self.net.descriptor().node(hub)?;
        let deadline = tokio::time::Instant::now() + ASK_WAIT;
        let mut client = await_node(node, deadline).await?;
        let request = Request::Chaos(Chaos::FalseShares);
        let reply = control::call(&mut client, request, &Progress::hidden(), ASK_WAIT).await?;
        let outcome = Outcome::of(matches!(reply, Reply::Done), "sends false shares from now on");
        report.add(&format!("corrupt {hub}"), began, outcome)
    }
}

/// How long a hub may take to answer its owner.
const ASK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

fn failed(error: &CliError) -> Outcome {
    Outcome::of(false, format!("failed: {} ({})", printable(&error.to_string()), error.code()))
}

fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|error| CliError::new("dske::demo", 1, format!("{text}: {error}")))
}
