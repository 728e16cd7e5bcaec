//! WITHHELD: an event that does not come, and LACKS: events that are not held although what follows them is
//! (docs/PROTOCOL.md#withheld-1).

use super::vector::Entry;
use crate::code::Code;
use crate::event::flags;
use crate::hlc::Hlc;
use crate::id::{NodeName, StreamKey};
use crate::varint::{Reader, Writer};
use crate::withheld::{Known, Withheld};

/// Events of one WITHHELD at most: they all stand in one commit group.
pub(crate) const WITHHELD_MAX_EVENTS: u64 = 128;

/// What a sender says of events that it does not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WithheldFrame {
    /// The sender's handle of the stream.
    pub(crate) handle: u32,
    /// The first of them.
    pub(crate) first_seq: u64,
    /// How many; more than one only if nothing is known of them but perhaps the chain hash up to the last.
    pub(crate) count: u64,
    /// Stamp of the event; zero if it is not known.
    pub(crate) hlc: Hlc,
    /// Kind of the event; 0 if it is not known.
    pub(crate) kind: u16,
    /// [`flags::UNSYNCED`] or 0.
    pub(crate) flags: u8,
    /// What stands in the place of the last.
    pub(crate) place: Withheld,
}

impl WithheldFrame {
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq + (self.count - 1)
    }

    pub(crate) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer::new(out);
        w.varint(u64::from(self.handle)).ok()?;
        w.varint(self.first_seq).ok()?;
        w.varint(self.count).ok()?;
        w.put(&self.hlc.as_u64().to_le_bytes()).ok()?;
        w.varint(u64::from(self.kind)).ok()?;
        w.u8(self.flags & flags::HASHED).ok()?;
        self.place.emit(&mut w).ok()?;
        Some(w.len())
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Code> {
        let mut r = Reader::new(body);
        let handle = r.varint_max(u64::from(u32::MAX))? as u32;
        let (first_seq, count) = (r.varint()?, r.varint_max(WITHHELD_MAX_EVENTS)?);
        let hlc = Hlc::from_u64(r.u64()?).ok_or(Code::HlcRange)?;
        let (kind, flags) = (r.varint_max(u64::from(u16::MAX))? as u16, r.u8()?);
        let place = Withheld::parse(r.rest())?;
        let single = matches!(place.known, Known::Hash(_)) || hlc != Hlc::ZERO || (kind, flags) != (0, 0);
        let beyond = first_seq.checked_add(count).is_none();
        if first_seq == 0 || count == 0 || beyond || count > 1 && single || flags & !flags::HASHED != 0 {
            return Err(Code::Malformed);
        }
        Ok(Self { handle, first_seq, count, hlc, kind, flags, place })
    }
}

/// Events that the sender does not hold although it holds what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacks {
    /// The stream.
    pub(crate) key: StreamKey,
    /// The first and the last of them.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How many there are, as far as the sender knows; 0 if it does not.
    pub(crate) count: u64,
    /// Number of a [`Code`]: why.
    pub(crate) code: u16,
}

impl Lacks {
    pub(crate) fn emit(&self, out: &mut [u8], sender: &NodeName, receiver: &NodeName) -> Option<usize> {
        let mut w = Writer::new(out);
        let entry = Entry { key: self.key, seq: self.from, tag: [0; 8] };
        entry.emit(&mut w, sender, receiver).ok()?;
        w.varint(self.to - self.from).ok()?;
        w.varint(self.count).ok()?;
        w.varint(u64::from(self.code)).ok()?;
        Some(w.len())
    }

    pub(crate) fn parse(body: &[u8], sender: &NodeName, receiver: &NodeName) -> Result<Self, Code> {
        let mut r = Reader::new(body);
        let entry = Entry::parse(&mut r, sender, receiver)?;
        let (more, count) = (r.varint()?, r.varint()?);
        let code = r.varint_max(u64::from(u16::MAX))? as u16;
        let to = entry.seq.checked_add(more).filter(|to| *to < u64::MAX).ok_or(Code::Malformed)?;
        if entry.seq == 0 || count > more.saturating_add(1) || !r.is_empty() {
            return Err(Code::Malformed);
        }
        Ok(Self { key: entry.key, from: entry.seq, to, count, code })
    }
}

/// Most bytes of the body of a [`Lacks`].
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const LACKS_MAX_BYTES: usize = super::vector::ENTRY_MAX_BYTES + 2 * crate::varint::VARINT_MAX_BYTES + 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Chain;
    use crate::id::{Incarnation, Lane};

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|b| alloc::format!("{b:02x}")).collect()
    }

    #[test]
    fn a_withheld_has_its_golden_bytes_and_no_other_form() {
        let place = Withheld { known: Known::Hash([3; 32]), bytes: 100_000, code: 311 };
        let hlc = Hlc::new(1000, 7);
        let frame = WithheldFrame { handle: 2, first_seq: 300, count: 1, hlc, kind: 40, flags: 1, place };
        let mut out = [0; 96];
        let n = frame.emit(&mut out).unwrap();
        let golden =
            "02ac02010700e803000000002801010303030303030303030303030303030303030303030303030303030303030303a08d06b702";
        assert_eq!(hex(&out[..n]), golden);
        assert_eq!(WithheldFrame::parse(&out[..n]), Ok(frame));
        for cut in 0..n {
            assert_eq!(WithheldFrame::parse(&out[..cut]), Err(Code::Malformed), "{cut}");
        }
        assert_eq!(WithheldFrame::parse(&out[..=n]), Err(Code::Malformed));
        let wrong = |frame: WithheldFrame| {
            let mut out = [0; 96];
            let n = frame.emit(&mut out).unwrap();
            assert_eq!(WithheldFrame::parse(&out[..n]), Err(Code::Malformed), "{frame:?}");
        };
        wrong(WithheldFrame { count: 2, ..frame });
        wrong(WithheldFrame { count: 0, ..frame });
        wrong(WithheldFrame { first_seq: 0, ..frame });
        wrong(WithheldFrame { first_seq: u64::MAX, ..frame });
        let place = Withheld { known: Known::Chain(Chain([3; 32])), bytes: 0, code: 302 };
        wrong(WithheldFrame { count: 2, place, ..frame });
        let frame = WithheldFrame { hlc: Hlc::ZERO, kind: 0, flags: 0, ..frame };
        wrong(WithheldFrame { count: 2, ..frame });
        wrong(WithheldFrame { count: WITHHELD_MAX_EVENTS + 1, place, ..frame });
        let most = WithheldFrame { count: WITHHELD_MAX_EVENTS, place, ..frame };
        let n = most.emit(&mut out).unwrap();
        assert_eq!(WithheldFrame::parse(&out[..n]), Ok(most));
    }

    #[test]
    fn a_lacks_has_its_golden_bytes_and_no_other_form() {
        let (sender, receiver) = (NodeName::new("hub").unwrap(), NodeName::new("clinic_a").unwrap());
        let key = StreamKey { node: receiver, incarnation: Incarnation::new(0x0102), lane: Lane::Bulk };
        let lacks = Lacks { key, from: 300, to: 305, count: 2, code: 311 };
        let mut out = [0; LACKS_MAX_BYTES];
        let n = lacks.emit(&mut out, &sender, &receiver).unwrap();
        assert_eq!(hex(&out[..n]), "0a0201000000000000ac0200000000000000000502b702");
        assert_eq!(Lacks::parse(&out[..n], &sender, &receiver), Ok(lacks));
        for cut in 0..n {
            assert_eq!(Lacks::parse(&out[..cut], &sender, &receiver), Err(Code::Malformed), "{cut}");
        }
        for wrong in [Lacks { count: 7, ..lacks }, Lacks { to: u64::MAX, ..lacks }, Lacks { from: 0, ..lacks }] {
            let n = wrong.emit(&mut out, &sender, &receiver).unwrap();
            assert_eq!(Lacks::parse(&out[..n], &sender, &receiver), Err(Code::Malformed), "{wrong:?}");
        }
    }
}
