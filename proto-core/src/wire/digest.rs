//! DIGEST and BUCKETS: many streams told in few bytes (docs/PROTOCOL.md#digest-1).

use crate::code::Code;
use crate::event::Chain;
use crate::id::StreamKey;
use crate::varint::{Reader, Writer};

/// Bytes of a bucket's sum.
pub(crate) const BUCKET_BYTES: usize = 5;
/// Most buckets: they fit one frame.
const BUCKETS_MAX: usize = 512;
/// Most bytes of BUCKETS.
pub(crate) const BUCKETS_MAX_BYTES: usize = BUCKETS_MAX * BUCKET_BYTES;

/// How far all streams of a set are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// How many they are.
    pub(crate) count: u32,
    /// Their chain hashes, the first 16 bytes of each as a number, added up.
    pub(crate) sum: u128,
}

impl Digest {
    /// One stream more, with this chain hash.
    pub(crate) fn add(&mut self, chain: &Chain) {
        let Some(first) = chain.0.first_chunk() else { return };
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(*first));
    }

    pub(crate) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer::new(out);
        w.varint(u64::from(self.count)).ok()?;
        w.put(&self.sum.to_le_bytes()).ok()?;
        Some(w.len())
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Code> {
        let mut r = Reader::new(body);
        let count = r.varint_max(u64::from(u32::MAX))? as u32;
        let sum = u128::from_le_bytes(r.array()?);
        if r.is_empty() { Ok(Self { count, sum }) } else { Err(Code::Malformed) }
    }
}

/// How two nodes whose digests differ sort their streams into buckets.
pub(crate) struct Sorting {
    key: [u8; 32],
    buckets: usize,
}

impl Sorting {
    /// The same at both ends, whichever digest is whose.
    pub(crate) fn new(a: &Digest, b: &Digest) -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&a.sum.min(b.sum).to_le_bytes());
        key[16..].copy_from_slice(&a.sum.max(b.sum).to_le_bytes());
        // Bytes of all sums and of the entries in the few that differ are about as many then.
        let streams = a.count.max(b.count) as usize;
        let mut buckets = 1;
        while buckets < BUCKETS_MAX && buckets * buckets < streams.saturating_mul(16) {
            buckets *= 2;
        }
        Self { key, buckets }
    }

    /// Bytes of BUCKETS.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets * BUCKET_BYTES
    }

    /// Where in BUCKETS the sum stands that a stream counts in.
    pub(crate) fn place(&self, stream: &StreamKey) -> core::ops::Range<usize> {
        let [a, b, ..] = Chain::start(stream).0;
        let at = usize::from(u16::from_le_bytes([a, b])) % self.buckets * BUCKET_BYTES;
        at..at + BUCKET_BYTES
    }

    /// Adds a stream that is held up to this chain hash to the sum at its place.
    pub(crate) fn add(&self, sum: &mut [u8], chain: &Chain) {
        let hash = blake3::keyed_hash(&self.key, &chain.0);
        let mut carry = 0;
        for (s, h) in sum.iter_mut().zip(&hash.as_bytes()[..BUCKET_BYTES]) {
            carry += u16::from(*s) + u16::from(*h);
            *s = carry as u8;
            carry >>= 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane, NodeName};

    fn digest(count: u32, sum: u128) -> Digest {
        Digest { count, sum }
    }

    #[test]
    fn a_digest_has_its_golden_bytes_and_no_other_form() {
        let mut it = Digest::default();
        it.add(&Chain([3; 32]));
        it.add(&Chain([0xff; 32]));
        let mut out = [0; 32];
        let n = it.emit(&mut out).unwrap();
        let mut golden = alloc::vec![2, 2];
        golden.extend([3; 15]);
        assert_eq!(out[..n], golden);
        assert_eq!(Digest::parse(&golden), Ok(it));
        for cut in 0..n {
            assert_eq!(Digest::parse(&golden[..cut]), Err(Code::Malformed), "{cut}");
        }
        golden.push(0);
        assert_eq!(Digest::parse(&golden), Err(Code::Malformed));
    }

    #[test]
    fn the_number_of_buckets_grows_with_the_root_of_the_number_of_streams() {
        for (streams, buckets) in [(0, 1), (1, 4), (8, 16), (100, 64), (1000, 128), (10_000, 512), (u32::MAX, 512)] {
            let sorting = Sorting::new(&digest(streams, 1), &digest(0, 2));
            assert_eq!(sorting.buckets, buckets, "{streams}");
        }
    }

    #[test]
    fn both_ends_sort_alike_and_order_does_not_matter() {
        let (a, b) = (digest(3, 77), digest(2, 5));
        let key = |n| StreamKey {
            node: NodeName::new("clinic_a").unwrap(),
            incarnation: Incarnation::new(n),
            lane: Lane::Normal,
        };
        let sums = |sorting: &Sorting, order: [u8; 3]| {
            let mut out = alloc::vec![0; sorting.bytes()];
            for n in order {
                sorting.add(&mut out[sorting.place(&key(u64::from(n)))], &Chain([n; 32]));
            }
            out
        };
        let one = sums(&Sorting::new(&a, &b), [1, 2, 3]);
        assert_eq!(one, sums(&Sorting::new(&b, &a), [3, 1, 2]));
        assert_ne!(one, sums(&Sorting::new(&b, &a), [3, 1, 4]));
        assert_ne!(one, sums(&Sorting::new(&a, &digest(2, 6)), [1, 2, 3]), "another session sums up otherwise");
    }
}
