//! `dske config`: print a commented configuration, check one, show what is in force and why.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::{
    context::Context,
    error::Result,
    settings::{self, NodeFlags, Resolved},
};

/// A configuration with every key and its meaning.
const TEMPLATE: &str = include_str!("config_template.toml");

/// `dske config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a configuration file with every key and its meaning
    Template,
    /// Check a configuration file
    Check {
        /// The file; the node's own otherwise
        file: Option<PathBuf>,
    },
    /// Print the settings in force
    Show {
        /// Say where each comes from: flag, variable, file or default
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        node: NodeFlags,
    },
}

/// Runs `dske config …`.
pub(crate) fn run(command: &ConfigCommand, context: &Context) -> Result<()> {
    match command {
        ConfigCommand::Template => context.out.text(TEMPLATE),
        ConfigCommand::Check { file } => {
            let path = match (file, &context.globals.config) {
                (Some(path), _) | (None, Some(path)) => path.clone(),
                (None, None) => context.dir()?.config().to_path_buf(),
            };
            settings::load(&path)?;
            context.out.line(format_args!("{} {}", context.out.good(), path.display()))
        }
        ConfigCommand::Show { origin, node } => {
            let dir = context.dir()?;
            show(&context.config(&dir, node)?, *origin, context)
        }
    }
}

/// One setting, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: toml::Value,
    origin: String,
}

fn show(resolved: &Resolved, origin: bool, context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Settings {
        settings: Vec<Setting>,
    }
    let settings = flatten(resolved)?;
    if context.out.json {
        return context.out.document(&Settings { settings });
    }
    let width = settings.iter().map(|setting| setting.key.len() + setting.value.to_string().len() + 3).max();
    for setting in &settings {
        let text = format!("{} = {}", setting.key, setting.value);
        match origin {
            true => {
                let note = context.out.dim(format_args!("# {}", setting.origin));
                context.out.line(format_args!("{text:width$}  {note}", width = width.unwrap_or(0)))?;
            }
            false => context.out.line(text)?,
        }
    }
    Ok(())
}

fn flatten(resolved: &Resolved) -> Result<Vec<Setting>> {
    let tables = toml::Table::try_from(&resolved.config).map_err(std::io::Error::other)?;
    let mut settings = Vec::new();
    for (table, entries) in tables {
        let toml::Value::Table(entries) = entries else { continue };
        for (entry, value) in entries {
            let key = format!("{table}.{entry}");
            let origin = resolved.origin(&key).to_string();
            settings.push(Setting { key, value, origin });
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dske_node::config::Config;

    use super::*;

    #[test]
    fn the_template_is_a_configuration_and_knows_every_key() {
        let config = Config::parse(TEMPLATE, Path::new("template")).expect("the template parses");
        let resolved = Resolved::new(config, TEMPLATE, &NodeFlags::default(), &|_| None).expect("resolves");
        for setting in flatten(&resolved).expect("flattens") {
            assert_eq!(setting.origin, "file", "{} is missing from the template", setting.key);
        }
    }

    #[test]
    fn the_template_states_the_defaults() {
        let template = Config::parse(TEMPLATE, Path::new("template")).expect("the template parses");
        let default = Config::new(template.node.name.clone(), template.node.roles.clone());
        assert_eq!(template.policy, default.policy);
        assert_eq!(template.network, default.network);
    }
}
