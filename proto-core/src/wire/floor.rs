//! FLOOR: of a stream the first events are gone (docs/PROTOCOL.md#floor-1).

use crate::code::Code;
use crate::event::Chain;
use crate::varint::{Reader, Writer};

/// What a sender says of a stream whose first events it has removed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The sender's handle of the stream.
    pub(crate) handle: u32,
    /// The last event that is gone, at least 1.
    pub(crate) seq: u64,
    /// Chain hash up to there.
    pub(crate) chain: Chain,
}

impl Floor {
    pub(crate) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer::new(out);
        w.varint(u64::from(self.handle)).ok()?;
        w.varint(self.seq).ok()?;
        w.put(&self.chain.0).ok()?;
        Some(w.len())
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Code> {
        let mut r = Reader::new(body);
        let handle = r.varint_max(u64::from(u32::MAX))? as u32;
        let (seq, chain) = (r.varint()?, Chain(r.array()?));
        if seq == 0 || seq == u64::MAX || !r.is_empty() {
            return Err(Code::Malformed);
        }
        Ok(Self { handle, seq, chain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_has_its_golden_bytes_and_no_other_form() {
        let floor = Floor { handle: 2, seq: 300, chain: Chain([3; 32]) };
        let mut out = [0; 64];
        let n = floor.emit(&mut out).unwrap();
        let mut golden = alloc::vec![2, 0xac, 2];
        golden.extend([3; 32]);
        assert_eq!(out[..n], golden);
        assert_eq!(Floor::parse(&golden), Ok(floor));
        for cut in 0..n {
            assert_eq!(Floor::parse(&golden[..cut]), Err(Code::Malformed), "{cut}");
        }
        golden.push(0);
        assert_eq!(Floor::parse(&golden), Err(Code::Malformed));
        let nothing = [&[2, 0][..], &[3; 32]].concat();
        assert_eq!(Floor::parse(&nothing), Err(Code::Malformed));
    }
}
