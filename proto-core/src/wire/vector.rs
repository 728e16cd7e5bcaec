//! VECTOR: streams and how far the sender holds them (docs/PROTOCOL.md#vector-1).

use crate::code::Code;
use crate::event::ChainTag;
use crate::id::{Incarnation, Lane, NodeName, StreamKey};
use crate::varint::{Full, Reader, Writer};

/// One stream of a vector. Its handle is its place among all entries that the sender has sent in
/// this session, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stream.
    pub key: StreamKey,
    /// Highest contiguous seq held durably, 0 if none.
    pub seq: u64,
    /// Chain hash at `seq`, truncated; zeros if `seq` is 0.
    pub tag: ChainTag,
}

const NAME_EXPLICIT: u8 = 0;
const NAME_SENDER: u8 = 1;
const NAME_RECEIVER: u8 = 2;

/// Most bytes that an entry takes.
pub const ENTRY_MAX_BYTES: usize = 1 + 1 + crate::id::NAME_MAX_BYTES + 8 + 10 + 8;

impl Entry {
    /// Appends the entry. The names of the two ends cost nothing.
    ///
    /// # Errors
    /// [`Full`]; then nothing that counts was written.
    pub fn emit(&self, w: &mut Writer<'_>, sender: &NodeName, receiver: &NodeName) -> Result<(), Full> {
        if w.room() < ENTRY_MAX_BYTES {
            return Err(Full);
        }
        let name = match &self.key.node {
            n if n == sender => NAME_SENDER,
            n if n == receiver => NAME_RECEIVER,
            _ => NAME_EXPLICIT,
        };
        w.u8(name | (self.key.lane as u8) << 2)?;
        if name == NAME_EXPLICIT {
            let n = self.key.node.as_bytes();
            w.u8(n.len() as u8)?;
            w.put(n)?;
        }
        w.put(&self.key.incarnation.as_u64().to_le_bytes())?;
        w.varint(self.seq)?;
        if self.seq > 0 {
            w.put(&self.tag)?;
        }
        Ok(())
    }

    /// Reads one entry.
    ///
    /// # Errors
    /// [`Code::Malformed`].
    pub fn parse(r: &mut Reader<'_>, sender: &NodeName, receiver: &NodeName) -> Result<Entry, Code> {
        let flags = r.u8()?;
        if flags >> 4 != 0 {
            return Err(Code::Malformed);
        }
        let lane = Lane::from_u8(flags >> 2)?;
        let node = match flags & 3 {
            NAME_EXPLICIT => {
                let n = usize::from(r.u8()?);
                NodeName::from_bytes(r.take(n)?).map_err(|_| Code::Malformed)?
            }
            NAME_SENDER => *sender,
            NAME_RECEIVER => *receiver,
            _ => return Err(Code::Malformed),
        };
        let incarnation = r.u64()?;
        if incarnation == 0 {
            return Err(Code::Malformed);
        }
        let key = StreamKey { node, incarnation: Incarnation::new(incarnation), lane };
        // One number is kept free, so that there is always a next one.
        let seq = r.varint_max(u64::MAX - 1)?;
        let tag = if seq > 0 { r.array()? } else { [0; 8] };
        Ok(Entry { key, seq, tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(s: &str) -> NodeName {
        NodeName::new(s).unwrap()
    }

    #[test]
    fn entries_round_trip_and_the_ends_names_cost_nothing() {
        let (a, hub) = (name("clinic_a"), name("hub"));
        for (node, seq, expect) in [(a, 0, 10), (hub, 300, 19), (name("clinic_b"), 1, 27)] {
            let key = StreamKey { node, incarnation: Incarnation::new(77), lane: Lane::Bulk };
            let e = Entry { key, seq, tag: if seq > 0 { [9; 8] } else { [0; 8] } };
            let mut buf = [0; 128];
            let mut w = Writer::new(&mut buf);
            e.emit(&mut w, &a, &hub).unwrap();
            let n = w.len();
            assert_eq!(n, expect);
            let mut r = Reader::new(&buf[..n]);
            assert_eq!(Entry::parse(&mut r, &a, &hub), Ok(e));
            for cut in 0..n {
                assert_eq!(Entry::parse(&mut Reader::new(&buf[..cut]), &a, &hub), Err(Code::Malformed));
            }
        }
    }

    #[test]
    fn the_largest_number_is_refused_because_nothing_could_follow_it() {
        let a = name("clinic_a");
        let key = StreamKey { node: a, incarnation: Incarnation::new(1), lane: Lane::Normal };
        for (seq, ok) in [(u64::MAX, false), (u64::MAX - 1, true)] {
            let mut buf = [0; 128];
            let mut w = Writer::new(&mut buf);
            Entry { key, seq, tag: [1; 8] }.emit(&mut w, &a, &a).unwrap();
            let n = w.len();
            assert_eq!(Entry::parse(&mut Reader::new(&buf[..n]), &a, &a).is_ok(), ok);
        }
    }

    #[test]
    fn golden_bytes_of_an_own_stream() {
        let a = name("clinic_a");
        let key = StreamKey { node: a, incarnation: Incarnation::new(0x0102), lane: Lane::Normal };
        let mut buf = [0; 128];
        let mut w = Writer::new(&mut buf);
        Entry { key, seq: 300, tag: *b"tagtagta" }.emit(&mut w, &a, &name("hub")).unwrap();
        let n = w.len();
        assert_eq!(&buf[..n], b"\x05\x02\x01\0\0\0\0\0\0\xac\x02tagtagta");
    }
}
