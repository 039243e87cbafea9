//! Sans-IO state machines, arithmetic and types of Distributed Symmetric Key Exchange (DSKE).
//!
//! Nothing here knows a clock, a file, a socket or a source of randomness: time and randomness come in
//! with the input, and what is to be done comes out as effects.
//!
//! | part | where |
//! |---|---|
//! | arithmetic (§2.5) | [`field`], [`coefficients`], [`sharing`], [`reconstruct`], [`tag`] |
//! | things used once, things erased | [`pad`], [`wiped`] |
//! | words on the wire | [`message`], [`codec`], [`refusal`], [`ids`], [`params`] |
//! | which node somebody means | [`naming`] |
//! | what a client signs (§2.2) | [`enrolment`] |
//! | state machines (§2.2 – §3) | [`sender`], [`hub`], [`receiver`], [`identity`], [`negotiation`] |
//! | the guard against rollback | [`sync`] |
//! | what each may use | [`quota`], [`limits`], [`room`] |
//! | what a client has ahead, and for how long it keeps what it has | [`pool`], [`retention`] |
//! | whose turn it is | [`post`] |
//! | how much is agreed ahead | [`stream`] |
//! | the seam to storage | [`effect`] |

pub mod codec;
mod collect;
pub mod effect;
pub mod enrolment;
mod fair;
pub mod hub;
pub mod identity;
pub mod ids;
pub mod key_check;
pub mod limits;
pub mod message;
pub mod naming;
pub mod negotiation;
pub mod pad;
pub mod params;
pub mod planted;
pub mod pool;
pub mod post;
pub mod quota;
pub mod receiver;
pub mod reconstruct;
pub mod refusal;
pub mod retention;
pub mod room;
mod saying;
pub mod sender;
pub mod stream;
pub mod sync;
pub mod tag;

#[cfg(target_arch = "x86_64")]
pub use dske_arithmetic::without_gfni;
pub use dske_arithmetic::{coefficients, field, sharing, wiped};
use dske_arithmetic::{kernel, polyval};

pub use collect::{ReconstructJob, Reconstructed};
pub use saying::Ways;
