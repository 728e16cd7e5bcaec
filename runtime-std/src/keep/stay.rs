//! What a session is told that shall not end by itself.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ropeway_core::node::{EndedBy, Ending, SessionStats};

use super::{Stop, TIDY_EVERY};

/// How to go on with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// As before.
    GoOn,
    /// End it when everything is acknowledged.
    Finish,
    /// End it now.
    Abort,
    /// It is time to tidy the log.
    Tidy,
}

/// What a session notes down for whoever hears of its progress.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Everything was acknowledged when it was last looked at; whoever tells of it clears it.
    pub(crate) caught_up: Cell<bool>,
    /// The handshake used a ticket.
    pub(crate) resumed: Cell<bool>,
    /// The hub has taken early data.
    pub(crate) early: Cell<bool>,
}

/// Keeps one session open until the end is asked for; learns how it ended.
#[derive(Debug)]
pub(crate) struct Stay {
    stop: Stop,
    grace: Duration,
    asked: Option<Instant>,
    aborted: bool,
    notes: Rc<Notes>,
    tidied: Instant,
    /// Everything was acknowledged at least once.
    pub(crate) was_caught_up: bool,
    /// Who ended the session, once it has ended.
    pub(crate) ended_by: Option<EndedBy>,
    /// For how long the hub wants to be left alone, in seconds.
    pub(crate) retry_after_s: u32,
}

impl Stay {
    pub(crate) fn new(stop: Stop, grace: Duration) -> Self {
        Self {
            stop,
            grace,
            asked: None,
            aborted: false,
            notes: Rc::default(),
            tidied: Instant::now(),
            was_caught_up: false,
            ended_by: None,
            retry_after_s: 0,
        }
    }

    /// What to do now. Each of `Finish` and `Abort` is said once.
    pub(crate) fn turn(&mut self) -> Turn {
        match self.asked {
            None if self.stop.is_asked() => {
                self.asked = Some(Instant::now());
                Turn::Finish
            }
            Some(since) if !self.aborted && since.elapsed() >= self.grace => {
                self.aborted = true;
                Turn::Abort
            }
            None if self.tidied.elapsed() >= TIDY_EVERY => {
                self.tidied = Instant::now();
                Turn::Tidy
            }
            _ => Turn::GoOn,
        }
    }

    /// Whether the end was asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.stop.is_asked()
    }

    /// How long a session that was asked to end may still take.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.asked.filter(|_| !self.aborted).map(|since| self.grace.saturating_sub(since.elapsed()))
    }

    /// What wakes whoever sleeps, until it has been heard.
    pub(crate) fn bell(&self) -> Option<rustix::fd::BorrowedFd<'_>> {
        self.asked.is_none().then(|| self.stop.bell())
    }

    /// Everything is acknowledged.
    pub(crate) fn tell_caught_up(&mut self) {
        self.was_caught_up = true;
        self.notes.caught_up.set(true);
    }

    /// The session has ended.
    pub(crate) fn ended(&mut self, ending: Ending, stats: &SessionStats) {
        self.ended_by = Some(ending.by);
        self.retry_after_s = stats.retry_after_s.into();
    }

    pub(crate) fn notes(&self) -> Rc<Notes> {
        Rc::clone(&self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_goes_on_until_the_end_is_asked_for_then_finishes_then_is_aborted() {
        let stop = Stop::new().unwrap();
        let mut stay = Stay::new(stop.clone(), Duration::from_secs(3600));
        assert_eq!((stay.turn(), stay.bell().is_some(), stay.left()), (Turn::GoOn, true, None));
        stop.stop();
        stop.stop();
        assert_eq!((stay.turn(), stay.bell().is_some()), (Turn::Finish, false));
        assert_eq!(stay.turn(), Turn::GoOn);
        let mut hasty = Stay::new(stop, Duration::ZERO);
        assert_eq!([(); 3].map(|()| hasty.turn()), [Turn::Finish, Turn::Abort, Turn::GoOn]);
    }
}
