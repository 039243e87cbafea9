//! What travels between nodes, and what a hostile network does to it.

use std::fmt;

use dske_protocol::{
    ids::{BlockId, NodeId, PadRange, TableId},
    message::{Nonce, Notice, NoticeOutcome, claimed_range},
    refusal::Refusal,
    sync::{HelloBack, SyncHello},
};

use crate::rng::{Digest, Rng};

/// Names one exchange: a request and its answer.
pub(crate) type Wire = u64;

/// One message of the transport.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Key(Wire, Vec<u8>),
    KeyAnswer(Wire, Result<(), Refusal>),
    Identity(Wire, Vec<u8>),
    IdentityAnswer(Wire, Result<Vec<u8>, Refusal>),
    Instruction(Wire, Vec<u8>),
    InstructionAnswer(Wire, Result<(), Refusal>),
    Notice(Notice),
    /// Between two clients, about a round.
    Link(Link),
    /// Client to hub: pass this on to another client.
    Relay(NodeId, Box<Packet>),
    /// Hub to client: another client is said to send this.
    Relayed(NodeId, Box<Packet>),
    Hello(Wire),
    HelloAnswer(Wire, Vec<TableId>),
    SyncHello(Wire, SyncHello),
    SyncHelloAnswer(Wire, Result<HelloBack, Refusal>),
    Mark(Wire, Vec<u8>),
    MarkAnswer(Wire, Result<Vec<u8>, Refusal>),
}

/// What two clients say about a round; whoever passes it on may be anybody.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    Offer(Vec<u8>),
    Choice(Vec<u8>),
    Confirmation(Vec<u8>),
    SessionLost(BlockId),
}

impl Link {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Offer(bytes) | Self::Choice(bytes) | Self::Confirmation(bytes) => bytes,
            Self::SessionLost(session) => session.as_bytes(),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Offer(bytes) | Self::Choice(bytes) | Self::Confirmation(bytes) => Some(bytes),
            Self::SessionLost(_) => None,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:x})", self.name(), self.fingerprint() & 0xffff_ffff)?;
        if let Some(PadRange { table, lane, offset, len }) =
            self.sealed().and_then(|sealed| claimed_range(sealed))
        {
            write!(f, " {}/{lane} {offset}+{len}", table.short())?;
        }
        match self {
            Self::KeyAnswer(_, Err(refusal))
            | Self::IdentityAnswer(_, Err(refusal))
            | Self::InstructionAnswer(_, Err(refusal))
            | Self::SyncHelloAnswer(_, Err(refusal))
            | Self::MarkAnswer(_, Err(refusal)) => write!(f, ": {refusal}"),
            Self::SyncHello(_, hello) => write!(f, " {}", hello.table.short()),
            Self::SyncHelloAnswer(_, Ok(back)) => write!(f, " {} keys {}", back.table.short(), back.keys),
            _ => Ok(()),
        }
    }
}

const REFUSALS: [Refusal; 6] = [
    Refusal::Busy,
    Refusal::PadUsed,
    Refusal::BadTag,
    Refusal::TablePending,
    Refusal::UnknownTable,
    Refusal::Internal,
];

impl Packet {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Key(..) => "key request",
            Self::KeyAnswer(_, Ok(())) => "key request accepted",
            Self::KeyAnswer(..) => "key request refused",
            Self::Identity(..) => "identity request",
            Self::IdentityAnswer(_, Ok(_)) => "identity claim",
            Self::IdentityAnswer(..) => "identity request refused",
            Self::Instruction(..) => "instruction",
            Self::InstructionAnswer(_, Ok(())) => "instruction accepted",
            Self::InstructionAnswer(..) => "instruction refused",
            Self::Notice(Notice { outcome: NoticeOutcome::Validated { .. }, .. }) => "notice: validated",
            Self::Notice(_) => "notice: aborted",
            Self::Link(Link::Offer(_)) => "offer",
            Self::Link(Link::Choice(_)) => "choice",
            Self::Link(Link::Confirmation(_)) => "confirmation",
            Self::Link(Link::SessionLost(_)) => "session lost",
            Self::Relay(..) => "to be passed on",
            Self::Relayed(..) => "passed on",
            Self::Hello(_) => "hello",
            Self::HelloAnswer(..) => "hello answered",
            Self::SyncHello(..) => "sync hello",
            Self::SyncHelloAnswer(_, Ok(_)) => "sync hello answered",
            Self::SyncHelloAnswer(..) => "sync hello refused",
            Self::Mark(..) => "mark",
            Self::MarkAnswer(_, Ok(_)) => "mark answered",
            Self::MarkAnswer(..) => "mark refused",
        }
    }

    /// The sealed message in it.
    pub(crate) fn sealed(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Key(_, bytes)
            | Self::Identity(_, bytes)
            | Self::Instruction(_, bytes)
            | Self::Mark(_, bytes)
            | Self::MarkAnswer(_, Ok(bytes))
            | Self::IdentityAnswer(_, Ok(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn sealed_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Key(_, bytes)
            | Self::Identity(_, bytes)
            | Self::Instruction(_, bytes)
            | Self::Mark(_, bytes)
            | Self::MarkAnswer(_, Ok(bytes))
            | Self::IdentityAnswer(_, Ok(bytes)) => Some(bytes),
            Self::Link(link) => link.bytes_mut(),
            Self::Relay(_, packet) | Self::Relayed(_, packet) => packet.sealed_mut(),
            _ => None,
        }
    }

    /// The same under the name of another exchange.
    pub(crate) fn with_wire(mut self, new: Wire) -> Self {
        match &mut self {
            Self::Key(wire, _)
            | Self::KeyAnswer(wire, _)
            | Self::Identity(wire, _)
            | Self::IdentityAnswer(wire, _)
            | Self::Instruction(wire, _)
            | Self::InstructionAnswer(wire, _)
            | Self::Hello(wire)
            | Self::HelloAnswer(wire, _)
            | Self::SyncHello(wire, _)
            | Self::SyncHelloAnswer(wire, _)
            | Self::Mark(wire, _)
            | Self::MarkAnswer(wire, _) => *wire = new,
            Self::Notice(_) | Self::Link(_) | Self::Relay(..) | Self::Relayed(..) => {}
        }
        self
    }

    /// A number that tells it apart from others, for traces and digests.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut digest = Digest::default();
        digest.bytes(self.name().as_bytes());
        match self {
            Self::HelloAnswer(_, tables) => tables.iter().for_each(|table| digest.bytes(table.as_bytes())),
            Self::KeyAnswer(_, Err(refusal))
            | Self::InstructionAnswer(_, Err(refusal))
            | Self::IdentityAnswer(_, Err(refusal)) => digest.number(*refusal as u64),
            Self::Notice(notice) => digest.bytes(notice.block.as_bytes()),
            Self::Link(link) => digest.bytes(link.bytes()),
            Self::Relay(node, packet) | Self::Relayed(node, packet) => {
                digest.bytes(node.as_bytes());
                digest.number(packet.fingerprint());
            }
            Self::SyncHello(_, hello) => digest.bytes(hello.table.as_bytes()),
            Self::SyncHelloAnswer(_, Ok(back)) => {
                digest.bytes(back.table.as_bytes());
                digest.number(back.keys);
            }
            _ => {}
        }
        if let Some(sealed) = self.sealed() {
            digest.bytes(sealed);
        }
        digest.0
    }

    /// Changes one field of a hello or of its answer, which no tag guards. `None` where it is neither.
    pub(crate) fn lie_in_hello(&mut self, rng: &mut Rng) -> Option<&'static str> {
        let nonce = |rng: &mut Rng| Nonce::random(&mut rng.0);
        let table = |rng: &mut Rng| {
            let mut id = [0; 16];
            rng.fill(&mut id);
            TableId::new(id)
        };
        Some(match self {
            Self::SyncHello(_, hello) if rng.chance(0.5) => {
                hello.nonce = nonce(rng);
                "lie in a hello: nonce"
            }
            Self::SyncHello(_, hello) => {
                hello.table = table(rng);
                "lie in a hello: table"
            }
            Self::SyncHelloAnswer(_, Ok(back)) => match rng.below(8) {
                0 => {
                    back.nonce = nonce(rng);
                    "lie in its answer: nonce"
                }
                1 => {
                    back.table = table(rng);
                    "lie in its answer: table"
                }
                2 => {
                    back.keys = u64::MAX - rng.below(64);
                    "lie in its answer: no place"
                }
                // Anywhere in a lane and behind it; often a place for tag keys.
                _ => {
                    back.keys = rng.below(44 << 10);
                    "lie in its answer: place"
                }
            },
            Self::SyncHelloAnswer(_, answer) => {
                *answer = Err(rng.pick(&REFUSALS).copied().unwrap_or(Refusal::Busy));
                "lie in its answer: refusal"
            }
            _ => return None,
        })
    }

    /// Damages it on its way. `other`: bytes of another message, to splice in.
    pub(crate) fn damage(&mut self, rng: &mut Rng, other: Option<&[u8]>) -> &'static str {
        let Some(bytes) = self.sealed_mut().filter(|bytes| !bytes.is_empty()) else {
            match self {
                Self::KeyAnswer(_, result) | Self::InstructionAnswer(_, result) => {
                    let refusal = rng.pick(&REFUSALS).copied().unwrap_or(Refusal::Busy);
                    *result = if rng.chance(0.5) { Ok(()) } else { Err(refusal) };
                }
                Self::HelloAnswer(_, tables) => tables.clear(),
                _ => {
                    self.lie_in_hello(rng);
                }
            }
            return "answer changed";
        };
        match (rng.below(6), other) {
            (0, _) => {
                let len = rng.index(bytes.len());
                bytes.truncate(len);
                "truncated"
            }
            (1, Some(other)) => {
                let at = rng.index(bytes.len().min(other.len()).max(1));
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(at..).unwrap_or_default());
                "spliced"
            }
            (2, _) => {
                // The tail of the tag: whoever compares too little of it does not see this.
                let tail = bytes.len().min(8);
                let at = bytes.len() - 1 - rng.index(tail);
                bytes[at] ^= 1 << rng.below(8);
                "tag flipped"
            }
            (3, _) => {
                let len = 1 + rng.index(40);
                let junk = rng.bytes(len);
                bytes.extend_from_slice(&junk);
                "extended"
            }
            _ => {
                for _ in 0..=rng.below(3) {
                    let at = rng.index(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
                "flipped"
            }
        }
    }
}
