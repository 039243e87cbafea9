//! Sans-IO state machines, arithmetic and types of Distributed Symmetric Key Exchange (DSKE).

pub mod field;
pub mod ids;
pub mod pad;
pub mod reconstruct;
pub mod sharing;
pub mod tag;
