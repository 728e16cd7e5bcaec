//! The wire: frames inside TLS. Parsers and emitters over slices, no state, no io.
//!
//! docs/PROTOCOL.md is the specification; the names of its rules stand beside the code.

pub mod batch;
pub mod control;
pub(crate) mod digest;
pub(crate) mod floor;
pub mod frame;
pub(crate) mod part;
pub mod vector;
pub(crate) mod withheld;

/// Oldest protocol version that this code speaks.
pub const VERSION_MIN: u8 = 1;
/// Newest protocol version that this code speaks.
pub const VERSION_MAX: u8 = 1;
