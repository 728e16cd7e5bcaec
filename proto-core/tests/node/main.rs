//! A node against peers that misbehave, and against late or spurious calls.
#![allow(clippy::unwrap_used)]

mod early;
mod expire;
mod gap;
mod going_on;
mod history;
mod hostile;
mod parts;
mod support;
mod timing;
mod withhold;
