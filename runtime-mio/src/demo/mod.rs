//! `ropeway demo`: invented clinics behind emulated thin links, and a check of every event.
//!
//! [`link::Link`] sits between any TCP client and any TCP server, so the demo runs the same node,
//! over the same sockets, as a real deployment: [`run`] makes it, [`check`] judges it.

pub mod check;
mod clinic;
mod folder;
pub mod link;
pub mod profile;
pub mod progress;
pub mod report;
pub mod run;
pub mod workload;

/// SplitMix64: a small generator whose whole state is its seed. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit - 1`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The high half of the product: no division, and no bias that a demo could notice.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}
