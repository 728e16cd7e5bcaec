//! All the memory of a node, sized once.

use crate::arena::BLOCK_BYTES;
use crate::code::Code;
use crate::history::HistorySlot;
use crate::limits::Limits;
use crate::log::{PAGE_BYTES, padded_len};
use crate::mem::Lent;
use crate::outbox::OutboxSlot;
use crate::parcels::ParcelSlot;
use crate::session::{LinkSlot, SessionSlot};
use crate::timer::TimerSlot;

/// What a node works in. Make it with [`Memory::owned`], or lend `static` arrays; the comments say
/// how large each must be for given [`Limits`].
#[derive(Debug)]
pub struct Memory<'m> {
    /// `sessions`.
    pub sessions: Lent<'m, SessionSlot>,
    /// `links`.
    pub links: Lent<'m, LinkSlot>,
    /// [`Limits::arena_bytes`].
    pub arena: Lent<'m, u8>,
    /// One for each 1,024 bytes of `arena`.
    pub arena_next: Lent<'m, u32>,
    /// `frame_bytes` and 8.
    pub frame: Lent<'m, u8>,
    /// `batch_bytes`.
    pub scratch: Lent<'m, u8>,
    /// `sessions`.
    pub timers: Lent<'m, TimerSlot>,
    /// `histories`.
    pub histories: Lent<'m, HistorySlot>,
    /// `histories` times `history_bytes`.
    pub history: Lent<'m, u8>,
    /// `parcels`.
    pub parcels: Lent<'m, ParcelSlot>,
    /// `parcel_bytes`, in whole blocks of 1,024.
    pub parcel_bytes: Lent<'m, u8>,
    /// One for each 1,024 bytes of `parcel_bytes`.
    pub parcel_next: Lent<'m, u32>,
    /// `outbox`.
    pub outbox: Lent<'m, OutboxSlot>,
    /// `outbox` times `frame_bytes` and 8.
    pub outbox_bytes: Lent<'m, u8>,
    /// `frame_bytes` and 8, if there are parcels or an outbox.
    pub parcel: Lent<'m, u8>,
    /// Each [`Memory::group_buffer_bytes`]: one group fills while the other is written.
    pub groups: [Lent<'m, u8>; 2],
}

impl Memory<'_> {
    /// Bytes of one group buffer: a page for the epoch header, and the padded frame.
    #[must_use]
    pub fn group_buffer_bytes(limits: &Limits) -> usize {
        PAGE_BYTES + padded_len(limits.group_bytes)
    }

    fn parcel_pool_bytes(limits: &Limits) -> usize {
        if limits.parcels == 0 { 0 } else { limits.parcel_bytes.next_multiple_of(BLOCK_BYTES) }
    }

    fn parcel_buffer_bytes(limits: &Limits) -> usize {
        if limits.parcels == 0 && limits.outbox == 0 { 0 } else { limits.frame_bytes + 8 }
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), Code> {
        let group = Self::group_buffer_bytes(limits);
        let ok = self.sessions.room() >= limits.sessions
            && self.links.room() >= limits.links
            && self.arena.len() >= limits.arena_bytes()
            && self.arena_next.len() >= self.arena.len() / BLOCK_BYTES
            && self.frame.len() >= limits.frame_bytes + 8
            && self.scratch.len() >= limits.batch_bytes
            && self.timers.len() >= limits.sessions
            && self.histories.len() >= limits.histories
            && self.history.len() >= limits.histories * limits.history_bytes
            && self.parcels.len() >= limits.parcels
            && self.parcel_bytes.len() >= Self::parcel_pool_bytes(limits)
            && self.parcel_next.len() >= self.parcel_bytes.len() / BLOCK_BYTES
            && self.outbox.len() >= limits.outbox
            && self.outbox_bytes.len() >= limits.outbox * (limits.frame_bytes + 8)
            && self.parcel.len() >= Self::parcel_buffer_bytes(limits)
            && self.groups.iter().all(|g| g.len() >= group);
        if ok { Ok(()) } else { Err(Code::Config) }
    }
}

#[cfg(feature = "alloc")]
impl Memory<'static> {
    /// On the heap. Buffers come zeroed from the allocator and tables of slots are filled as they are needed, so
    /// they are resident only where they have been used.
    #[must_use]
    pub fn owned(limits: &Limits) -> Self {
        let group = Self::group_buffer_bytes(limits);
        let arena = limits.arena_bytes().next_multiple_of(BLOCK_BYTES);
        let parcels = Self::parcel_pool_bytes(limits);
        Self {
            sessions: Lent::reserved(limits.sessions),
            links: Lent::reserved(limits.links),
            arena: Lent::owned(0, arena),
            arena_next: Lent::owned(0, arena / BLOCK_BYTES),
            frame: Lent::owned(0, limits.frame_bytes + 8),
            scratch: Lent::owned(0, limits.batch_bytes),
            timers: Lent::owned(TimerSlot::EMPTY, limits.sessions),
            histories: Lent::owned(HistorySlot::EMPTY, limits.histories),
            history: Lent::owned(0, limits.histories * limits.history_bytes),
            parcels: Lent::owned(ParcelSlot::EMPTY, limits.parcels),
            parcel_bytes: Lent::owned(0, parcels),
            parcel_next: Lent::owned(0, parcels / BLOCK_BYTES),
            outbox: Lent::owned(OutboxSlot::EMPTY, limits.outbox),
            outbox_bytes: Lent::owned(0, limits.outbox * (limits.frame_bytes + 8)),
            parcel: Lent::owned(0, Self::parcel_buffer_bytes(limits)),
            groups: [Lent::owned(0, group), Lent::owned(0, group)],
        }
    }
}
