//! How long to wait before the next try.

use std::time::Duration;

/// The hub's wish to be left alone is honoured up to here.
const WISH_MAX_MS: u64 = 3_600_000;

/// Pauses that double, with a random part, so that a thousand clinics that lost their hub at one
/// instant do not come back at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Backoff {
    /// No pause is shorter than `min_ms`, and none longer than `max_ms` unless the hub asks for it.
    pub(crate) fn new(min_ms: u64, max_ms: u64) -> Self {
        let min_ms = min_ms.max(1);
        let max_ms = max_ms.max(2 * min_ms);
        Self { min_ms, max_ms, next_ms: min_ms }
    }

    /// The link has carried something: the next loss begins with the shortest pause.
    pub(crate) fn reset(&mut self) {
        self.next_ms = self.min_ms;
    }

    /// Trying soon would be of no use.
    pub(crate) fn longest(&mut self) {
        self.next_ms = self.max_ms / 2;
    }

    /// The next pause: a base that doubles each time, and up to as much again by chance. The hub's
    /// wish comes on top of it, and up to half of that by chance: it told all its clinics the same.
    pub(crate) fn pause(&mut self, chance: u32, wish_s: u32) -> Duration {
        let base = self.next_ms.min(self.max_ms / 2);
        self.next_ms = (base * 2).min(self.max_ms / 2);
        let wish = (u64::from(wish_s) * 1000).min(WISH_MAX_MS);
        let part = ((base + wish / 2) * u64::from(chance)) >> 32;
        Duration::from_millis(base + part + wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(b: &mut Backoff, chance: u32) -> u64 {
        b.pause(chance, 0).as_millis() as u64
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_progress() {
        let mut b = Backoff::new(1000, 300_000);
        let pauses: Vec<u64> = (0..10).map(|_| ms(&mut b, 0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150].map(|s| s * 1000));
        assert_eq!(ms(&mut b, u32::MAX), 299_999);
        b.reset();
        assert_eq!(ms(&mut b, 0), 1000);
        b.longest();
        assert_eq!(ms(&mut b, 0), 150_000);
    }

    #[test]
    fn chance_spreads_a_pause_and_the_hubs_wish_comes_on_top() {
        let mut b = Backoff::new(1000, 300_000);
        assert_eq!(ms(&mut b, 1 << 31), 1500);
        assert_eq!(b.pause(0, 30), Duration::from_secs(32));
        assert_eq!(b.pause(0, u32::MAX), Duration::from_secs(3604));
        b.reset();
        assert_eq!(b.pause(1 << 31, 30), Duration::from_secs(39));
        let mut odd = Backoff::new(0, 0);
        assert_eq!((ms(&mut odd, u32::MAX), ms(&mut odd, 0)), (1, 1));
    }
}
