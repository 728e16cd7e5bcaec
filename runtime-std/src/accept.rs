//! Rules about which events a node takes from others ([`ropeway_core::accept`]).

use ropeway_core::accept::{Acceptance, Verdict};
use ropeway_core::event::Event;
use ropeway_core::id::StreamKey;

/// A rule that takes events of all kinds but these.
#[must_use]
pub fn all_but_kinds(kinds: impl Into<Vec<u16>>) -> Box<dyn Acceptance + Send> {
    let kinds = kinds.into();
    Box::new(move |_: &StreamKey, e: &Event<'_>| match kinds.contains(&e.kind) {
        true => Verdict::Refuse,
        false => Verdict::Take,
    })
}
