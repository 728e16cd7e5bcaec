//! Deadlines.

use super::Node;
use crate::session::State;
use crate::time::{Instant, Now};

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// A peer must have said HELLO and its vector by then.
    Hello,
    /// A peer must have said something by then.
    Silence,
    /// A peer is to be asked whether it is there.
    Ping,
    /// Acknowledgements that waited for company must go.
    Ack,
}

impl Node<'_> {
    /// When [`Node::timeout`] should be called next, and why. Later than `now` of the last call
    /// once everything has been polled.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        let (at, i) = self.timers.first()?;
        Some((at, self.due(i).1))
    }

    /// Lets time pass. Early, late and spurious calls are harmless.
    pub fn timeout(&mut self, now: Now) {
        self.at(now);
        while let Some((at, i)) = self.timers.first() {
            if at > self.now.at {
                return;
            }
            match self.due(i).1 {
                Reason::Hello | Reason::Silence => self.give_up(i),
                Reason::Ping => {
                    let s = self.s(i);
                    (s.ping_due, s.pinged) = (true, true);
                    self.mark_ready(i);
                    self.set_timer(i);
                }
                Reason::Ack => {
                    self.mark_ready(i);
                    // Named once; from here on only the socket's readiness matters.
                    self.s(i).ack_at = Instant(0);
                    self.set_timer(i);
                }
            }
        }
    }

    fn due(&self, i: u32) -> (Instant, Reason) {
        let (s, t) = (&self.sessions[i as usize].0, &self.config.timing);
        let talk = if s.peer_vector_done {
            let silence = (s.last_rx.after_ms(t.silence_timeout_ms), Reason::Silence);
            let ping = (s.last_rx.after_ms(t.ping_after_ms), Reason::Ping);
            if s.pinged { silence } else { ping }
        } else {
            (s.opened.after_ms(t.hello_timeout_ms), Reason::Hello)
        };
        // An acknowledgement that is overdue waits for the socket, not for time.
        if s.ack_at != Instant(0) && s.ack_at > self.now.at && s.ack_at < talk.0 {
            (s.ack_at, Reason::Ack)
        } else {
            talk
        }
    }

    pub(super) fn set_timer(&mut self, i: u32) {
        let live = self.sessions[i as usize].0.state == State::Live;
        let due = if live { self.due(i).0 } else { Instant::FAR };
        self.timers.set(i, due);
    }
}
