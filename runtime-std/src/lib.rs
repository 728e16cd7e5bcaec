//! Ropeway on an ordinary computer: the data directory, keys, certificates and TLS.
//!
//! A node's life begins with [`keygen`]; its certificate comes from [`sign`]; then
//! [`NodeIdentity::load`] gives what [`tls`] needs to speak to others. Names of peers come from
//! verified certificates only ([`identity`]).
#![forbid(unsafe_code)]

pub mod accept;
pub mod budget;
pub mod client;
pub mod dir;
pub mod error;
pub mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod identity;
pub mod keep;
pub mod keygen;
pub mod keyring;
pub mod local;
pub mod machine;
pub mod memory_ca;
pub mod model_codec;
pub mod pass;
pub mod quick;
pub mod repair;
pub mod replica;
pub mod retain;
pub mod sample;
pub mod scrub;
pub mod sign;
pub mod snapshot;
pub mod socket;
pub mod store;
pub mod tls;
pub mod view;
pub mod zstd_codec;

mod cert;

pub use client::{SyncError, SyncOptions, SyncReport};
pub use dir::{DataDir, DirLock};
pub use error::{Error, IoContext, Result};
pub use identity::{CertIdentity, DeploymentId, NodeIdentity};
pub use keep::{KeepOptions, KeepReport, KeepState, Stop};
pub use memory_ca::MemoryCa;
pub use replica::{Options, Replica};
pub use view::LogView;
