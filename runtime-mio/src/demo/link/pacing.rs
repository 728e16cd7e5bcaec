//! When a packet leaves the modem and when it arrives: pure functions of time.
//!
//! All times are durations since the link's start, already divided by its speed. A packet's times
//! are fixed once, when it is taken from the sender: a thread that wakes late delivers that packet
//! late, but moves no other.

use std::collections::VecDeque;
use std::time::Duration;

use crate::demo::SplitMix;

/// When the last bit of `len` bytes has left a modem that is busy until `free_at`.
#[must_use]
pub fn departure_time(free_at: Duration, now: Duration, len: usize, rate_bytes_per_s: f64) -> Duration {
    let start = free_at.max(now);
    start.saturating_add(Duration::try_from_secs_f64(len as f64 / rate_bytes_per_s).unwrap_or(Duration::MAX))
}

/// When a packet that departed then arrives. `draw` is any number; equal draws give equal jitter.
/// Never before `previous`, the arrival of the packet before it: the order is kept.
#[must_use]
pub fn arrival_time(
    departed: Duration,
    latency: Duration,
    jitter: Duration,
    draw: u64,
    previous: Duration,
) -> Duration {
    let share = draw as f64 / u64::MAX as f64;
    let earliest = departed.saturating_add(latency).saturating_sub(jitter);
    earliest.saturating_add(jitter.mul_f64(2.0 * share)).max(previous)
}

/// One direction of a link: the modem's queue and the air behind it, shared by all connections.
#[derive(Debug)]
pub(super) struct Lane {
    rate_bytes_per_s: f64,
    latency: Duration,
    jitter: Duration,
    queue_bytes: usize,
    packet_bytes: usize,
    free_at: Duration,
    waiting: VecDeque<(Duration, usize)>,
    waiting_bytes: usize,
    jitter_source: SplitMix,
}

/// The size of a packet on a slow link, as over a modem with the usual MTU.
const PACKET_BYTES: usize = 1_400;
/// The largest packet: a fast link would otherwise wake thousands of times per second.
pub(super) const PACKET_BYTES_MAX: usize = 64 * 1024;

impl Lane {
    pub(super) fn new(
        rate_bytes_per_s: f64,
        latency: Duration,
        jitter: Duration,
        queue_bytes: usize,
        seed: u64,
    ) -> Lane {
        Lane {
            rate_bytes_per_s,
            latency,
            jitter,
            queue_bytes: queue_bytes.max(1),
            packet_bytes: ((rate_bytes_per_s / 1_000.0) as usize).clamp(PACKET_BYTES, PACKET_BYTES_MAX),
            free_at: Duration::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            jitter_source: SplitMix::new(seed),
        }
    }

    pub(super) fn latency(&self) -> Duration {
        self.latency
    }

    /// How many bytes may be taken from a sender now: a whole packet, or 0 while the queue is full.
    pub(super) fn room_bytes(&self) -> usize {
        let packet = self.packet_bytes.min(self.queue_bytes);
        if self.waiting_bytes + packet <= self.queue_bytes { packet } else { 0 }
    }

    /// What one connection may have taken but not delivered: the queue, the air and a packet each.
    pub(super) fn held_bytes_max(&self) -> usize {
        let air = self.rate_bytes_per_s * (self.latency + self.jitter).as_secs_f64();
        self.queue_bytes + air as usize + 2 * self.packet_bytes
    }

    /// Takes a packet at `now`; its departure and its arrival, not before `previous`.
    pub(super) fn take(&mut self, now: Duration, len: usize, previous: Duration) -> (Duration, Duration) {
        let departed = departure_time(self.free_at, now, len, self.rate_bytes_per_s);
        self.free_at = departed;
        self.waiting.push_back((departed, len));
        self.waiting_bytes += len;
        (departed, arrival_time(departed, self.latency, self.jitter, self.jitter_source.next(), previous))
    }

    /// Lets everything depart that is due at `now`; how many bytes did.
    pub(super) fn settle(&mut self, now: Duration) -> usize {
        let mut departed_bytes = 0;
        while let Some(&(_, len)) = self.waiting.front().filter(|(departed, _)| *departed <= now) {
            departed_bytes += len;
            self.waiting.pop_front();
        }
        self.waiting_bytes -= departed_bytes;
        departed_bytes
    }

    /// When the next packet departs.
    pub(super) fn next_departure(&self) -> Option<Duration> {
        self.waiting.front().map(|(departed, _)| *departed)
    }

    /// Forgets what has not departed: the modem lost its carrier.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.free_at = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_waits_for_the_ones_before_it_and_takes_its_size_over_the_rate() {
        assert_eq!(departure_time(Duration::ZERO, 100 * MS, 1_000, 10_000.0), 200 * MS);
        assert_eq!(departure_time(500 * MS, 100 * MS, 1_000, 10_000.0), 600 * MS);
        // 23 kbit/s at tenfold speed: 1,000 bytes in 35 ms.
        let took = departure_time(Duration::ZERO, Duration::ZERO, 1_000, 28_750.0);
        assert!((34_700..34_900).contains(&took.as_micros()), "{took:?}");
        assert_eq!(departure_time(Duration::ZERO, MS, 1, 0.0), Duration::MAX);
    }

    #[test]
    fn jitter_goes_both_ways_and_never_reorders() {
        let arrive = |draw, previous| arrival_time(1_000 * MS, 300 * MS, 100 * MS, draw, previous);
        assert_eq!(arrive(0, Duration::ZERO), 1_200 * MS);
        assert_eq!(arrive(u64::MAX, Duration::ZERO), 1_400 * MS);
        assert_eq!(arrive(0, 1_350 * MS), 1_350 * MS);
    }

    #[test]
    fn lateness_does_not_accumulate_while_the_queue_is_not_empty() {
        let mut lane = Lane::new(10_000.0, 300 * MS, Duration::ZERO, 4_000, 1);
        let (mut now, mut taken) = (Duration::ZERO, 0);
        let mut last = Duration::ZERO;
        while taken < 100_000 {
            lane.settle(now);
            while lane.room_bytes() > 0 {
                (_, last) = lane.take(now, 1_000, last);
                taken += 1_000;
            }
            // Every wake is 7 ms late, as on a busy machine.
            now = lane.next_departure().unwrap() + 7 * MS;
        }
        assert_eq!(last, Duration::from_secs_f64(taken as f64 / 10_000.0) + 300 * MS);
    }

    #[test]
    fn a_full_queue_takes_nothing_until_a_packet_has_departed() {
        let mut lane = Lane::new(1_000.0, MS, MS, 3_000, 1);
        for _ in 0..2 {
            assert_eq!(lane.room_bytes(), 1_400);
            lane.take(Duration::ZERO, 1_400, Duration::ZERO);
        }
        assert_eq!(lane.room_bytes(), 0);
        assert_eq!(lane.settle(1_399 * MS), 0);
        assert_eq!(lane.settle(1_400 * MS), 1_400);
        assert_eq!(lane.room_bytes(), 1_400);
        lane.clear();
        assert_eq!((lane.next_departure(), lane.settle(Duration::MAX)), (None, 0));
    }

    #[test]
    fn one_seed_draws_one_jitter() {
        let arrivals = |seed| {
            let mut lane = Lane::new(1e6, 300 * MS, 100 * MS, 100_000, seed);
            (0..20).map(|i| lane.take(i * 1_000 * MS, 100, Duration::ZERO).1).collect::<Vec<_>>()
        };
        assert_eq!(arrivals(7), arrivals(7));
        assert_ne!(arrivals(7), arrivals(8));
    }
}
