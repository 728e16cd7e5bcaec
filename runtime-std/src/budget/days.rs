//! When a day ends, by a clock that may be wrong.
//!
//! A day is one of UTC while the wall clock shows the present day or a later one. A clock that is set
//! forward is believed: nobody can tell it from time that has passed.
//!
//! A clock that shows less (it boots in 1970, or was set back) begins no day. The present one goes on, with
//! what was used in it, until it has lasted long enough by a witness that cannot be set: 24 hours of the
//! machine running, counted from boot to boot, a boot as three hours at least ([`BOOT_S`]), since nobody
//! knows how long it was off; or until the clock itself, set back but not unset, has gone on for 24 hours.
//! So a clock that jumps gives no budget for nothing, and one that is never right still gives one in the
//! end: to a clinic without any clock that syncs once at each boot, after eight of them.
//!
//! The stamps of events are no witness: a clock that once was wrong has left them behind for good, and
//! with them every day would be over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tls::TIME_FLOOR_S;

pub(super) const DAY_S: u64 = 86_400;
/// What a boot counts at least.
const BOOT_S: u64 = 3 * 3600;

/// What the clocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Seconds since 1970 by the wall clock.
    pub(crate) wall_s: u64,
    /// Since the machine was started, sleep included.
    pub(crate) up: Duration,
}

impl Look {
    /// What they show now.
    pub(crate) fn now() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(target_os = "linux")]
        let id = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Monotonic;
        let t = clock_gettime(id);
        let up = Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32);
        let wall_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        Self { wall_s, up }
    }

    /// Whether the wall clock was ever set.
    pub(crate) fn is_set(&self) -> bool {
        self.wall_s >= TIME_FLOOR_S
    }
}

/// Which boot this is; the same empty text each time where nobody can tell.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().chars().take(64).collect()
}

/// Tells days apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Calendar {
    /// The present day, since 1970.
    pub(super) day: u64,
    /// When the clocks were looked at last: in which boot, and how long after it.
    boot: String,
    up_s: u64,
    /// The wall clock shows an earlier day.
    behind: Option<Behind>,
}

/// How long the present day has gone on since its clock was found behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Behind {
    /// Seconds that the machine has run.
    ran_s: u64,
    /// The least that the wall clock has shown, if it was set at all.
    from_wall_s: Option<u64>,
}

impl Calendar {
    /// Looks at the clocks; true if a day has begun.
    pub(super) fn look(&mut self, look: &Look, boot: &str) -> bool {
        let (up_s, wall_day) = (look.up.as_secs(), look.wall_s / DAY_S);
        let same_boot = self.boot == boot && up_s >= self.up_s;
        let ran_s = if same_boot { up_s - self.up_s } else { up_s.max(BOOT_S) };
        if !same_boot {
            boot.clone_into(&mut self.boot);
        }
        self.up_s = up_s;
        if self.day == 0 {
            self.day = look.wall_s.max(TIME_FLOOR_S) / DAY_S;
            return true;
        }
        if look.is_set() && wall_day >= self.day {
            self.behind = None;
            return std::mem::replace(&mut self.day, wall_day) != wall_day;
        }
        let behind = match &mut self.behind {
            Some(behind) => {
                behind.ran_s = behind.ran_s.saturating_add(ran_s);
                behind
            }
            // Since when it is behind nobody knows.
            none => none.insert(Behind::default()),
        };
        if look.is_set() {
            let from = behind.from_wall_s.map_or(look.wall_s, |from| from.min(look.wall_s));
            behind.from_wall_s = Some(from);
        }
        if self.behind_left_s(look) > 0 {
            return false;
        }
        self.day = if look.is_set() { wall_day } else { self.day + 1 };
        self.behind = None;
        true
    }

    /// Seconds that the present day lasts at most after `look`.
    pub(super) fn left_s(&self, look: &Look) -> u64 {
        if self.behind.is_some() {
            return self.behind_left_s(look);
        }
        (self.day + 1).saturating_mul(DAY_S).saturating_sub(look.wall_s).min(DAY_S)
    }

    fn behind_left_s(&self, look: &Look) -> u64 {
        let behind = self.behind.unwrap_or_default();
        let by_wall = behind.from_wall_s.filter(|_| look.is_set()).map_or(0, |from| look.wall_s.saturating_sub(from));
        DAY_S.saturating_sub(behind.ran_s.max(by_wall))
    }

    /// Whether the wall clock shows less than it must.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u64 = TIME_FLOOR_S / DAY_S + 300;

    /// A machine whose clocks a test moves.
    struct Machine {
        calendar: Calendar,
        look: Look,
        boot: String,
    }

    impl Machine {
        fn new() -> Self {
            let look = Look { wall_s: TODAY * DAY_S + 3600, up: Duration::from_secs(100) };
            let mut m = Self { calendar: Calendar::default(), look, boot: "a".to_owned() };
            assert!(m.look());
            assert_eq!(m.calendar.day, TODAY);
            m
        }

        fn look(&mut self) -> bool {
            // As a file keeps it between two syncs.
            let kept = serde_json::to_string(&self.calendar).unwrap();
            self.calendar = serde_json::from_str(&kept).unwrap();
            self.calendar.look(&self.look, &self.boot)
        }

        fn run(&mut self, s: u64) {
            self.look.wall_s += s;
            self.look.up += Duration::from_secs(s);
        }

        fn boot(&mut self, wall_s: u64, up_s: u64) {
            self.boot.push('b');
            self.look = Look { wall_s, up: Duration::from_secs(up_s) };
        }
    }

    #[test]
    fn with_a_clock_that_is_right_a_day_ends_at_midnight() {
        let mut m = Machine::new();
        for _ in 0..22 {
            m.run(3600);
            assert!(!m.look());
        }
        assert_eq!(m.calendar.left_s(&m.look), 3600);
        m.run(3600);
        assert!(m.look());
        assert_eq!((m.calendar.day, m.calendar.left_s(&m.look)), (TODAY + 1, DAY_S));
        m.boot((TODAY + 5) * DAY_S, 60);
        assert!(m.look() && !m.look());
    }

    #[test]
    fn a_clock_that_boots_in_1970_or_is_set_back_begins_no_day_and_neither_does_its_setting_right() {
        for wrong in [0, 1000, TIME_FLOOR_S + 5, (TODAY - 1) * DAY_S] {
            let mut m = Machine::new();
            for _ in 0..3 {
                m.boot(wrong, 30);
                assert!(!m.look(), "{wrong}");
                assert!(m.calendar.is_behind());
                m.boot(TODAY * DAY_S + 50_000, 40);
                assert!(!m.look(), "{wrong}");
            }
        }
    }

    #[test]
    fn where_the_clock_is_never_set_a_day_ends_after_24_hours_of_running() {
        let mut m = Machine::new();
        m.boot(5, 5);
        let mut hours = 0;
        while !m.look() {
            m.run(3600);
            hours += 1;
        }
        assert_eq!((hours, m.calendar.day), (24, TODAY + 1));
        // Once at each boot, a minute after it.
        let mut boots = 0;
        loop {
            m.boot(60, 60);
            if m.look() {
                break;
            }
            boots += 1;
        }
        assert_eq!(boots, 8);
        assert_eq!(m.calendar.left_s(&m.look), DAY_S);
    }

    #[test]
    fn a_clock_that_was_in_the_future_gives_one_day_and_is_followed_again_after_another() {
        let mut m = Machine::new();
        m.boot((TODAY + 4000) * DAY_S, 30);
        assert!(m.look(), "it is believed");
        m.boot(TODAY * DAY_S + 7200, 30);
        assert!(!m.look());
        // By the wall clock, though the machine was off most of the time.
        m.boot((TODAY + 1) * DAY_S + 7000, 30);
        assert!(!m.look());
        assert!(m.calendar.left_s(&m.look) <= 200);
        m.boot((TODAY + 1) * DAY_S + 7200, 30);
        assert!(m.look());
        assert_eq!((m.calendar.day, m.calendar.is_behind()), (TODAY + 1, false));
        m.boot((TODAY + 2) * DAY_S, 30);
        assert!(m.look());
    }

    #[test]
    fn a_clock_that_is_set_back_again_and_again_never_ends_a_day_by_itself() {
        let mut m = Machine::new();
        m.look.wall_s = (TODAY - 10) * DAY_S;
        for _ in 0..23 {
            assert!(!m.look());
            m.run(3600);
            m.look.wall_s -= 7200;
        }
        assert!(!m.look());
    }
}
