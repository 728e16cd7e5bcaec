//! Real processes, real sockets, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod budget;
mod carriers;
mod corpus;
mod cuts;
mod durable;
mod early;
mod hostile;
mod keep;
mod keys;
mod kill;
mod many;
mod places;
mod privacy;
mod probes;
mod repair;
mod retention;
mod scene;
mod strangers;
mod sync;
mod views;
mod withheld;
