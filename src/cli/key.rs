//! `dske key`: agree keys as the sender, take them as a receiver, list what was agreed.
//!
//! A key is shown or written only where the user says so; everything printed otherwise names it by its id.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, value_parser};
use dske_node::control::{KeyDelivery, KeyGet, Reply, Request};
use dske_protocol::{ids::KeyId, naming::NodeRef, params::KEY_BYTES_MAX};

use crate::cli::{
    context::Context,
    control::{self, Caller},
    error::{CliError, Result, exit},
    key_list,
    key_next::{self, NextArgs},
    key_out::{Encoding, KeyFile},
    key_report::{self, Placed},
    units,
};

/// `dske key …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Agree a key with other clients
    Get(GetArgs),
    /// Take the next key of a stream
    Next(NextArgs),
    /// Take a key that another client agreed with this one
    Fetch(FetchArgs),
    /// The agreements of this client, newest first
    Ls {
        /// How many at most
        #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// Arguments of `dske key get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The receivers, with commas between: by name, as NAME/ID with the first digits of the id, or by the whole id
    #[arg(long, value_name = "PEER", value_delimiter = ',', required = true)]
    with: Vec<NodeRef>,
    /// Length of the key, such as 256 or 1Mbit
    #[arg(long, default_value = "256", value_parser = units::parse_bits)]
    bits: u64,
    /// Use only these hubs, named in the same ways, with commas between
    #[arg(long, value_name = "HUB", value_delimiter = ',')]
    hubs: Vec<NodeRef>,
    /// Use this many of the usable hubs
    #[arg(short, value_name = "N", value_parser = value_parser!(u8).range(1..))]
    n: Option<u8>,
    /// Shares needed, instead of the policy's k
    #[arg(short, value_name = "K", value_parser = value_parser!(u8).range(1..))]
    k: Option<u8>,
    /// What the key is for; both sides see it, and so does the network
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    purpose: String,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `dske key fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// The key's id, or the first digits of it
    id: String,
    /// Wait for it this long
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    place: Place,
}

/// Where the key goes. One of the three must be said.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where the key goes")]
pub(crate) struct Place {
    /// Into a new file, readable by its owner alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reveal", "raw"])]
    out: Option<PathBuf>,
    /// To standard output, in base 64 unless --format says otherwise
    #[arg(long, conflicts_with = "raw")]
    reveal: bool,
    /// To standard output as bytes; not to a terminal
    #[arg(long, conflicts_with_all = ["json", "format"])]
    raw: bool,
    /// Form of the key [default: raw with --out, base64 with --reveal]
    #[arg(long, value_enum)]
    format: Option<Encoding>,
}

impl Place {
    /// Refuses, before anything is asked, what gives the key no place: nobody keeps a copy of it here.
    pub(crate) fn check(&self) -> Result<()> {
        if self.out.is_some() || self.reveal || self.raw {
            return Ok(());
        }
        if self.format.is_some() {
            return Err(CliError::usage("--format needs --out or --reveal"));
        }
        Err(CliError::usage("there is no place for the key")
            .help("say --out FILE, --reveal or --raw: the node gives the key to this command once and keeps no copy"))
    }

    /// Makes the place ready for a key of so many bytes, before it is asked for.
    pub(crate) fn open(&self, key_bytes: u64) -> Result<Placed> {
        self.check()?;
        if self.raw {
            if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                return Err(CliError::usage("--raw does not write to a terminal")
                    .help("send the output to a program or file, or use --reveal"));
            }
            return Ok(Placed::Print(Encoding::Raw));
        }
        if let Some(path) = &self.out {
            let file = KeyFile::create(path, key_bytes, self.format.unwrap_or(Encoding::Raw))?;
            return Ok(Placed::File(file, path.clone()));
        }
        match self.format {
            Some(Encoding::Raw) => {
                Err(CliError::usage("--reveal prints text").help("use --raw for the bytes"))
            }
            format => Ok(Placed::Print(format.unwrap_or(Encoding::Base64))),
        }
    }
}

/// Runs `dske key …`.
pub(crate) fn run(command: &KeyCommand, context: &Context) -> Result<()> {
    match command {
        KeyCommand::Get(args) => get(args, context),
        KeyCommand::Next(args) => key_next::run(args, context),
        KeyCommand::Fetch(args) => fetch(args, context),
        KeyCommand::Ls { limit } => key_list::run(*limit, context),
    }
}

fn get(args: &GetArgs, context: &Context) -> Result<()> {
    args.place.check()?;
    let dir = context.dir()?;
    let hubs = roster(args, context)?;
    let caller = Caller::new()?;
    let place = args.place.open(args.bits / 8)?;
    let request = Request::KeyGet(KeyGet {
        with: args.with.clone(),
        bits: args.bits,
        hubs,
        k: args.k,
        purpose: args.purpose.clone(),
        timeout_ms: units::millis(context.globals.timeout),
    });
    // The node keeps the time; this margin is for its answer to come back.
    let wait = context.globals.timeout.saturating_add(Duration::from_secs(5));
    let key = delivery(caller.ask(context, &dir, request, wait)?)?;
    key_report::deliver(key, Some(&args.with), place, context)
}

fn fetch(args: &FetchArgs, context: &Context) -> Result<()> {
    args.place.check()?;
    let dir = context.dir()?;
    let caller = Caller::new()?;
    let (id, key_bytes) = match args.id.parse::<KeyId>() {
        Ok(id) if args.place.out.is_some() => (id, key_list::length(&id, &caller, context)?),
        Ok(id) => (id, None),
        Err(_) => key_list::find(&args.id, context).map(|(id, key_bytes)| (id, Some(key_bytes)))?,
    };
    // It may be on its way yet: then room for the longest that there can be.
    let place = args.place.open(key_bytes.unwrap_or(KEY_BYTES_MAX))?;
    let wait = args.wait.unwrap_or_default();
    let request = Request::KeyFetch { id, wait_ms: units::millis(wait) };
    let key = delivery(caller.ask(context, &dir, request, wait.saturating_add(context.globals.timeout))?)?;
    key_report::deliver(key, None, place, context)
}

/// The hubs to use: those named, or as many of the usable ones as asked for, or all (empty).
fn roster(args: &GetArgs, context: &Context) -> Result<Vec<NodeRef>> {
    let Some(n) = args.n.map(usize::from) else { return Ok(args.hubs.clone()) };
    if !args.hubs.is_empty() {
        return if args.hubs.len() == n {
            Ok(args.hubs.clone())
        } else {
            Err(CliError::usage(format!("-n is {n}, but --hubs names {}", args.hubs.len())))
        };
    }
    let dir = context.dir()?;
    let Reply::Status(status) = control::online(context, &dir, Request::Status, context.globals.timeout)?
    else {
        return Err(CliError::strange_reply());
    };
    let usable = |peer: &&dske_node::status::PeerStatus| {
        peer.role == dske_node::config::Role::Hub
            && peer.connected
            && peer.excluded.is_none()
            && peer.shut.is_none()
    };
    let usable = status.peers.iter().filter(usable);
    let hubs: Vec<NodeRef> = usable.map(|peer| NodeRef::Id(peer.node)).take(n).collect();
    if hubs.len() < n {
        let message = match hubs.len() {
            0 => format!("n is {n}, but no hub is usable"),
            1 => format!("n is {n}, but only 1 hub is usable"),
            usable => format!("n is {n}, but only {usable} hubs are usable"),
        };
        return Err(
            CliError::new("dske::key::hubs", exit::USAGE, message).help("`dske status` shows the hubs")
        );
    }
    Ok(hubs)
}

fn delivery(reply: Reply) -> Result<KeyDelivery> {
    match reply {
        Reply::Key(key) => Ok(key),
        _ => Err(CliError::strange_reply()),
    }
}
