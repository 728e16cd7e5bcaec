//! Sans-IO core.
#![no_std]
#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod arena;
pub mod code;
pub mod codec;
pub mod event;
mod fifo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod hlc;
pub mod id;
pub mod limits;
pub mod log;
pub mod medium;
pub mod mem;
pub mod node;
pub mod policy;
pub mod recovery;
mod session;
pub mod streams;
pub mod time;
mod timer;
pub mod varint;
pub mod wire;
