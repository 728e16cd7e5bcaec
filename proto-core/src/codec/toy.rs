//! Codecs for tests: they notice at once when the two ends hold different histories.

mod keeper;

pub use keeper::Keeper;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Codec, CodecId};
use crate::code::Code;
use crate::history::Past;

/// Four bytes of a hash over the history; then, in turns, literals and what repeats within the batch.
///
/// A byte below 128 is followed by so many literals. Any other, less 128, is the length of a copy less 4, from
/// as far back as the two bytes after it say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toy;

const COPY: u8 = 128;
const COPY_MIN: usize = 4;

fn tag(past: &Past<'_>) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(past.bytes).as_bytes();
    [a, b, c, d]
}

impl Toy {
    /// What was compressed, whatever the history; `None` if it is nothing that was, or longer than
    /// `max_bytes`.
    #[must_use]
    pub fn unpack(data: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
        let mut out: Vec<u8> = Vec::new();
        let mut rest = data.get(4..)?;
        while let Some((&first, after)) = rest.split_first() {
            rest = if first < COPY {
                let (literals, after) = after.split_at_checked(usize::from(first))?;
                out.extend_from_slice(literals);
                after
            } else {
                let (&back, after) = after.split_first_chunk::<2>()?;
                let from = out.len().checked_sub(usize::from(u16::from_le_bytes(back)))?;
                for at in from..from + usize::from(first - COPY) + COPY_MIN {
                    out.push(*out.get(at)?);
                }
                after
            };
            if out.len() > max_bytes {
                return None;
            }
        }
        Some(out)
    }

    fn pack(tag: [u8; 4], raw: &[u8]) -> Vec<u8> {
        let (mut out, mut seen, mut literals) = (tag.to_vec(), BTreeMap::new(), 0..0);
        let mut at = 0;
        while at < raw.len() {
            let key = raw.get(at..at + COPY_MIN);
            let from = key.and_then(|key| seen.insert(key, at)).filter(|from| at - from <= usize::from(u16::MAX));
            let Some(from) = from else {
                at += 1;
                literals.end = at;
                continue;
            };
            let same = (0..raw.len() - at).take_while(|n| raw[from + n] == raw[at + n]).count();
            let len = same.min(COPY_MIN + 127);
            put_literals(&mut out, &raw[literals]);
            out.push(COPY + (len - COPY_MIN) as u8);
            out.extend(((at - from) as u16).to_le_bytes());
            at += len;
            literals = at..at;
        }
        put_literals(&mut out, &raw[literals.start..]);
        out
    }
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for piece in literals.chunks(127) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
}

impl Codec for Toy {
    fn id(&self) -> CodecId {
        CodecId::ZSTD_HISTORY
    }

    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compress_after(&Past::default(), raw, out)
    }

    fn decompress(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        self.decompress_after(&Past::default(), data, out)
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let packed = Toy::pack(tag(past), raw);
        out.get_mut(..packed.len())?.copy_from_slice(&packed);
        Some(packed.len())
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let raw = Toy::unpack(data, out.len()).filter(|raw| raw.len() == out.len() && data.starts_with(&tag(past)));
        out.copy_from_slice(&raw.ok_or(Code::BadBatch)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_back_what_it_made_with_the_same_history_only() {
        let raw = b"a clinic, a clinic, and a clinic with a name that was not heard before".repeat(9);
        let past = Past { bytes: b"history", ..Past::default() };
        let (mut out, mut back) = (alloc::vec![0; raw.len()], alloc::vec![0; raw.len()]);
        let n = Toy.compress_after(&past, &raw, &mut out).unwrap();
        assert!(n < raw.len() / 2, "{n}");
        assert_eq!(Toy.decompress_after(&past, &out[..n], &mut back), Ok(()));
        assert_eq!(back, raw);
        assert_eq!(Toy.decompress_after(&Past::default(), &out[..n], &mut back), Err(Code::BadBatch));
        assert_eq!(Toy.decompress_after(&past, &out[..n], &mut [0; 9]), Err(Code::BadBatch));
        for cut in 0..n {
            assert!(Toy.decompress_after(&past, &out[..cut], &mut back).is_err());
        }
    }
}
