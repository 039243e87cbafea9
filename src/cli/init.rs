//! `dske init`: a data directory with identity, configuration and an empty store.

use clap::{Args, ValueEnum};
use dske_node::config::{Config, Role};
use serde::Serialize;

use crate::cli::{
    context::Context,
    error::{CliError, Result},
    output::printable,
    settings::{NodeFlags, Resolved},
};

/// Arguments of `dske init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// What the node does; give both with a comma
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    role: Vec<RoleChoice>,
    #[command(flatten)]
    node: NodeFlags,
}

/// `--role`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleChoice {
    /// A Security Hub
    Hub,
    /// A client, sender and receiver at once
    Client,
}

impl From<RoleChoice> for Role {
    fn from(choice: RoleChoice) -> Self {
        match choice {
            RoleChoice::Hub => Self::Hub,
            RoleChoice::Client => Self::Client,
        }
    }
}

/// Runs `dske init`.
pub(crate) fn run(args: &InitArgs, context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Made {
        name: String,
        node: String,
        peer_id: String,
        dir: String,
    }
    let dir = context.dir()?;
    let name = match (&args.node.name, context.variable("DSKE_NAME")) {
        (Some(name), _) => name.clone(),
        (None, Some(text)) => text
            .parse()
            .map_err(|error| CliError::usage(format!("DSKE_NAME is '{}': {error}", printable(&text))))?,
        (None, None) => {
            return Err(CliError::usage("a node needs a name").help("add --name, such as --name alice"));
        }
    };
    let mut config = Config::new(name.clone(), args.role.iter().copied().map(Role::from));
    // The default k_min is for networks with at least three hubs; whoever asks for less gets less.
    if let Some(k) = args.node.k {
        config.policy.k_min = config.policy.k_min.min(k);
    }
    let config = Resolved::new(config, "", &args.node, &|name| context.variable(name))?.config;
    let node = dske_node::init(&dir, &config)?;
    let me = dske_node::identity(&dir)?;
    let made = Made {
        name: name.to_string(),
        node: node.to_string(),
        peer_id: me.peer_id,
        dir: dir.path().display().to_string(),
    };
    if context.out.json {
        return context.out.document(&made);
    }
    let roles: Vec<String> = config.node.roles.iter().map(ToString::to_string).collect();
    context.out.line(format_args!(
        "{} {} ({}) in {}",
        context.out.good(),
        made.name,
        roles.join(", "),
        made.dir
    ))?;
    context.out.line(format_args!("  peer id {}", made.peer_id))?;
    let at = match &context.globals.dir {
        Some(dir) => format!(" --dir {}", dir.display()),
        None => String::new(),
    };
    context.out.note(match config.node.roles.contains(&Role::Client) {
        true => {
            format!("next: `dske enrol request{at} -o me.enrol`, and take the file to each hub's operator")
        }
        false => format!(
            "next: `dske enrol accept{at} FILE` for each client, then `dske pskm make{at} --for CLIENT`"
        ),
    });
    Ok(())
}
