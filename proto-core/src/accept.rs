//! What a node takes of others' events: a rule of its application, such as a check of what they hold. (For their size
//! alone [`Config::accept_bytes`](crate::limits::Config::accept_bytes) will do.)
//!
//! An event that the rule refuses stops nothing behind it. Its place goes into the log with [`Code::Refused`], both ends
//! are told, and its writer keeps it (docs/PROTOCOL.md#withheld-5).
//!
//! [`Code::Refused`]: crate::code::Code::Refused

use crate::event::Event;
use crate::id::StreamKey;

/// What a rule says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// It goes into the log.
    Take,
    /// Only its place does.
    Refuse,
}

/// A rule. Closures are some.
///
/// It is asked of events that come from peers, before they go into the log: never of this node's own, nor of one that
/// it has acknowledged, unless that is asked for again (after damage, or for a withheld one before it), nor of one of
/// which a peer has the place only. It may be asked of an event more than once, after a cut or while the log has no room,
/// and must say the same each time, today and after a restart: of the kind and the payload alone, that is, not of the time
/// or of what came before. It is asked between a peer's frames, so what it takes long for, all sessions wait for.
///
/// ```
/// use ropeway_core::accept::{Acceptance, Verdict};
/// use ropeway_core::event::Event;
/// use ropeway_core::hlc::Hlc;
/// use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
///
/// let mut rule = |_: &StreamKey, event: &Event<'_>| match event.kind {
///     40 if !event.payload.starts_with(b"{") => Verdict::Refuse,
///     _ => Verdict::Take,
/// };
/// let node = NodeName::new("clinic_a")?;
/// let stream = StreamKey { node, incarnation: Incarnation::new(7), lane: Lane::Normal };
/// let event = Event { hlc: Hlc::new(1, 0), kind: 40, flags: 0, payload: b"<" };
/// assert_eq!(rule.judge(&stream, &event), Verdict::Refuse);
/// # Ok::<(), ropeway_core::code::Code>(())
/// ```
pub trait Acceptance {
    /// Whether an event of this stream is taken.
    fn judge(&mut self, stream: &StreamKey, event: &Event<'_>) -> Verdict;
}

impl<F: FnMut(&StreamKey, &Event<'_>) -> Verdict> Acceptance for F {
    fn judge(&mut self, stream: &StreamKey, event: &Event<'_>) -> Verdict {
        self(stream, event)
    }
}

/// A rule, lent or owned.
pub enum AcceptanceRef<'m> {
    /// The caller's.
    Borrowed(&'m mut (dyn Acceptance + Send)),
    /// On the heap.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<dyn Acceptance + Send>),
}

impl AcceptanceRef<'_> {
    pub(crate) fn judge(&mut self, stream: &StreamKey, event: &Event<'_>) -> Verdict {
        match self {
            AcceptanceRef::Borrowed(rule) => rule.judge(stream, event),
            #[cfg(feature = "alloc")]
            AcceptanceRef::Owned(rule) => rule.judge(stream, event),
        }
    }
}

impl core::fmt::Debug for AcceptanceRef<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("AcceptanceRef")
    }
}
