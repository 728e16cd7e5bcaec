//! A node against peers that misbehave, and against late or spurious calls.
#![allow(clippy::unwrap_used)]

mod ask;
mod digest;
mod early;
mod expire;
mod gap;
mod going_on;
mod history;
mod hostile;
mod parts;
mod refuse;
mod sample;
mod support;
mod timing;
mod unproven;
mod withhold;
