//! A deterministic world for Ropeway: hubs, clinics, links, disks and crashes in virtual time, from
//! one seed, in one thread. The same seed gives the same run, byte for byte.
//!
//! [`run`] makes a whole deployment from [`Options`]; [`World`] is what scenarios are written
//! against. Oracles look at every byte that a node sends and at every disk; the first check that
//! fails ends the run.

mod ask;
mod disk;
mod full;
mod host;
mod link;
mod logs;
mod pump;
mod report;
mod rng;
mod run;
mod tap;
mod world;

pub use disk::Disk;
pub use host::{EPOCH_MS, Host, Stored};
pub use link::Profile;
pub use report::Report;
pub use rng::Rng;
pub use run::{Options, run, run_traced};
pub use tap::{Said, fingerprint};
pub use world::{Counts, Mutant, World, small_limits};
