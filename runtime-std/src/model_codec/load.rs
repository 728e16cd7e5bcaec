//! How much may be learned anew: states that are missing cost time of the one thread that serves all sessions.

use ropeway_core::time::Instant;

/// Bytes of events a second: a sixteenth of a fast core, half of a Pi's.
const PER_S: u64 = 128 << 10;
/// And so many at once: what some hundred sessions learn that begin together.
const AT_ONCE: u64 = 4 << 20;

/// A bucket that runs out as time goes by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    level: u64,
    at: Instant,
    is_tired: bool,
    learned: u64,
}

impl Load {
    /// So many bytes were learned.
    pub(super) fn add(&mut self, bytes: u64) {
        self.level += bytes;
        self.learned += bytes;
    }

    /// Of all times.
    pub(super) fn learned(&self) -> u64 {
        self.learned
    }

    /// Whether more may be learned now. Once it was too much, not before half of it has run out.
    pub(super) fn has_time(&mut self, now: Instant) -> bool {
        let out = now.ms_since(self.at).saturating_mul(PER_S) / 1000;
        if out > 0 {
            self.level = self.level.saturating_sub(out);
            self.at = now;
        }
        let was_tired = self.is_tired;
        self.is_tired = self.level > if was_tired { AT_ONCE / 2 } else { AT_ONCE };
        match (was_tired, self.is_tired) {
            (false, true) => log::info!("codec 3 rests: more streams at once than it has states; zstd goes on"),
            (true, false) => log::info!("codec 3 is offered again"),
            _ => {}
        }
        !self.is_tired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_learned_too_much_rests_until_half_of_it_is_forgotten() {
        let mut load = Load::default();
        assert!(load.has_time(Instant(1_000)));
        load.add(AT_ONCE);
        assert!(load.has_time(Instant(1_000)), "it may be used up");
        load.add(PER_S);
        assert!(!load.has_time(Instant(1_000)) && !load.has_time(Instant(2_000)));
        let half_s = AT_ONCE / 2 / PER_S;
        assert!(!load.has_time(Instant(1_000 + half_s * 1_000)));
        assert!(load.has_time(Instant(2_000 + half_s * 1_000)));
        // A steady load below the rate is never too much, however often it asks.
        for ms in 0..200_000 {
            load.add(PER_S / 1_001);
            assert!(load.has_time(Instant(30_000 + ms)));
        }
        assert!(load.learned() > 6 * AT_ONCE);
    }
}
