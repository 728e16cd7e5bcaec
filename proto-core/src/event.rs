//! The event, its hash, the chain hash of a stream, and the in-memory form in which runs of events
//! move between the log reader and the session.

use crate::hlc::Hlc;
use crate::id::StreamKey;
use crate::varint::{Full, Reader, Writer};
use crate::withheld::{Known, Withheld};

/// Flag bits of an event.
pub mod flags {
    /// The writer's wall clock could not be trusted when it stamped the event. Part of the event.
    pub const UNSYNCED: u8 = 1;
    /// The receiver found the stamp too far ahead of its own clock. Local: not hashed, not sent.
    pub const FUTURE: u8 = 2;
    /// The event is not here; what is known of it stands in the place of its payload
    /// ([`Withheld`](crate::withheld::Withheld)). Local: not hashed.
    pub const WITHHELD: u8 = 4;
    /// The bits that belong to the event itself.
    pub const HASHED: u8 = UNSYNCED;
}

/// One event of a stream, borrowed from wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When, and in which order.
    pub hlc: Hlc,
    /// Application-defined type, 0 if it does not use types.
    pub kind: u16,
    /// See [`flags`].
    pub flags: u8,
    /// The application's bytes.
    pub payload: &'a [u8],
}

impl Event<'_> {
    /// What is known of the event, if it is not here.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        if self.flags & flags::WITHHELD == 0 { None } else { Withheld::parse(self.payload).ok() }
    }

    /// `H(event)`: BLAKE3 over stamp, kind, flags and payload (docs/PROTOCOL.md#chain-1).
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut h = blake3::Hasher::new();
        h.update(&self.hlc.as_u64().to_le_bytes());
        h.update(&self.kind.to_le_bytes());
        h.update(&[self.flags & flags::HASHED]);
        h.update(self.payload);
        *h.finalize().as_bytes()
    }
}

/// Chain hash of a stream up to some event: `h_n = H(h_{n-1} || H(event_n))`. Two logs that agree on
/// `(stream, n, h_n)` agree on everything up to n.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Chain(pub [u8; 32]);

/// The first 8 bytes of a chain hash: what travels in vectors and batches. An accident escapes it
/// once in 2^64; against a forger there are the writer's certificate and the full hash on disk.
pub type ChainTag = [u8; 8];

impl Chain {
    /// `h_0` of a stream (docs/PROTOCOL.md#chain-2).
    #[must_use]
    pub fn start(key: &StreamKey) -> Self {
        let mut h = blake3::Hasher::new();
        h.update(b"ropeway stream 1");
        h.update(&[key.node.as_bytes().len() as u8]);
        h.update(key.node.as_bytes());
        h.update(&key.incarnation.as_u64().to_le_bytes());
        h.update(&[key.lane as u8]);
        Chain(*h.finalize().as_bytes())
    }

    /// `h_{n+1}` from `h_n` and the next event.
    #[must_use]
    pub fn then(&self, event: &Event<'_>) -> Self {
        let hash = match event.withheld().map(|w| w.known) {
            None => event.hash(),
            Some(Known::Hash(hash)) => hash,
            Some(Known::Nothing) => [0; 32],
            Some(Known::Chain(chain)) => return chain,
        };
        let mut h = blake3::Hasher::new();
        h.update(&self.0);
        h.update(&hash);
        Chain(*h.finalize().as_bytes())
    }

    /// The truncated form.
    #[must_use]
    pub fn tag(&self) -> ChainTag {
        let mut t = [0; 8];
        t.copy_from_slice(&self.0[..8]);
        t
    }
}

impl core::fmt::Debug for Chain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Bytes that a record takes beside its payload.
pub const RECORD_HEAD_BYTES: usize = 15;

/// Consecutive events of one stream, as a log reader hands them to the session. `bytes` holds
/// records made by [`put_record`]. In memory only, never on a disk or a wire.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// Sequence number of the first record.
    pub first_seq: u64,
    /// Chain hash up to `first_seq - 1`.
    pub prev_chain: Chain,
    /// The records.
    pub bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Those before the first event that is not here (see [`flags::WITHHELD`]).
    pub(crate) fn before_withheld(&self) -> Records<'a> {
        let here = self.iter().take_while(|e| e.flags & flags::WITHHELD == 0);
        let bytes: usize = here.map(|e| RECORD_HEAD_BYTES + e.payload.len()).sum();
        Records { bytes: &self.bytes[..bytes.min(self.bytes.len())], ..*self }
    }

    /// The events in order. Ends early at bytes that are not a record.
    pub fn iter(&self) -> impl Iterator<Item = Event<'a>> + Clone + use<'a> {
        let mut r = Reader::new(self.bytes);
        core::iter::from_fn(move || {
            let hlc = Hlc::from_u64(r.u64().ok()?)?;
            let (kind, flags, len) = (r.u16().ok()?, r.u8().ok()?, r.u32().ok()?);
            Some(Event { hlc, kind, flags, payload: r.take(len as usize).ok()? })
        })
    }
}

/// Appends one record to a [`Records`] buffer.
///
/// # Errors
/// [`Full`] if it does not fit; nothing is written then.
pub fn put_record(w: &mut Writer<'_>, event: &Event<'_>) -> Result<(), Full> {
    if w.room() < RECORD_HEAD_BYTES + event.payload.len() {
        return Err(Full);
    }
    w.put(&event.hlc.as_u64().to_le_bytes())?;
    w.put(&event.kind.to_le_bytes())?;
    w.u8(event.flags)?;
    w.put(&(event.payload.len() as u32).to_le_bytes())?;
    w.put(event.payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane, NodeName};

    fn key() -> StreamKey {
        StreamKey { node: NodeName::new("clinic_a").unwrap(), incarnation: Incarnation::new(7), lane: Lane::Normal }
    }

    #[test]
    fn chains_differ_by_stream_order_and_every_hashed_field() {
        let e = Event { hlc: Hlc::new(5, 1), kind: 2, flags: 0, payload: b"x" };
        let start = Chain::start(&key());
        let other = Chain::start(&StreamKey { lane: Lane::Bulk, ..key() });
        assert_ne!(start, other);
        let variants = [
            e,
            Event { hlc: Hlc::new(5, 2), ..e },
            Event { kind: 3, ..e },
            Event { flags: flags::UNSYNCED, ..e },
            Event { payload: b"y", ..e },
        ];
        for (i, a) in variants.iter().enumerate() {
            for b in &variants[i + 1..] {
                assert_ne!(start.then(a), start.then(b));
                assert_ne!(start.then(a).then(b), start.then(b).then(a));
            }
        }
    }

    #[test]
    fn the_receivers_mark_is_not_part_of_the_event() {
        let e = Event { hlc: Hlc::new(5, 1), kind: 2, flags: 0, payload: b"x" };
        assert_eq!(e.hash(), Event { flags: flags::FUTURE, ..e }.hash());
    }

    #[test]
    fn records_round_trip_and_stop_at_garbage() {
        let mut buf = [0; 64];
        let mut w = Writer::new(&mut buf);
        let e = Event { hlc: Hlc::new(9, 9), kind: 1, flags: 1, payload: b"payload" };
        put_record(&mut w, &e).unwrap();
        put_record(&mut w, &Event { payload: b"", ..e }).unwrap();
        assert_eq!(put_record(&mut w, &Event { payload: &[0; 64], ..e }), Err(Full));
        let n = w.len();
        let r = Records { first_seq: 1, prev_chain: Chain::start(&key()), bytes: &buf[..n] };
        assert_eq!(r.iter().collect::<alloc::vec::Vec<_>>(), [e, Event { payload: b"", ..e }]);
        let cut = Records { bytes: &buf[..n - 1], ..r };
        assert_eq!(cut.iter().count(), 1);
    }
}
