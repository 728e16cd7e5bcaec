//! A hub's rule about what it takes: no events of an odd kind. Whether one is refused must show in its log, and where an
//! event is, nothing else may be.

use ropeway_core::accept::{AcceptanceRef, Verdict};
use ropeway_core::event::Event;
use ropeway_core::id::StreamKey;

/// Whether the rule refuses events of this kind.
pub(crate) fn is_refused(kind: u16) -> bool {
    kind % 2 == 1
}

/// It.
pub(crate) fn rule() -> AcceptanceRef<'static> {
    AcceptanceRef::Owned(Box::new(|_: &StreamKey, e: &Event<'_>| match is_refused(e.kind) {
        true => Verdict::Refuse,
        false => Verdict::Take,
    }))
}
