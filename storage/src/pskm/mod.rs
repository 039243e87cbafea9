//! Modules (Pre-Shared Key Modules, §2.1): the sealed files in which a hub delivers tables.
//!
//! [`make`] draws the pads, keeps them in the hub's store as a pending table and writes the sealed file;
//! [`import`] checks all of the file before the client's table exists, once per table for ever;
//! [`acknowledge`] activates the hub's table with the client's receipt. [`inspect`] only looks.
//!
//! The seal is symmetric encryption under a key that must travel by another way than the file. It protects
//! the file on its way; nothing else in the system rests on it.

mod acknowledge;
mod entropy;
mod error;
mod frames;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod health;
mod import;
mod inspect;
mod key;
mod make;
mod manifest;
mod partial;
mod receipt;
mod words;

pub use acknowledge::acknowledge;
pub use entropy::{DeviceEntropy, EntropyError, EntropySource, HealthFailure, SystemEntropy};
pub use error::ModuleError;
pub use import::{ImportOptions, Imported, import};
pub use inspect::{ModuleContents, ModuleInfo, inspect};
pub use key::ModuleKey;
pub use make::{HubContact, MakeModule, make};
pub use partial::{abandon, clear};
pub use receipt::{ReceiptPhrase, is_receipt};
pub use words::phrase;
