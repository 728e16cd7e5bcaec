//! What carries the bytes, in virtual time: one direction of a TCP connection, as its ends see it.
//!
//! Only TCP's payload is modelled. There are no packet headers, no lost packets and no slow start; the kernel's
//! send buffer is there, because it decides what can still be overtaken by what is urgent.

use std::collections::VecDeque;

use ropeway_mio::demo::profile::Profile;

/// Payload of a full packet of 1,440 bytes.
const SEGMENT_BYTES: usize = 1_400;
/// What the client asks of the kernel for its socket.
const SEND_BUFFER_BYTES: usize = 32 << 10;

/// A link, the same both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Air {
    /// Bytes of TCP payload per second.
    pub(crate) rate_bytes_per_s: u64,
    /// One way, in microseconds.
    pub(crate) latency_us: u64,
}

impl Air {
    /// 2G in a mountain valley: 23 kbit/s, 600 ms there and back.
    pub(crate) fn thin() -> Self {
        Self { rate_bytes_per_s: 2_875, latency_us: 300_000 }
    }

    /// A cable in the same building.
    pub(crate) fn cable() -> Self {
        Self { rate_bytes_per_s: 12_500_000, latency_us: 200 }
    }

    /// Far away, and so fast that only the distance takes time: what happens here is counted in round trips.
    pub(crate) fn far() -> Self {
        Self { rate_bytes_per_s: 1_000_000_000, latency_us: 1_000_000 }
    }

    /// There and back, in microseconds.
    pub(crate) fn round_trip_us(&self) -> u64 {
        2 * self.latency_us
    }

    /// The same link for the relay of the demo, which works in real time.
    pub(crate) fn profile(&self) -> Profile {
        let rate = u32::try_from(self.rate_bytes_per_s).unwrap_or(u32::MAX);
        Profile {
            name: "bench",
            about: "",
            latency_us: u32::try_from(self.latency_us).unwrap_or(u32::MAX),
            jitter_us: 0,
            rate_up_bytes_per_s: rate,
            rate_down_bytes_per_s: rate,
            queue_bytes: 8 << 10,
        }
    }
}

/// A piece of what was written.
#[derive(Debug)]
struct Segment {
    leaves_us: u64,
    lands_us: u64,
    bytes: Vec<u8>,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Way {
    air: Air,
    /// The modem is busy until then, in nanoseconds.
    free_ns: u64,
    segments: VecDeque<Segment>,
    /// Bytes that the kernel holds until they are acknowledged, and when each piece is.
    held: VecDeque<(u64, usize)>,
    /// Bytes that the kernel has taken.
    pub(crate) bytes: u64,
}

impl Way {
    /// A direction whose first byte may leave at `from_us`.
    pub(crate) fn new(air: Air, from_us: u64) -> Self {
        let (segments, held) = (VecDeque::new(), VecDeque::new());
        Self { air, free_ns: from_us * 1_000, segments, held, bytes: 0 }
    }

    fn room(&self, now_us: u64) -> usize {
        let held: usize = self.held.iter().filter(|(until_us, _)| *until_us > now_us).map(|(_, n)| n).sum();
        SEND_BUFFER_BYTES.saturating_sub(held)
    }

    /// Takes bytes while the kernel has room; how many it took.
    pub(crate) fn write(&mut self, now_us: u64, bytes: &[u8]) -> usize {
        let taken = &bytes[..bytes.len().min(self.room(now_us))];
        for piece in taken.chunks(SEGMENT_BYTES) {
            let ns = piece.len() as u64 * 1_000_000_000 / self.air.rate_bytes_per_s.max(1);
            self.free_ns = self.free_ns.max(now_us * 1_000) + ns;
            let leaves_us = self.free_ns.div_ceil(1_000);
            let lands_us = leaves_us + self.air.latency_us;
            self.segments.push_back(Segment { leaves_us, lands_us, bytes: piece.to_vec() });
            self.held.push_back((lands_us + self.air.latency_us, piece.len()));
        }
        while self.held.front().is_some_and(|(until_us, _)| *until_us <= now_us) {
            self.held.pop_front();
        }
        self.bytes += taken.len() as u64;
        taken.len()
    }

    /// When a sender that found no room may try again.
    pub(crate) fn room_at_us(&self, now_us: u64) -> Option<u64> {
        self.held.iter().map(|(until_us, _)| *until_us).find(|until_us| *until_us > now_us)
    }

    /// When the next piece lands.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.segments.front().map(|s| s.lands_us)
    }

    /// The next piece that has landed.
    pub(crate) fn land(&mut self, now_us: u64) -> Option<Vec<u8>> {
        self.next_us().filter(|at_us| *at_us <= now_us)?;
        self.segments.pop_front().map(|s| s.bytes)
    }

    /// How many bytes have left the modem.
    pub(crate) fn left(&self, now_us: u64) -> u64 {
        let waits = |s: &Segment| {
            let until_us = s.leaves_us.saturating_sub(now_us);
            (u128::from(until_us) * u128::from(self.air.rate_bytes_per_s) / 1_000_000).min(s.bytes.len() as u128)
        };
        self.bytes - self.segments.iter().map(waits).sum::<u128>() as u64
    }

    /// When the last byte that was taken has left.
    pub(crate) fn idle_at_us(&self) -> u64 {
        self.free_ns.div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_at_the_rate_and_land_in_order_after_the_latency() {
        let air = Air { rate_bytes_per_s: 1_000, latency_us: 50_000 };
        let mut way = Way::new(air, 10_000);
        assert_eq!(way.write(0, &[1; 100]), 100);
        assert_eq!(way.write(0, &[2; 100]), 100);
        assert_eq!(way.land(159_999), None);
        assert_eq!(way.land(160_000), Some(vec![1; 100]));
        assert_eq!((way.next_us(), way.left(160_000), way.left(210_000)), (Some(260_000), 150, 200));
        assert_eq!(way.idle_at_us(), 210_000);
    }

    #[test]
    fn a_full_kernel_takes_no_more_before_it_hears_that_bytes_have_arrived() {
        let air = Air { rate_bytes_per_s: 1_400_000, latency_us: 50_000 };
        let mut way = Way::new(air, 0);
        assert_eq!(way.write(0, &vec![0; 40_000]), SEND_BUFFER_BYTES);
        assert_eq!((way.write(0, &[0]), way.room_at_us(0)), (0, Some(101_000)));
        assert_eq!(way.write(101_000, &vec![0; 40_000]), SEGMENT_BYTES);
    }
}
