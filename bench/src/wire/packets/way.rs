//! One direction of a link that carries packets: a rate, a queue before it, a delay, jitter, loss. Time comes from
//! outside, in microseconds.

use std::collections::VecDeque;

/// What a direction is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// Bytes of IP packets per second.
    pub(super) rate_bytes_per_s: u64,
    /// What may wait before the rate, in bytes; a packet that finds no room is dropped.
    pub(super) queue_bytes: usize,
    /// From the last byte's leaving to the arrival, in microseconds.
    pub(super) delay_us: u64,
    /// Up to so much more, in microseconds; packets stay in order.
    pub(super) jitter_us: u64,
    /// Packets that are lost, of a million. They take their time on the link all the same.
    pub(super) loss_ppm: u32,
    /// How many packets in a row are lost, on average.
    pub(super) burst: u32,
}

impl Profile {
    /// 2G in a mountain valley: 23 kbit/s, 600 ms there and back, and a queue of nearly three seconds.
    pub(super) fn thin(loss_ppm: u32) -> Self {
        Self { rate_bytes_per_s: 2_875, queue_bytes: 8 << 10, delay_us: 300_000, jitter_us: 0, loss_ppm, burst: 1 }
    }

    /// Time on the link, in microseconds.
    pub(super) fn takes_us(&self, bytes: usize) -> u64 {
        bytes as u64 * 1_000_000 / self.rate_bytes_per_s.max(1)
    }

    /// There and back, in seconds, without the time that packets take.
    pub(super) fn round_trip_s(&self) -> f64 {
        2.0 * self.delay_us as f64 / 1e6
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is on its way.
    Flying,
    /// It has arrived.
    Carried,
    /// The link has lost it.
    Lost,
    /// The queue was full.
    Full,
    /// The link was down, or has forgotten the connection.
    Cut,
}

/// Numbers that are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.any()) * u128::from(limit)) >> 64) as u64
    }
}

/// A packet that is under way.
#[derive(Debug)]
struct Flying {
    lands_us: u64,
    lost: bool,
    number: usize,
    bytes: Vec<u8>,
}

/// When a packet has left the link's near end, if it was taken.
pub(super) type Taken = std::result::Result<u64, Fate>;

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) profile: Profile,
    dice: Dice,
    /// A burst of losses is under way.
    bad: bool,
    /// The link is busy until then.
    free_us: u64,
    /// When each packet that waits or is being sent has left, and how long it is.
    waiting: VecDeque<(u64, usize)>,
    flying: VecDeque<Flying>,
    last_us: u64,
}

impl Way {
    pub(super) fn new(profile: Profile, seed: u64) -> Self {
        let (waiting, flying) = (VecDeque::new(), VecDeque::new());
        Self { profile, dice: Dice::new(seed), bad: false, free_us: 0, waiting, flying, last_us: 0 }
    }

    /// Whether the next packet is lost. The k-th packet's luck depends on k and the seed only.
    fn loses(&mut self) -> bool {
        let roll = self.dice.below(1_000_000);
        let Profile { loss_ppm, burst, .. } = self.profile;
        if burst <= 1 || loss_ppm == 0 {
            return roll < u64::from(loss_ppm);
        }
        // Gilbert and Elliott: as many losses as asked for, in bursts of this mean length.
        let leave = 1_000_000 / u64::from(burst);
        let enter = leave * u64::from(loss_ppm) / u64::from(1_000_000 - loss_ppm.min(999_999));
        self.bad = if self.bad { roll >= leave } else { roll < enter };
        self.bad
    }

    /// Takes a packet of this number in.
    pub(super) fn offer(&mut self, now_us: u64, number: usize, bytes: Vec<u8>) -> Taken {
        let (lost, jitter_us) = (self.loses(), self.dice.below(self.profile.jitter_us + 1));
        while self.waiting.front().is_some_and(|(left_us, _)| *left_us <= now_us) {
            self.waiting.pop_front();
        }
        let backlog: usize = self.waiting.iter().map(|(_, n)| n).sum();
        if backlog > 0 && backlog + bytes.len() > self.profile.queue_bytes {
            return Err(Fate::Full);
        }
        self.free_us = self.free_us.max(now_us) + self.profile.takes_us(bytes.len());
        self.waiting.push_back((self.free_us, bytes.len()));
        let lands_us = self.last_us.max(self.free_us + self.profile.delay_us + jitter_us);
        self.last_us = lands_us;
        self.flying.push_back(Flying { lands_us, lost, number, bytes });
        Ok(self.free_us)
    }

    /// When the next packet is at its end.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.flying.front().map(|f| f.lands_us)
    }

    /// The next packet that is at its end: its number, and its bytes if it has arrived.
    pub(super) fn land(&mut self, now_us: u64) -> Option<(usize, Option<Vec<u8>>)> {
        self.next_us().filter(|at_us| *at_us <= now_us)?;
        self.flying.pop_front().map(|f| (f.number, (!f.lost).then_some(f.bytes)))
    }

    /// The link breaks: everything that is under way is gone, and the queue is empty. The numbers of what is gone.
    pub(super) fn break_down(&mut self, now_us: u64) -> Vec<usize> {
        self.free_us = now_us;
        self.last_us = now_us;
        self.waiting.clear();
        self.flying.drain(..).map(|f| f.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile { rate_bytes_per_s: 1_000, queue_bytes: 250, delay_us: 50_000, jitter_us: 0, loss_ppm: 0, burst: 1 }
    }

    #[test]
    fn packets_wait_for_the_rate_then_take_the_delay_and_what_finds_no_room_is_dropped() {
        let mut way = Way::new(profile(), 1);
        assert_eq!(way.offer(0, 0, vec![0; 100]), Ok(100_000));
        assert_eq!(way.offer(0, 1, vec![1; 100]), Ok(200_000));
        assert_eq!(way.offer(0, 2, vec![2; 100]), Err(Fate::Full));
        assert_eq!(way.offer(100_000, 3, vec![3; 100]), Ok(300_000));
        assert_eq!(way.land(149_999), None);
        assert_eq!(way.land(150_000), Some((0, Some(vec![0; 100]))));
        assert_eq!((way.next_us(), way.break_down(160_000)), (Some(250_000), vec![1, 3]));
        assert_eq!((way.next_us(), way.offer(160_000, 4, vec![4; 10])), (None, Ok(170_000)));
    }

    #[test]
    fn losses_are_as_many_as_asked_for_the_same_for_the_same_seed_and_come_in_bursts_if_they_shall() {
        let lost = |burst, seed| -> Vec<bool> {
            let profile = Profile { loss_ppm: 100_000, burst, ..profile() };
            let mut way = Way::new(profile, seed);
            (0..10_000).map(|_| way.loses()).collect()
        };
        for burst in [1, 5] {
            let all = lost(burst, 7);
            assert_eq!(all, lost(burst, 7));
            assert_ne!(all, lost(burst, 8));
            let count = all.iter().filter(|l| **l).count();
            let runs = all.windows(2).filter(|w| !w[0] && w[1]).count().max(1);
            assert!((700..1_300).contains(&count), "{count}");
            assert_eq!((count + runs / 2) / runs, burst as usize, "{count} in {runs} runs");
        }
    }

    #[test]
    fn jitter_keeps_the_order() {
        let profile = Profile { jitter_us: 400_000, queue_bytes: 1 << 20, ..profile() };
        let mut way = Way::new(profile, 3);
        for n in 0..50 {
            way.offer(0, n, vec![0; 10]).unwrap();
        }
        let landed: Vec<usize> = std::iter::from_fn(|| way.land(u64::MAX).map(|(n, _)| n)).collect();
        assert_eq!(landed, (0..50).collect::<Vec<_>>());
    }
}
