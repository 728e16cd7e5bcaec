//! Collecting a commit group.

use super::record::{Expired, Lack, Receipt, StreamDecl, kind};
use super::repair::{REPAIR_MAX_BYTES, Repair};
use super::run::put_event_head;
use crate::event::{Chain, Event, flags};
use crate::hlc::Hlc;
use crate::varint::{Full, Writer, varint_len};

/// Type, index, base, count, chain, stamp.
pub(crate) const RUN_HEAD_MAX_BYTES: usize = 1 + 5 + 10 + 2 + 32 + 8;
/// Stamp delta with flags, counter, kind; the length comes on top.
const EVENT_HEAD_MAX_BYTES: usize = 8 + 3 + 3;

/// Most bytes that an event with a payload of `payload_len` takes in a group, whatever stands
/// before it: it fits if [`GroupBuilder::room`] is not less.
#[must_use]
pub fn event_bytes_max(payload_len: usize) -> usize {
    RUN_HEAD_MAX_BYTES + EVENT_HEAD_MAX_BYTES + varint_len(payload_len as u64) + payload_len
}

/// Collects records in the body area of a frame. It holds no memory of its own: each verb is given
/// the same `body`, `buf[FRAME_HEAD_BYTES..]` without the room for the tag, and the group stands in
/// `body[..len()]`, complete and parseable after every verb. A verb that does not fit says
/// [`Full`] and changes nothing.
#[derive(Clone, Debug, Default)]
pub struct GroupBuilder {
    len: usize,
    run: Option<OpenRun>,
}

/// The run that stands last and may grow.
#[derive(Clone, Copy, Debug)]
struct OpenRun {
    index: u32,
    next_seq: Option<u64>,
    last_hlc: Hlc,
    count: u16,
    count_at: usize,
    withheld: bool,
}

impl GroupBuilder {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit in `body`.
    #[must_use]
    pub fn room(&self, body: &[u8]) -> usize {
        body.len().saturating_sub(self.len)
    }

    /// Declares a stream. `decl.index` must be the next unused one of the group
    /// (docs/LOG.md#stream-2).
    ///
    /// # Errors
    /// [`Full`].
    pub fn stream(&mut self, body: &mut [u8], decl: &StreamDecl) -> Result<(), Full> {
        let mut scratch = [0; StreamDecl::MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        decl.emit(&mut w)?;
        let n = w.len();
        self.put(body, &scratch[..n], &[])?;
        self.run = None;
        Ok(())
    }

    /// Adds event number `seq` (1 or more) of the stream `index`. It joins the run that stands
    /// last if it continues it, else it begins a run, which stores `prev_chain`, the chain hash up
    /// to `seq - 1`. What is known of events that are not here ([`flags::WITHHELD`]) stands in runs of its own.
    /// Unknown flag bits are not stored.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push_event(
        &mut self,
        body: &mut [u8],
        index: u32,
        seq: u64,
        prev_chain: &Chain,
        event: &Event<'_>,
    ) -> Result<(), Full> {
        debug_assert!(seq >= 1, "sequence numbers start at 1");
        let withheld = event.flags & flags::WITHHELD != 0;
        let open = self.run.filter(|run| run.withheld == withheld && run.takes(index, seq, event.hlc));
        let mut scratch = [0; RUN_HEAD_MAX_BYTES + EVENT_HEAD_MAX_BYTES + 10];
        let mut w = Writer::new(&mut scratch);
        let (count_at, count) = match &open {
            Some(run) => (run.count_at, run.count + 1),
            None => {
                w.u8(if withheld { kind::WITHHELD } else { kind::EVENTS })?;
                w.varint(u64::from(index))?;
                w.varint(seq)?;
                let at = self.len + w.len();
                w.put(&1u16.to_le_bytes())?;
                w.put(&prev_chain.0)?;
                w.put(&event.hlc.as_u64().to_le_bytes())?;
                (at, 1)
            }
        };
        put_event_head(&mut w, open.map(|run| run.last_hlc), event)?;
        let n = w.len();
        self.put(body, &scratch[..n], event.payload)?;
        // The count has a fixed width so that it can be patched here.
        body[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
        let next_seq = seq.checked_add(1);
        self.run = Some(OpenRun { index, next_seq, last_hlc: event.hlc, count, count_at, withheld });
        Ok(())
    }

    /// Notes that a peer has acknowledged a stream.
    ///
    /// # Errors
    /// [`Full`].
    pub fn receipt(&mut self, body: &mut [u8], receipt: &Receipt) -> Result<(), Full> {
        let mut scratch = [0; Receipt::MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        receipt.emit(&mut w)?;
        let n = w.len();
        self.put(body, &scratch[..n], &[])?;
        self.run = None;
        Ok(())
    }

    /// Notes that events of a stream were gone at their source.
    ///
    /// # Errors
    /// [`Full`].
    pub fn expired(&mut self, body: &mut [u8], expired: &Expired) -> Result<(), Full> {
        let mut scratch = [0; Expired::MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        expired.emit(&mut w)?;
        let n = w.len();
        self.put(body, &scratch[..n], &[])?;
        self.run = None;
        Ok(())
    }

    /// Notes which events a hub lacks that are here.
    ///
    /// # Errors
    /// [`Full`].
    pub fn lack(&mut self, body: &mut [u8], lack: &Lack) -> Result<(), Full> {
        let mut scratch = [0; Lack::MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        lack.emit(&mut w)?;
        let n = w.len();
        self.put(body, &scratch[..n], &[])?;
        self.run = None;
        Ok(())
    }

    /// Notes what became of damaged pages.
    ///
    /// # Errors
    /// [`Full`].
    pub fn repair(&mut self, body: &mut [u8], repair: &Repair<'_>) -> Result<(), Full> {
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        repair.emit(&mut w)?;
        let n = w.len();
        self.put(body, &scratch[..n], &[])?;
        self.run = None;
        Ok(())
    }

    /// Appends both parts or nothing.
    fn put(&mut self, body: &mut [u8], head: &[u8], payload: &[u8]) -> Result<(), Full> {
        let end = self.len + head.len() + payload.len();
        let (h, p) = body.get_mut(self.len..end).ok_or(Full)?.split_at_mut(head.len());
        h.copy_from_slice(head);
        p.copy_from_slice(payload);
        self.len = end;
        Ok(())
    }
}

impl OpenRun {
    fn takes(&self, index: u32, seq: u64, hlc: Hlc) -> bool {
        self.index == index && self.next_seq == Some(seq) && hlc > self.last_hlc && self.count < u16::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Parent, Record, records};
    use super::*;
    use crate::code::Code;
    use crate::event::flags;
    use crate::hlc::HLC_MAX_MS;
    use crate::id::{Incarnation, Lane, NodeName, StreamKey};
    use alloc::vec;
    use alloc::vec::Vec;

    fn decl(index: u32) -> StreamDecl {
        let key = StreamKey {
            node: NodeName::new("clinic_a").unwrap(),
            incarnation: Incarnation::new(u64::MAX),
            lane: Lane::Urgent,
        };
        StreamDecl { index, key, own_machine: None, parent: None }
    }

    fn event(ms: u64, counter: u16, payload: &[u8]) -> Event<'_> {
        Event { hlc: Hlc::new(ms, counter), kind: 7, flags: 0, payload }
    }

    const C: Chain = Chain([9; 32]);

    #[test]
    fn every_shape_of_record_round_trips() {
        let mut body = [0; 1024];
        let mut g = GroupBuilder::new();
        let parent = Parent { incarnation: Incarnation::new(3), seq: u64::MAX, reason: 2 };
        let decls = [
            decl(0),
            StreamDecl { own_machine: Some(5), ..decl(1) },
            StreamDecl { parent: Some(parent), ..decl(300) },
            StreamDecl { own_machine: Some(u64::MAX), parent: Some(parent), ..decl(u32::MAX) },
        ];
        let receipt =
            Receipt { peer: NodeName::new(&"h".repeat(48)).unwrap(), index: u32::MAX, seq: u64::MAX, tag: [1; 8] };
        for d in &decls {
            g.stream(&mut body, d).unwrap();
        }
        g.receipt(&mut body, &receipt).unwrap();
        let expired = Expired { index: u32::MAX, seq: u64::MAX - 1, chain: C };
        g.expired(&mut body, &expired).unwrap();
        let mut want: Vec<_> = decls.iter().map(|d| Record::Stream(*d)).collect();
        let lacks = [None, Some((1, u64::MAX)), Some((u64::MAX, u64::MAX))].map(|range| Lack { index: 3, range });
        for lack in &lacks {
            g.lack(&mut body, lack).unwrap();
        }
        want.extend([Record::Receipt(receipt), Record::Expired(expired)]);
        want.extend(lacks.map(Record::Lack));
        let got: Vec<_> = records(&body[..g.len()]).map(Result::unwrap).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn stamps_of_every_kind_come_back_and_cost_little() {
        let stamps = [
            Hlc::new(1000, 5),
            Hlc::new(1000, 6),
            Hlc::new(1000, 9),
            Hlc::new(1001, 0),
            Hlc::new(1001, 1),
            Hlc::new(5000, 4),
            Hlc::new(5000, u16::MAX),
            Hlc::new(HLC_MAX_MS, u16::MAX),
        ];
        let mut body = [0; 512];
        let mut g = GroupBuilder::new();
        let events: Vec<_> = stamps
            .iter()
            .zip(0u8..)
            .map(|(&hlc, i)| Event { hlc, kind: u16::MAX, flags: i & 3, payload: b"xy" })
            .collect();
        for (e, seq) in events.iter().zip(1..) {
            g.push_event(&mut body, 1, seq, &C, e).unwrap();
        }
        let Some(Ok(Record::Events(run))) = records(&body[..g.len()]).next() else { panic!() };
        assert_eq!((run.base_seq, run.last_seq(), run.count, run.last_hlc), (1, 8, 8, stamps[7]));
        assert!(run.events().eq(events.iter().copied()));
        assert_eq!(run.end_chain(), events.iter().fold(C, |c, e| c.then(e)));
        let second = 1 + 3 + 1 + 2; // head, kind, length, payload
        let mut small = GroupBuilder::new();
        small.push_event(&mut body, 0, 1, &C, &events[0]).unwrap();
        let before = small.len();
        small.push_event(&mut body, 0, 2, &C, &events[1]).unwrap();
        assert_eq!(small.len() - before, second);
    }

    #[test]
    fn an_event_joins_the_last_run_only_if_it_continues_it() {
        let mut body = vec![0; 4096];
        let mut g = GroupBuilder::new();
        let pushes = [(0, 1, 10), (0, 2, 11), (0, 4, 12), (1, 5, 13), (1, 6, 13), (1, 7, 14)];
        for (index, seq, ms) in pushes {
            g.push_event(&mut body, index, seq, &C, &event(ms, 0, b"")).unwrap();
        }
        g.receipt(&mut body, &Receipt { peer: NodeName::new("h").unwrap(), index: 0, seq: 2, tag: [0; 8] }).unwrap();
        g.push_event(&mut body, 1, 8, &C, &event(15, 0, b"")).unwrap();
        let runs: Vec<_> = records(&body[..g.len()])
            .filter_map(|r| match r.unwrap() {
                Record::Events(run) => Some((run.index, run.base_seq, run.count)),
                _ => None,
            })
            .collect();
        assert_eq!(runs, [(0, 1, 2), (0, 4, 1), (1, 5, 1), (1, 6, 2), (1, 8, 1)]);
    }

    #[test]
    fn a_verb_that_does_not_fit_changes_nothing() {
        for size in 0..160 {
            let mut body = vec![0xaa; size];
            let mut g = GroupBuilder::new();
            let mut fits = 0;
            let mut full = false;
            full |= g.stream(&mut body, &decl(0)).is_err();
            for seq in 1..4 {
                let before = (body.clone(), g.len());
                match g.push_event(&mut body, 0, seq, &C, &event(seq, 0, b"payload")) {
                    Ok(()) => fits += 1,
                    Err(Full) => {
                        assert!(before == (body.clone(), g.len()) && g.room(&body) < event_bytes_max(7));
                        full = true;
                    }
                }
            }
            assert!(full || fits == 3);
            let events: usize = records(&body[..g.len()])
                .map(|r| match r.unwrap() {
                    Record::Events(run) => run.events().count(),
                    _ => 0,
                })
                .sum();
            assert_eq!(events, fits, "{size}");
        }
    }

    #[test]
    fn the_worst_event_takes_no_more_than_was_said() {
        let payload = [1; 200];
        let mut body = [0; 1024];
        let mut g = GroupBuilder::new();
        let worst = Event { hlc: Hlc::new(HLC_MAX_MS, u16::MAX), kind: u16::MAX, flags: 3, payload: &payload };
        g.push_event(&mut body, u32::MAX, u64::MAX, &C, &worst).unwrap();
        assert!(g.len() <= event_bytes_max(200));
        let mut w = [0; 64];
        let mut w = Writer::new(&mut w);
        put_event_head(&mut w, Some(Hlc::ZERO), &worst).unwrap();
        assert!(w.len() <= EVENT_HEAD_MAX_BYTES + varint_len(200));
    }

    #[test]
    fn a_run_is_closed_when_its_count_is_full() {
        let mut body = vec![0; 400_000];
        let mut g = GroupBuilder::new();
        for seq in 1..=70_000 {
            g.push_event(&mut body, 0, seq, &C, &event(seq, 0, b"")).unwrap();
        }
        let counts: Vec<_> = records(&body[..g.len()])
            .map(|r| match r.unwrap() {
                Record::Events(run) => run.count,
                _ => 0,
            })
            .collect();
        assert_eq!(counts, [u16::MAX, (70_000 - u32::from(u16::MAX)) as u16]);
    }

    #[test]
    fn cut_or_altered_bodies_are_refused_without_a_panic() {
        let mut body = [0; 512];
        let mut g = GroupBuilder::new();
        g.stream(&mut body, &StreamDecl { own_machine: Some(1), ..decl(0) }).unwrap();
        let ends = [0, g.len()];
        for seq in 1..4 {
            g.push_event(&mut body, 0, seq, &C, &Event { flags: flags::UNSYNCED, ..event(seq, 2, b"abc") }).unwrap();
        }
        let len = g.len();
        for cut in 0..len {
            let ok = records(&body[..cut]).all(|r| r.is_ok());
            assert_eq!(ok, ends.contains(&cut), "cut at {cut}");
        }
        for at in 0..len {
            for value in 0..=255 {
                let mut b = body;
                b[at] = value;
                for r in records(&b[..len]) {
                    if let Ok(Record::Events(run)) = r {
                        assert_eq!(run.events().count(), usize::from(run.count));
                    }
                }
            }
        }
    }

    #[test]
    fn stamps_have_one_encoding_only() {
        let head = |events: &[u8], count: u8| {
            let mut b = vec![kind::EVENTS, 0, 1, count, 0];
            b.extend([9; 32]);
            b.extend(Hlc::new(5, 5).as_u64().to_le_bytes());
            b.extend(events);
            records(&b).next().unwrap().map(|_| ())
        };
        assert_eq!(head(&[0, 0, 0], 1), Ok(()));
        assert_eq!(head(&[1, 5, 0, 0], 1), Err(Code::Corrupt), "the first stamp is the base");
        assert_eq!(head(&[8, 0, 0], 1), Err(Code::Corrupt), "the first stamp is the base");
        assert_eq!(head(&[0, 0, 0, 1, 2, 0, 0], 2), Ok(()));
        assert_eq!(head(&[0, 0, 0, 1, 1, 0, 0], 2), Err(Code::Corrupt), "a delta of 1 is left out");
        assert_eq!(head(&[0, 0, 0, 1, 0, 0, 0], 2), Err(Code::Corrupt), "stamps grow");
        assert_eq!(head(&[0, 0, 0, 9, 0, 0, 0], 2), Err(Code::Corrupt), "a counter of 0 is left out");
        assert_eq!(head(&[0, 0, 0, 1, 0xff, 0xff, 3, 0, 0], 2), Err(Code::Corrupt), "the counter has 16 bits");
        assert_eq!(head(&[], 0), Err(Code::Corrupt), "a run is not empty");
    }

    #[test]
    fn an_unknown_record_or_flag_is_of_a_newer_format() {
        assert_eq!(records(&[4]).next(), Some(Err(Code::FormatNewer)));
        assert_eq!(records(&[0]).next(), Some(Err(Code::FormatNewer)));
        let mut body = [0; 64];
        let mut g = GroupBuilder::new();
        g.stream(&mut body, &decl(0)).unwrap();
        body[g.len() - 1] = 4;
        assert_eq!(records(&body[..g.len()]).next(), Some(Err(Code::FormatNewer)));
    }
}
