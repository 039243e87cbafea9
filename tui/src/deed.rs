//! What can be done to the nodes from here, and what is asked before.

use std::fmt;

use dske_protocol::{ids::Name, naming::NodeRef};

/// Something to be done at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The node.
    pub node: Name,
    /// What.
    pub deed: Deed,
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Agree a key with others.
    Key {
        /// The receivers.
        with: Vec<Name>,
        /// Its length.
        bits: u64,
        /// A file that takes it; without one, this side's copy is erased.
        out: Option<String>,
    },
    /// Use an excluded hub again.
    Readmit {
        /// The hub.
        hub: NodeRef,
    },
    /// Take a module out of use for good.
    Retire {
        /// Its serial.
        serial: String,
    },
    /// End the node's process; only on a local net.
    Stop,
    /// Start the node again; only on a local net.
    Restart,
    /// Have a hub send false shares, or behave; only on a local net.
    Lie(bool),
}

impl Deed {
    /// Whether it needs the processes of a local net.
    pub(crate) fn needs_net(&self) -> bool {
        matches!(self, Self::Stop | Self::Restart | Self::Lie(_))
    }
}

impl Order {
    /// What follows from it, for the question whether it is meant.
    pub(crate) fn consequence(&self) -> String {
        let node = &self.node;
        match &self.deed {
            Deed::Key { bits, out: None, .. } => format!(
                "It burns {} bytes of pad with every hub. This side's copy is erased; the receivers keep theirs \
                 until it is fetched.",
                bits / 8 + 32
            ),
            Deed::Key { bits, out: Some(file), .. } => {
                format!(
                    "It burns {} bytes of pad with every hub. The key is written to {file}.",
                    bits / 8 + 32
                )
            }
            Deed::Readmit { hub } => {
                format!("{node} trusts {hub} again: only where you have found out why it was excluded.")
            }
            Deed::Retire { serial } => {
                format!("What is left of {serial} at {node} is overwritten and cannot come back.")
            }
            Deed::Stop => format!("The process of {node} ends; `restart {node}` starts it again."),
            Deed::Restart => format!("The process of {node} is stopped where it runs, and started anew."),
            Deed::Lie(true) => format!("{node} alters every share that it forwards, until it behaves again."),
            Deed::Lie(false) => format!("{node} forwards shares as they are."),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        match &self.deed {
            Deed::Key { with, bits, .. } => {
                let with: Vec<&str> = with.iter().map(Name::as_str).collect();
                write!(f, "Agree a key of {bits} bits: {node} with {}", with.join(", "))
            }
            Deed::Readmit { hub } => write!(f, "Re-admit {hub} at {node}"),
            Deed::Retire { serial } => write!(f, "Retire {serial} at {node}"),
            Deed::Stop => write!(f, "Stop {node}"),
            Deed::Restart => write!(f, "Restart {node}"),
            Deed::Lie(true) => write!(f, "Make {node} lie"),
            Deed::Lie(false) => write!(f, "Make {node} behave"),
        }
    }
}
