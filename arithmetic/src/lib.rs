//! The arithmetic of Distributed Symmetric Key Exchange (DSKE, §2.5): the field, secret sharing, hashing, and memory that
//! is erased.
//!
//! | part | where |
//! |---|---|
//! | GF(2^8), and the formulas of sharing over any field | [`field`], [`coefficients`] |
//! | rows of coefficients applied to long runs of bytes | [`kernel`] |
//! | the scaled (n, k) scheme | [`sharing`] |
//! | POLYVAL of whole texts | [`polyval`] |
//! | secret bytes that are erased many at once | [`wiped`] |

pub mod coefficients;
pub mod field;
pub mod kernel;
pub mod polyval;
pub mod sharing;
pub mod wiped;
#[cfg(target_arch = "x86_64")]
pub mod without_gfni;
