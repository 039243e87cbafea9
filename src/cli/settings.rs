//! Node settings from four layers: flags over `DSKE_*` variables over the TOML file over defaults.
//!
//! Only settings that differ from start to start are here; the rest of the policy lives in the file alone.

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use clap::Args;
use dske_node::config::{Config, ConfigError};
use dske_protocol::ids::Name;

use crate::cli::{config_error, error::Result, units};

/// Settings that may be given on the command line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Node settings (over DSKE_NAME, DSKE_LISTEN, … over the file)")]
pub(crate) struct NodeFlags {
    /// The node's name
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Address to listen on, such as /ip4/0.0.0.0/tcp/7001; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// Answer monitoring over HTTP here, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Hubs used for a key; 0 for all
    #[arg(short, value_name = "N")]
    pub(crate) n: Option<u8>,
    /// Shares needed to reconstruct a key
    #[arg(short, value_name = "K")]
    pub(crate) k: Option<u8>,
    /// Least k accepted as a receiver (k_B)
    #[arg(long, value_name = "K")]
    pub(crate) k_min: Option<u8>,
    /// How long a receiver waits for shares
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) deadline: Option<Duration>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This flag.
    Flag(&'static str),
    /// This environment variable.
    Variable(&'static str),
    /// The file.
    File,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(variable) => f.write_str(variable),
            Self::File => f.write_str("file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting that can come from several layers: its key in the file, its variable, its flag.
struct Knob {
    key: &'static str,
    variable: &'static str,
    flag: &'static str,
    text: fn(&NodeFlags) -> Option<String>,
    set: fn(&mut Config, &str) -> std::result::Result<(), String>,
}

const KNOBS: [Knob; 7] = [
    Knob {
        key: "node.name",
        variable: "DSKE_NAME",
        flag: "--name",
        text: |flags| flags.name.as_ref().map(ToString::to_string),
        set: |config, text| assign(&mut config.node.name, parse(text)),
    },
    Knob {
        key: "network.listen",
        variable: "DSKE_LISTEN",
        flag: "--listen",
        text: |flags| (!flags.listen.is_empty()).then(|| flags.listen.join(",")),
        set: |config, text| {
            let addresses = text.split(',').map(|one| parse(one.trim()));
            assign(&mut config.network.listen, addresses.collect())
        },
    },
    Knob {
        key: "metrics.listen",
        variable: "DSKE_METRICS",
        flag: "--metrics",
        text: |flags| flags.metrics.map(|address| address.to_string()),
        set: |config, text| assign(&mut config.metrics.listen, parse(text).map(Some)),
    },
    Knob {
        key: "policy.n",
        variable: "DSKE_N",
        flag: "-n",
        text: |flags| flags.n.map(|n| n.to_string()),
        set: |config, text| assign(&mut config.policy.n, parse(text)),
    },
    Knob {
        key: "policy.k",
        variable: "DSKE_K",
        flag: "-k",
        text: |flags| flags.k.map(|k| k.to_string()),
        set: |config, text| assign(&mut config.policy.k, parse(text)),
    },
    Knob {
        key: "policy.k_min",
        variable: "DSKE_K_MIN",
        flag: "--k-min",
        text: |flags| flags.k_min.map(|k| k.to_string()),
        set: |config, text| assign(&mut config.policy.k_min, parse(text)),
    },
    Knob {
        key: "policy.deadline_ms",
        variable: "DSKE_DEADLINE",
        flag: "--deadline",
        text: |flags| flags.deadline.map(|deadline| format!("{}ms", units::millis(deadline))),
        set: |config, text| {
            assign(&mut config.policy.deadline_ms, units::parse_duration(text).map(units::millis))
        },
    },
];

/// A configuration and where its settings come from.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) config: Config,
    /// Key in the file and origin; keys that are not listed come from the file or from defaults.
    overrides: Vec<(&'static str, Origin)>,
    file: toml::Table,
}

impl Resolved {
    /// Lays flags and variables over a configuration and checks the result. `file` is the text that the
    /// configuration was read from, empty where there is none.
    pub(crate) fn new(
        mut config: Config,
        file: &str,
        flags: &NodeFlags,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut overrides = Vec::new();
        for knob in &KNOBS {
            let from_flag = (knob.text)(flags).map(|text| (text, Origin::Flag(knob.flag)));
            let from_variable = || Some((variable(knob.variable)?, Origin::Variable(knob.variable)));
            let Some((text, origin)) = from_flag.or_else(from_variable) else { continue };
            (knob.set)(&mut config, &text).map_err(|reason| {
                let reason = format!("{origin} is '{}': {reason}", crate::cli::output::printable(&text));
                config_error::plain(&ConfigError::Value { key: knob.key, reason })
            })?;
            overrides.push((knob.key, origin));
        }
        config.check().map_err(|error| config_error::plain(&error))?;
        // The text has been read as a configuration before, so it is TOML.
        let file = file.parse().unwrap_or_default();
        Ok(Self { config, overrides, file })
    }

    /// Where the value of a dotted key comes from.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        if let Some((_, origin)) = self.overrides.iter().find(|(set, _)| *set == key) {
            return *origin;
        }
        let in_file = key.split_once('.').is_some_and(|(table, entry)| {
            self.file
                .get(table)
                .and_then(toml::Value::as_table)
                .is_some_and(|table| table.contains_key(entry))
        });
        if in_file { Origin::File } else { Origin::Default }
    }
}

/// Reads a configuration file and keeps its text for [`Resolved::origin`].
pub(crate) fn load(path: &Path) -> Result<(Config, String)> {
    let text = Config::read(path).map_err(|error| config_error::plain(&error))?;
    let config = Config::parse(&text, path).map_err(|error| config_error::located(&error, &text, path))?;
    Ok((config, text))
}

fn assign<T>(place: &mut T, value: std::result::Result<T, String>) -> std::result::Result<(), String> {
    *place = value?;
    Ok(())
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(text: &str) -> std::result::Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Config {
        Config::parse(text, Path::new("test.toml")).expect("a valid configuration")
    }

    const FILE: &str = "[node]\nname = \"alice\"\nroles = [\"client\"]\n[policy]\nk = 3\nn = 5\n";

    #[test]
    fn addresses_on_which_no_node_can_listen_are_refused() {
        let with = |address: &str| {
            let flags = NodeFlags { listen: vec![address.into()], ..NodeFlags::default() };
            Resolved::new(base(FILE), FILE, &flags, &|_| None).map_err(|error| error.to_string())
        };
        for address in ["/ip4/127.0.0.1/tcp/0", "/ip6/::/tcp/7001", "/ip4/0.0.0.0/tcp/7001"] {
            assert!(with(address).is_ok(), "{address}");
        }
        for address in ["/ip4/127.0.0.1/udp/7001", "/ip4/127.0.0.1", "/tcp/7001", "/dns/p1.example/tcp/7001"]
        {
            assert!(with(address).is_err_and(|said| said.contains("network.listen")), "{address}");
        }
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let flags = NodeFlags { k: Some(4), ..NodeFlags::default() };
        let variable = |name: &str| match name {
            "DSKE_K" => Some("2".to_owned()),
            "DSKE_N" => Some("6".to_owned()),
            "DSKE_LISTEN" => Some("/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2".to_owned()),
            _ => None,
        };
        let resolved = Resolved::new(base(FILE), FILE, &flags, &variable).expect("resolves");
        assert_eq!((resolved.config.policy.k, resolved.config.policy.n), (4, 6));
        assert_eq!(resolved.config.network.listen.len(), 2);
        assert_eq!(resolved.origin("policy.k"), Origin::Flag("-k"));
        assert_eq!(resolved.origin("policy.n"), Origin::Variable("DSKE_N"));
        assert_eq!(resolved.origin("node.name"), Origin::File);
        assert_eq!(resolved.origin("policy.deadline_ms"), Origin::Default);
    }

    #[test]
    fn what_the_layers_give_together_is_checked() {
        let flags = NodeFlags { k: Some(9), ..NodeFlags::default() };
        let error =
            Resolved::new(base(FILE), FILE, &flags, &|_| None).map(|_| ()).map_err(|error| error.exit());
        assert_eq!(error, Err(7));
        let bad = |name: &str| (name == "DSKE_K_MIN").then(|| "many".to_owned());
        let error = Resolved::new(base(FILE), FILE, &NodeFlags::default(), &bad).map(|_| ());
        assert!(error.is_err_and(|error| error.to_string().contains("DSKE_K_MIN is 'many'")));
    }
}
