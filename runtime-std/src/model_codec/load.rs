//! How much may be learned anew: states that are missing cost time of the one thread that serves all sessions.

use ropeway_core::time::Instant;

/// Bytes of events a second: a sixteenth of a fast core, half of a Pi's.
const PER_S: u64 = 128 << 10;
/// And so many at once: what some hundred sessions learn that begin together.
const AT_ONCE: u64 = 4 << 20;

/// What a session that was told that there will be time may want of it: the most that a peer refers to.
const PROMISE: u64 = 64 << 10;
/// A session that learns, learns soon: of what is promised, so many bytes a second are never asked for.
const LAPSE_PER_S: u64 = AT_ONCE / 10;

/// A bucket that runs out as time goes by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    level: u64,
    /// What sessions that have begun may still learn.
    promised: u64,
    at: Instant,
    is_tired: bool,
    /// No more is promised.
    rests: bool,
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
        self.run_out(now);
        self.is_tired = self.level > if self.is_tired { AT_ONCE / 2 } else { AT_ONCE };
        !self.is_tired
    }

    /// Whether a session that begins now may learn: if so, that is kept for it. Once too much was promised, not before
    /// half of it has run out.
    pub(super) fn promise(&mut self, now: Instant) -> bool {
        let has_time = self.has_time(now);
        let all = self.level + self.promised + PROMISE;
        let rested = self.rests;
        self.rests = !has_time || all > if rested { AT_ONCE / 2 } else { AT_ONCE };
        match (rested, self.rests) {
            (false, true) => log::info!("codec 3 rests: more streams at once than it has states; zstd goes on"),
            (true, false) => log::info!("codec 3 is offered again"),
            _ => {}
        }
        if !self.rests {
            self.promised += PROMISE;
        }
        !self.rests
    }

    /// A session has what it was promised, or needs nothing of it.
    pub(super) fn keep_promise(&mut self) {
        self.promised = self.promised.saturating_sub(PROMISE);
    }

    fn run_out(&mut self, now: Instant) {
        let ms = now.ms_since(self.at);
        if ms > 0 {
            self.level = self.level.saturating_sub(ms.saturating_mul(PER_S) / 1000);
            self.promised = self.promised.saturating_sub(ms.saturating_mul(LAPSE_PER_S) / 1000);
            self.at = now;
        }
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

    #[test]
    fn sessions_that_begin_together_are_promised_no_more_than_there_is_time_for() {
        let mut load = Load::default();
        let now = Instant(1_000);
        let begun = (0..256).filter(|_| load.promise(now)).count() as u64;
        assert_eq!(begun, AT_ONCE / PROMISE);
        // All of them find time, each when it comes to learn.
        for _ in 0..begun {
            assert!(load.has_time(now));
            load.add(PROMISE);
            load.keep_promise();
        }
        assert!(!load.promise(now) && !load.promise(Instant(10_000)));
        assert!(load.promise(Instant(2_000 + AT_ONCE / PER_S * 1_000)));
    }

    #[test]
    fn what_is_promised_and_not_asked_for_lapses_and_states_that_are_there_take_nothing_of_it() {
        let mut load = Load::default();
        for s in 0..1_000 {
            // Sessions with nothing new, five a second; and any number whose states are there.
            for ms in 0..5 {
                assert!(load.promise(Instant(s * 1_000 + ms * 200)));
            }
            for _ in 0..50 {
                assert!(load.promise(Instant(s * 1_000 + 800)));
                load.keep_promise();
            }
        }
    }
}
