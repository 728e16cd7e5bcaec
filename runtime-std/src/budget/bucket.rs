//! Bytes a second: a token bucket.

use std::time::Duration;

/// A piece of this size is worth waking up for, in bytes.
const PIECE_BYTES: u64 = 512;

/// Lets `rate` bytes a second through on average, and never more than one second's worth at once: over any
/// time t at most `rate * (t + 1 s)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Bytes per second.
    rate: u64,
    /// Bytes that may go now, in 2^-20 bytes: slow rates and short times lose nothing to rounding.
    level: u128,
    at: Duration,
}

const ONE: u32 = 20;

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: u64, now: Duration) -> Self {
        let rate = rate.max(1);
        Self { rate, level: u128::from(rate) << ONE, at: now }
    }

    fn fill(&mut self, now: Duration) {
        // More than a second fills it anyway.
        let passed = now.saturating_sub(self.at).min(Duration::from_secs(1));
        self.at = self.at.max(now);
        let more = ((passed.as_nanos() * u128::from(self.rate)) << ONE) / 1_000_000_000;
        self.level = (self.level + more).min(u128::from(self.rate) << ONE);
    }

    fn whole(&self) -> u64 {
        (self.level >> ONE) as u64
    }

    fn piece(&self) -> u64 {
        PIECE_BYTES.min(self.rate)
    }

    /// How many of `want` bytes may go now. None before a piece is together that is worth it.
    pub(super) fn allow(&mut self, want: u64, now: Duration) -> u64 {
        self.fill(now);
        if self.whole() < self.piece().min(want) { 0 } else { self.whole().min(want) }
    }

    /// So many went.
    pub(super) fn take(&mut self, bytes: u64) {
        self.level = self.level.saturating_sub(u128::from(bytes) << ONE);
    }

    /// How long until a piece may go; zero if one may.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        let missing = self.piece().saturating_sub(self.whole());
        Duration::from_millis((missing * 1000).div_ceil(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_goes_than_the_rate_and_one_second_of_it() {
        for rate in [256, 2_900, 1_000_000] {
            let (mut bucket, mut sent) = (Bucket::new(rate, Duration::ZERO), 0);
            let mut now = Duration::ZERO;
            for i in 0..20_000u64 {
                now += Duration::from_micros(i * 7919 % 3000);
                let n = bucket.allow(i * 31 % 4096, now);
                bucket.take(n);
                sent += n;
                assert!(sent as f64 <= rate as f64 * (now.as_secs_f64() + 1.0) + 1.0, "{sent} after {now:?}");
            }
            assert!(rate > 100_000 || sent as f64 >= rate as f64 * now.as_secs_f64() * 0.99, "{rate}: {sent}");
        }
    }

    #[test]
    fn who_waits_as_long_as_it_says_may_send_a_piece() {
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        let first = bucket.allow(5000, Duration::ZERO);
        bucket.take(first);
        assert_eq!((first, bucket.allow(1, Duration::ZERO)), (1000, 0));
        let wait = bucket.wait(Duration::ZERO);
        assert_eq!(wait, Duration::from_millis(512));
        assert_eq!(bucket.allow(5000, wait - Duration::from_millis(1)), 0, "no dribble");
        assert_eq!(bucket.allow(5000, wait), 512);
        assert_eq!(bucket.allow(30, Duration::from_millis(100)), 30, "the little there is to say goes");
        // A clock that jumps back gives nothing and takes nothing.
        assert_eq!(bucket.allow(5000, Duration::ZERO), 512);
    }
}
