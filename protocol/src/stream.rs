//! What decides how much pad a stream of keys burns: nothing here sends anything.
//!
//! | part | what it decides |
//! |---|---|
//! | [`ahead`] | how much may be begun that receivers have not confirmed |
//! | [`path`] | when a negotiation key is agreed, and when rounds have failed too often |

pub mod ahead;
pub mod path;
