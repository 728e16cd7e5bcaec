//! Events that stand in the log twice: as a place, and as the event that came after all. The event counts,
//! whichever came first (docs/LOG.md#withheld-3).

use ropeway_core::event::{Chain, Event};
use ropeway_core::id::StreamKey;
use ropeway_core::policy::ReadGrant;

use super::{Files, Index, Reader, Stop};
use crate::error::Result;

/// Sealed segments in which a place was looked for.
#[derive(Debug)]
pub(super) struct Sought {
    stream: StreamKey,
    from: u64,
    /// What holds for the first event holds up to this one.
    upto: u64,
    /// The segments in which something of these events may stand.
    segments: Vec<u64>,
}

impl<F: Files> Reader<F> {
    /// The place of event `next` was met. If the log holds the event elsewhere, hands out what stands there, until
    /// another place; else says up to which event places are all that there is.
    pub(super) fn elsewhere(
        &mut self,
        index: &Index,
        grant: &ReadGrant,
        (stream, next): (u32, &mut u64),
        upto_seq: u64,
        each: &mut impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<u64> {
        let place = *next;
        let (segments, sealed_upto) = self.seek(index, grant.stream(), place)?;
        let hot: Vec<_> = index.find(stream, place).collect();
        if hot.len() + segments.len() <= 1 {
            return Ok(sealed_upto.min(index.next_start(stream, place) - 1));
        }
        for entry in hot {
            // What cannot be read there may stand in the next one.
            let read = self.walk(&entry, grant, next, upto_seq, each);
            if *next > place {
                return read.map(|_| 0);
            }
        }
        for segment in segments {
            let read = self.walk_sealed(&[segment], grant, next, upto_seq, each);
            if *next > place {
                return read.map(|_| 0);
            }
        }
        Ok(place)
    }

    /// The sealed segments that may hold something of the event, and up to which event that is so.
    fn seek(&mut self, index: &Index, key: &StreamKey, seq: u64) -> Result<(Vec<u64>, u64)> {
        let known = |s: &&Sought| s.stream == *key && (s.from..=s.upto).contains(&seq);
        if let Some(sought) = self.sought.as_ref().filter(known) {
            return Ok((sought.segments.clone(), sought.upto));
        }
        let mut sought = Sought { stream: *key, from: seq, upto: u64::MAX - 1, segments: Vec::new() };
        for &segment in index.sealed() {
            match self.footers.range_or_none(&mut self.files, &self.keys, segment, key, seq)? {
                Some(range) if range.first_seq <= seq => sought.segments.push(segment),
                Some(range) => sought.upto = sought.upto.min(range.first_seq - 1),
                None => {}
            }
        }
        let found = (sought.segments.clone(), sought.upto);
        self.sought = Some(sought);
        Ok(found)
    }
}
