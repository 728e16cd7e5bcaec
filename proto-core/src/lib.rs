//! Sans-IO core.
#![no_std]
#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod code;
pub mod event;
pub mod hlc;
pub mod id;
pub mod log;
pub mod mem;
pub mod policy;
pub mod time;
pub mod varint;
