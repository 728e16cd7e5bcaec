//! Large batches that come in parts (docs/PROTOCOL.md#part-1): what has come of each so far, kept also while
//! the session with its sender is cut.
//!
//! One pool of blocks for all of them. Room for the whole is set aside when the first part comes, so that what
//! has begun can end; who finds none waits.

use crate::arena::{Arena, BLOCK_BYTES, Chain};
use crate::fifo::NONE;
use crate::id::{Lane, NodeName, StreamKey};
use crate::mem::Lent;
use crate::planted::{Bug, has, mark};
use crate::time::Instant;
use crate::wire::part::ParcelTag;

/// What one parcel is, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    pub(crate) peer: NodeName,
    pub(crate) key: StreamKey,
    /// Of its first event.
    pub(crate) seq: u64,
    pub(crate) tag: ParcelTag,
    pub(crate) total: usize,
    /// How far its sender knows that it has come.
    pub(crate) told: usize,
    /// The session that it comes in, [`NONE`] if that is cut.
    pub(crate) session: u32,
    /// When it began, or the last part of it came.
    pub(crate) used: Instant,
    /// It had to make room: its sender is to begin again.
    pub(crate) lost: bool,
    chain: Chain,
}

impl Parcel {
    /// One that begins now in a session.
    pub(crate) fn new(
        peer: NodeName,
        key: StreamKey,
        (seq, tag, total): (u64, ParcelTag, usize),
        (session, used): (u32, Instant),
    ) -> Self {
        Self { peer, key, seq, tag, total, told: 0, session, used, lost: false, chain: Chain::EMPTY }
    }

    /// Bytes that have come.
    pub(crate) fn len(&self) -> usize {
        self.chain.len()
    }

    /// Whether its sender has yet to hear how far it is.
    pub(crate) fn is_news(&self) -> bool {
        self.told != self.len() && (self.lost || self.len() > 0)
    }

    fn blocks(&self) -> usize {
        if self.lost { 0 } else { self.total.div_ceil(BLOCK_BYTES) }
    }
}

/// Memory for one parcel, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ParcelSlot(Option<Parcel>);

impl ParcelSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: ParcelSlot = ParcelSlot(None);
}

/// There is no room for another parcel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoParcel;

/// The parcels of all peers: at most one for each peer and lane.
#[derive(Debug)]
pub(crate) struct Parcels<'m> {
    slots: Lent<'m, ParcelSlot>,
    arena: Arena<'m>,
    /// Blocks that are not set aside.
    free: usize,
    /// No slot from here on is in use: where few are, few are looked at.
    top: usize,
}

impl<'m> Parcels<'m> {
    pub(crate) fn new(slots: Lent<'m, ParcelSlot>, bytes: Lent<'m, u8>, next: Lent<'m, u32>) -> Self {
        let free = next.len().min(bytes.len() / BLOCK_BYTES);
        Self { slots, arena: Arena::new(bytes, next), free, top: 0 }
    }

    fn all(&self) -> impl Iterator<Item = (usize, &Parcel)> + '_ {
        self.slots[..self.top].iter().enumerate().filter_map(|(n, slot)| Some((n, slot.0.as_ref()?)))
    }

    /// The slots in use are among the first so many.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// The one from a peer in a lane.
    pub(crate) fn find(&self, peer: &NodeName, lane: Lane) -> Option<usize> {
        self.all().find(|(_, p)| p.peer == *peer && p.key.lane == lane).map(|(n, _)| n)
    }

    /// Those of a session.
    pub(crate) fn of_session(&self, session: u32) -> impl Iterator<Item = (usize, &Parcel)> + '_ {
        self.all().filter(move |(_, p)| p.session == session)
    }

    /// One of the peer's that belongs to no session.
    pub(crate) fn left_by(&self, peer: &NodeName) -> Option<usize> {
        self.all().find(|(_, p)| p.peer == *peer && p.session == NONE).map(|(n, _)| n)
    }

    /// One of this stream whose events are all here.
    pub(crate) fn settled(&self, key: &StreamKey, upto: u64) -> Option<usize> {
        self.all().find(|(_, p)| p.seq <= upto && p.key == *key).map(|(n, _)| n)
    }

    pub(crate) fn get(&self, n: usize) -> Option<&Parcel> {
        self.slots.get(n)?.0.as_ref()
    }

    pub(crate) fn get_mut(&mut self, n: usize) -> Option<&mut Parcel> {
        self.slots.get_mut(n)?.0.as_mut()
    }

    /// Sets room aside for a parcel that begins. Those whose sessions are cut make room, the one that was left
    /// for longest first.
    pub(crate) fn begin(&mut self, parcel: Parcel) -> Result<usize, NoParcel> {
        let left = || self.all().filter(|(_, p)| p.session == NONE);
        let room = self.free + left().map(|(_, p)| p.blocks()).sum::<usize>();
        let slot = self.all().count() < self.slots.len() || left().next().is_some();
        if room < parcel.blocks() || !slot {
            return Err(NoParcel);
        }
        loop {
            let n = self.slots.iter().position(|slot| slot.0.is_none());
            if let Some(n) = n.filter(|_| self.free >= parcel.blocks()) {
                self.free -= parcel.blocks();
                self.top = self.top.max(n + 1);
                self.slots[n].0 = Some(parcel);
                return Ok(n);
            }
            let oldest = self.all().filter(|(_, p)| p.session == NONE).min_by_key(|(_, p)| p.used);
            let n = oldest.map(|(n, _)| n).ok_or(NoParcel)?;
            mark!("part.evicted");
            self.free(n);
        }
    }

    /// Adds the next bytes of parcel `n`.
    pub(crate) fn push(&mut self, n: usize, bytes: &[u8]) {
        if let Some(parcel) = self.slots.get_mut(n).and_then(|slot| slot.0.as_mut()) {
            let room = parcel.total.saturating_sub(parcel.chain.len());
            let pushed = self.arena.push(&mut parcel.chain, &bytes[..bytes.len().min(room)]);
            debug_assert_eq!(pushed, bytes.len(), "room was set aside for all of it");
        }
    }

    /// Copies what has come of parcel `n` to the front of `out`.
    pub(crate) fn peek(&self, n: usize, out: &mut [u8]) -> usize {
        self.get(n).map_or(0, |parcel| self.arena.peek(&parcel.chain, out))
    }

    /// Of the parcels of a session, the one in the least urgent lane makes room for another. `false`: there is none.
    pub(crate) fn give_up_one_of(&mut self, session: u32) -> bool {
        let own = self.all().filter(|(_, p)| p.session == session && !p.lost);
        let Some(n) = own.max_by_key(|(_, p)| p.key.lane).map(|(n, _)| n) else { return false };
        let Some(parcel) = self.slots[n].0.as_mut() else { return false };
        self.free += parcel.blocks();
        self.arena.clear(&mut parcel.chain);
        // Whatever it was told before: nothing is left.
        (parcel.lost, parcel.told) = (true, usize::MAX);
        true
    }

    /// Forgets parcel `n` and gives its memory back.
    pub(crate) fn free(&mut self, n: usize) {
        if let Some(mut parcel) = self.slots.get_mut(n).and_then(|slot| slot.0.take()) {
            while self.top > 0 && self.slots[self.top - 1].0.is_none() {
                self.top -= 1;
            }
            if !has(Bug::ParcelLeaks) {
                self.free += parcel.blocks();
            }
            self.arena.clear(&mut parcel.chain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use alloc::vec;

    fn parcels(slots: usize, blocks: usize) -> Parcels<'static> {
        Parcels::new(
            Lent::owned(ParcelSlot::EMPTY, slots),
            Lent::owned(0, blocks * BLOCK_BYTES),
            Lent::owned(0, blocks),
        )
    }

    fn parcel(peer: &str, lane: Lane, total: usize, (session, at): (u32, u64)) -> Parcel {
        let node = NodeName::new(peer).unwrap();
        let key = StreamKey { node, incarnation: Incarnation::new(1), lane };
        Parcel::new(node, key, (1, [7; 8], total), (session, Instant(at)))
    }

    #[test]
    fn a_parcel_grows_to_its_length_and_gives_its_room_back() {
        let mut all = parcels(2, 4);
        let n = all.begin(parcel("a", Lane::Bulk, 3000, (0, 0))).unwrap();
        all.push(n, &[1; 2000]);
        all.push(n, &[2; 1000]);
        let mut out = vec![0; 4000];
        assert_eq!((all.peek(n, &mut out), out[1999], out[2000]), (3000, 1, 2));
        assert_eq!(all.begin(parcel("b", Lane::Bulk, 1025, (1, 0))), Err(NoParcel));
        all.free(n);
        assert!(all.begin(parcel("b", Lane::Bulk, 4096, (1, 0))).is_ok());
    }

    #[test]
    fn those_whose_session_is_cut_make_room_the_oldest_first_and_no_others() {
        let mut all = parcels(3, 6);
        let kept = all.begin(parcel("a", Lane::Bulk, 2048, (NONE, 20))).unwrap();
        all.begin(parcel("b", Lane::Bulk, 2048, (NONE, 10))).unwrap();
        all.begin(parcel("c", Lane::Bulk, 2048, (5, 0))).unwrap();
        let name = |s| NodeName::new(s).unwrap();
        let n = all.begin(parcel("d", Lane::Bulk, 2048, (6, 30))).unwrap();
        assert_eq!(all.find(&name("b"), Lane::Bulk), None);
        assert_eq!(all.left_by(&name("a")), Some(kept));
        assert_eq!(all.begin(parcel("e", Lane::Bulk, 2049, (7, 30))), Err(NoParcel), "nobody is robbed for nothing");
        assert_eq!(all.find(&name("a"), Lane::Bulk), Some(kept));
        assert_eq!(all.of_session(6).map(|(n, _)| n).collect::<vec::Vec<_>>(), [n]);
    }

    #[test]
    fn without_memory_none_is_taken() {
        let mut none = parcels(0, 0);
        assert_eq!(none.begin(parcel("a", Lane::Bulk, 1, (0, 0))), Err(NoParcel));
    }
}
