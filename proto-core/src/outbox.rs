//! Large batches that are sent in parts (docs/PROTOCOL.md#part-1): packed once, and kept for the next part, the
//! next peer and the session after a cut. What has made room for another is packed again.

use crate::codec::CodecId;
use crate::fifo::NONE;
use crate::mem::Lent;
use crate::wire::part::ParcelTag;

/// What one packed batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Number of the stream at this node.
    pub(crate) stream: u32,
    /// Of its first event.
    pub(crate) seq: u64,
    pub(crate) tag: ParcelTag,
    pub(crate) codec: CodecId,
    /// Bytes of the history that it refers to.
    pub(crate) past_bytes: usize,
    /// Where the parcel stands in its slot: a handle comes before it.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Packed {
    const NONE: Packed =
        Packed { stream: NONE, seq: 0, tag: [0; 8], codec: CodecId::STORED, past_bytes: 0, start: 0, end: 0 };

    /// Bytes of the parcel.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Memory for one packed batch, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct OutboxSlot {
    packed: Packed,
    used: u64,
}

impl OutboxSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: OutboxSlot = OutboxSlot { packed: Packed::NONE, used: 0 };
}

/// The slots, and their bytes in equal shares.
#[derive(Debug)]
pub(crate) struct Outbox<'m> {
    slots: Lent<'m, OutboxSlot>,
    bytes: Lent<'m, u8>,
    share: usize,
    uses: u64,
}

impl<'m> Outbox<'m> {
    /// Slots of `share` bytes each.
    pub(crate) fn new(slots: Lent<'m, OutboxSlot>, bytes: Lent<'m, u8>, share: usize) -> Self {
        Self { slots, bytes, share, uses: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The packed batch that fits, and its slot.
    pub(crate) fn find(&mut self, fits: impl Fn(&Packed) -> bool) -> Option<(usize, Packed)> {
        let n = self.slots.iter().position(|s| s.packed.stream != NONE && fits(&s.packed))?;
        self.uses += 1;
        self.slots[n].used = self.uses;
        Some((n, self.slots[n].packed))
    }

    /// The parcel in a slot.
    pub(crate) fn parcel(&self, n: usize) -> &[u8] {
        let Packed { start, end, .. } = self.slots[n].packed;
        &self.bytes[n * self.share..][start..end]
    }

    /// A slot to pack into, emptied: the one that was not used for longest.
    pub(crate) fn claim(&mut self) -> Option<usize> {
        let n = (0..self.slots.len()).min_by_key(|&n| self.slots[n].used)?;
        self.slots[n] = OutboxSlot::EMPTY;
        Some(n)
    }

    /// The bytes of a slot.
    pub(crate) fn room(&mut self, n: usize) -> &mut [u8] {
        &mut self.bytes[n * self.share..(n + 1) * self.share]
    }

    /// Says what was packed into a slot.
    pub(crate) fn keep(&mut self, n: usize, packed: Packed) {
        self.uses += 1;
        self.slots[n] = OutboxSlot { packed, used: self.uses };
    }

    /// Forgets a stream whose place in the table is given to another.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.slots.iter_mut().filter(|s| s.packed.stream == stream).for_each(|s| *s = OutboxSlot::EMPTY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let mut outbox = Outbox::new(Lent::owned(OutboxSlot::EMPTY, 2), Lent::owned(0, 16), 8);
        for stream in [1, 2] {
            let n = outbox.claim().unwrap();
            outbox.room(n).fill(stream as u8);
            outbox.keep(n, Packed { stream, seq: 9, start: 1, end: 4, ..Packed::NONE });
        }
        let (one, packed) = outbox.find(|p| p.stream == 1).unwrap();
        assert_eq!((outbox.parcel(one), packed.len()), (&[1, 1, 1][..], 3));
        let n = outbox.claim().unwrap();
        assert_ne!(n, one);
        assert!(outbox.find(|p| p.stream == 2).is_none());
        outbox.forget(1);
        assert!(outbox.find(|p| p.seq == 9).is_none());
    }
}
