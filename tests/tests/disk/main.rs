//! The log against a real operating system: killed at every system call, every call fails once,
//! full disks, power cuts of a real ext4, every bit flipped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod copies;
mod disturb;
mod enrol;
mod errors;
mod flips;
mod full;
mod gone;
mod kill;
mod last_days;
mod power;
mod repair;
mod scenario;
mod starved;
mod sync;
mod writeback;
