//! What goes and what stays, on directories of real files.

use std::time::Duration;

use ropeway_core::id::{Lane, NodeName};
use ropeway_core::limits::Limits;

use super::*;
use crate::dir::DataDir;

#[test]
fn placeholder() {
    let _ = (Duration::ZERO, Lane::Normal, Limits::clinic(), NodeName::new("a"), DataDir::new("x"));
}
