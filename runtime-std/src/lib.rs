//! Ropeway on an ordinary computer: the data directory, keys, certificates and TLS.
//!
//! A node's life begins with [`keygen`]; its certificate comes from [`sign`]; then
//! [`NodeIdentity::load`] gives what [`tls`] needs to speak to others. Names of peers come from
//! verified certificates only ([`identity`]).
#![forbid(unsafe_code)]

pub mod dir;
pub mod error;
pub mod identity;
pub mod keygen;
pub mod sign;
pub mod tls;

mod cert;

pub use dir::{DataDir, DirLock};
pub use error::{Error, IoContext, Result};
pub use identity::{CertIdentity, DeploymentId, NodeIdentity};
