//! Bodies of the control frames: postcard for HELLO and ERROR, hand-laid varints for the rest.

use serde::{Deserialize, Serialize};

use super::{VERSION_MAX, VERSION_MIN};
use crate::code::Code;
use crate::codec::CodecId;
use crate::varint::{Reader, Writer};

/// What each side says first (docs/PROTOCOL.md#hello-1). In front of it, outside postcard and for
/// ever in the same place, stand two bytes: the oldest and the newest version spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello {
    /// Bits of optional abilities, such as [`FLOORS`]; unknown bits are ignored.
    pub features: u32,
    /// Bits of the codecs that the sender can decode.
    pub codecs: u32,
    /// Largest BATCH body that the sender takes, in KiB.
    pub frame_kib: u32,
    /// Largest batch before compression that the sender takes, in KiB.
    pub batch_kib: u32,
    /// KiB of BATCH frames that may be sent before the next CREDIT.
    pub credit_kib: u32,
    /// The lowest bits of the deployment. A second check: certificates decide first.
    pub deployment: u16,
    /// The sender's wall clock, for the peer's sanity, never for order. In seconds since 1970.
    pub wall_s: u64,
    /// Bytes of history that the sender can hold of a stream, in units of 1,024; 0: none.
    pub history_kib: u32,
    /// Tag of the sample that [`CodecId::SAMPLED`] begins with; not there if that is not among the codecs.
    #[serde(skip)]
    pub sample: u32,
}

/// Of the features: the sender understands FLOOR (docs/PROTOCOL.md#floor-1).
pub const FLOORS: u32 = 1;
/// Of the features: the sender takes large batches in parts (docs/PROTOCOL.md#part-1).
pub const PARTS: u32 = 2;
/// Of the features: the sender understands WITHHELD and LACKS (docs/PROTOCOL.md#withheld-1).
pub const WITHHOLDS: u32 = 4;

/// Most bytes of the fields of HELLO: six numbers of 32 bits, one of 16 and one of 64.
const FIELDS_MAX_BYTES: usize = 6 * 5 + 3 + 10;

/// Bits of a deployment's number that HELLO tells: two bytes, for what certificates have settled.
const DEPLOYMENT_MASK: u64 = (1 << 14) - 1;

impl Hello {
    /// What HELLO tells of a deployment.
    #[must_use]
    pub fn deployment(number: u64) -> u16 {
        (number & DEPLOYMENT_MASK) as u16
    }

    /// Largest BATCH body that the sender takes, in bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        bytes(self.frame_kib)
    }

    /// Largest batch before compression that the sender takes, in bytes.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        bytes(self.batch_kib)
    }

    /// Bytes of BATCH frames that may be sent before the next CREDIT.
    #[must_use]
    pub fn credit_bytes(&self) -> usize {
        bytes(self.credit_kib)
    }

    pub(crate) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let (versions, rest) = out.split_first_chunk_mut::<2>()?;
        *versions = [VERSION_MIN, VERSION_MAX];
        let fields = postcard::to_slice(self, rest).ok()?.len();
        let sampled = self.codecs & CodecId::SAMPLED.bit() != 0;
        let tag: &[u8] = if sampled { &self.sample.to_le_bytes() } else { &[] };
        rest.get_mut(fields..fields + tag.len())?.copy_from_slice(tag);
        Some(2 + fields + tag.len())
    }

    /// Bytes after the fields that this version knows belong to a later one and are ignored.
    pub(crate) fn parse(body: &[u8]) -> Result<Hello, Code> {
        let (&[min, max], rest) = body.split_first_chunk::<2>().ok_or(Code::Malformed)?;
        if min > max {
            return Err(Code::Malformed);
        }
        if min > VERSION_MAX || max < VERSION_MIN {
            return Err(Code::Version);
        }
        let (hello, rest): (Hello, _) = parse_fields(rest)?;
        if hello.codecs & CodecId::SAMPLED.bit() == 0 {
            return Ok(hello);
        }
        let tag = rest.first_chunk().ok_or(Code::Malformed)?;
        Ok(Hello { sample: u32::from_le_bytes(*tag), ..hello })
    }
}

fn bytes(kib: u32) -> usize {
    (kib as usize).saturating_mul(1024)
}

/// Why the sender closes (docs/PROTOCOL.md#error-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Number of a [`Code`]. A receiver that does not know it treats it as [`Code::State`].
    pub code: u16,
    /// Seconds after which trying again makes sense, 0 if it does not matter.
    pub retry_after_s: u16,
}

impl ErrorBody {
    pub(crate) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        postcard::to_slice(self, out).ok().map(|s| s.len())
    }

    pub(crate) fn parse(body: &[u8]) -> Result<ErrorBody, Code> {
        parse_fields(body).map(|(error, _)| error)
    }
}

/// The fields at the start of `bytes`, and what follows them. postcard alone would also read
/// numbers that are longer than need be (docs/PROTOCOL.md#num-1).
fn parse_fields<'a, T: Serialize + Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Code> {
    let (fields, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| Code::Malformed)?;
    let mut shortest = [0; FIELDS_MAX_BYTES];
    let shortest = postcard::to_slice(&fields, &mut shortest).map_err(|_| Code::Malformed)?;
    if bytes.len() - rest.len() == shortest.len() { Ok((fields, rest)) } else { Err(Code::Malformed) }
}

/// CREDIT, BLOCKED, PING and PONG carry one varint.
pub(crate) fn emit_number(out: &mut [u8], v: u64) -> Option<usize> {
    let mut w = Writer::new(out);
    w.varint(v).ok()?;
    Some(w.len())
}

pub(crate) fn parse_number(body: &[u8]) -> Result<u64, Code> {
    let mut r = Reader::new(body);
    let v = r.varint()?;
    if r.is_empty() { Ok(v) } else { Err(Code::Malformed) }
}

/// The pairs of an ACK body: (handle of the events' sender, highest durable seq).
pub(crate) fn parse_acks(body: &[u8]) -> impl Iterator<Item = Result<(u32, u64), Code>> + '_ {
    let mut r = Reader::new(body);
    core::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let mut pair = || Ok((r.varint_max(u64::from(u32::MAX))? as u32, r.varint()?));
        let item: Result<_, Code> = pair();
        if item.is_err() {
            r = Reader::new(&[]);
        }
        Some(item)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello {
        features: 0,
        codecs: 3,
        frame_kib: 257,
        batch_kib: 257,
        credit_kib: 64,
        deployment: 0x3788,
        history_kib: 128,
        wall_s: 1_770_000_000,
        sample: 0,
    };

    #[test]
    fn hello_has_its_golden_bytes() {
        let mut out = [0; 64];
        let n = HELLO.emit(&mut out).unwrap();
        let hex: alloc::string::String = out[..n].iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert_eq!(hex, "010100038102810240886f809d80cc068001");
        assert_eq!(Hello::parse(&out[..n]), Ok(HELLO));
    }

    #[test]
    fn a_hello_of_a_later_version_is_understood_if_it_still_speaks_ours() {
        let mut out = [0; 64];
        let n = HELLO.emit(&mut out).unwrap();
        out[1] = 9;
        out[n] = 42;
        assert_eq!(Hello::parse(&out[..n + 1]), Ok(HELLO));
        out[0] = 2;
        assert_eq!(Hello::parse(&out[..n]), Err(Code::Version));
        out[0] = 10;
        assert_eq!(Hello::parse(&out[..n]), Err(Code::Malformed));
        assert_eq!(Hello::parse(&out[..1]), Err(Code::Malformed));
    }

    #[test]
    fn a_sample_is_told_only_with_its_codec() {
        let mut out = [0; 64];
        let with = Hello { codecs: HELLO.codecs | CodecId::SAMPLED.bit(), sample: 0x0403_0201, ..HELLO };
        let n = with.emit(&mut out).unwrap();
        assert_eq!(&out[n - 6..n], [0x80, 1, 1, 2, 3, 4]);
        assert_eq!(Hello::parse(&out[..n]), Ok(with));
        assert_eq!(Hello::parse(&out[..n - 1]), Err(Code::Malformed));
        assert_eq!(Hello { sample: 5, ..HELLO }.emit(&mut out), Some(18));
    }

    #[test]
    fn a_cut_hello_is_malformed_at_every_length() {
        let mut out = [0; 64];
        let n = HELLO.emit(&mut out).unwrap();
        for cut in 0..n {
            assert_eq!(Hello::parse(&out[..cut]), Err(Code::Malformed));
        }
    }

    #[test]
    fn a_number_that_is_longer_than_need_be_is_refused_in_every_field() {
        let mut out = [0; 64];
        let longer = |body: &[u8], end: usize| [&body[..end], &[body[end] | 0x80, 0], &body[end + 1..]].concat();
        let n = HELLO.emit(&mut out).unwrap();
        let ends: alloc::vec::Vec<_> = (2..n).filter(|i| out[*i] & 0x80 == 0).collect();
        assert_eq!(ends.len(), 8);
        for end in ends {
            assert_eq!(Hello::parse(&longer(&out[..n], end)), Err(Code::Malformed), "at {end}");
        }
        let error = ErrorBody { code: 404, retry_after_s: 30 };
        let n = error.emit(&mut out).unwrap();
        assert_eq!(ErrorBody::parse(&out[..n]), Ok(error));
        for end in [1, 2] {
            assert_eq!(ErrorBody::parse(&longer(&out[..n], end)), Err(Code::Malformed), "at {end}");
        }
    }

    #[test]
    fn the_largest_hello_is_read() {
        let most = Hello {
            features: u32::MAX,
            codecs: u32::MAX,
            frame_kib: u32::MAX,
            batch_kib: u32::MAX,
            credit_kib: u32::MAX,
            deployment: u16::MAX,
            history_kib: u32::MAX,
            wall_s: u64::MAX,
            sample: u32::MAX,
        };
        let mut out = [0; 2 + FIELDS_MAX_BYTES + 4];
        assert_eq!(most.emit(&mut out), Some(out.len()));
        assert_eq!(Hello::parse(&out), Ok(most));
    }

    #[test]
    fn acks_stop_at_the_first_bad_pair() {
        let items: alloc::vec::Vec<_> = parse_acks(&[0, 5, 1, 0x80]).collect();
        assert_eq!(items, [Ok((0, 5)), Err(Code::Malformed)]);
    }
}
