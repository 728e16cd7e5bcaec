//! The log format against damage, accidents and time.
#![allow(clippy::unwrap_used)]

mod damage;
mod docs;
mod golden;
mod sealed;
mod support;
