//! Deadlines.

use super::Node;
use crate::planted::{Bug, has, mark};
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
    /// A peer must have acknowledged the oldest batch under way by then.
    Progress,
    /// A peer is to be asked whether it is there.
    Ping,
    /// A peer must have used the credit that it was lent by then.
    Loan,
    /// Acknowledgements that waited for company must go.
    Ack,
    /// A peer must have sent the next part of a batch by then: others wait for the room.
    Part,
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
                break;
            }
            let now = self.now.at;
            if self.s(i).ack_at <= now {
                mark!("timer.ack");
                // From here on only the socket's readiness matters.
                self.s(i).ack_at = Instant(0);
                self.mark_ready(i);
            }
            let (at, reason) = self.talk(i);
            if at <= now {
                match reason {
                    Reason::Ping if has(Bug::PingUnsent) => self.s(i).last_rx = now,
                    Reason::Ping => {
                        mark!("timer.ping");
                        let s = self.s(i);
                        (s.ping_due, s.pinged) = (true, Some(now));
                        self.mark_ready(i);
                    }
                    // It is we who do not read: nothing can be said of the peer.
                    Reason::Silence if self.s(i).paused => {
                        mark!("timer.silence_while_paused");
                        self.s(i).last_rx = now;
                    }
                    Reason::Loan if self.s(i).paused || self.s(i).stalled => {
                        mark!("timer.loan_while_paused");
                        self.s(i).loan_used = now;
                    }
                    Reason::Part if self.waits_for_us(i) => {
                        mark!("timer.part_while_paused");
                        self.touch_parcels(i);
                    }
                    Reason::Part => {
                        mark!("timer.part");
                        self.give_up(i);
                    }
                    Reason::Hello => {
                        mark!("timer.hello");
                        self.give_up(i);
                    }
                    Reason::Loan => {
                        mark!("timer.loan");
                        self.give_up(i);
                    }
                    Reason::Progress => {
                        mark!("timer.progress");
                        self.give_up(i);
                    }
                    Reason::Silence | Reason::Ack => {
                        mark!("timer.silence");
                        self.give_up(i);
                    }
                }
            }
            if has(Bug::TimerNotRearmed) {
                return;
            }
            self.set_timer(i);
        }
        self.retry_parcels();
    }

    fn due(&self, i: u32) -> (Instant, Reason) {
        let (s, talk) = (&self.sessions[i as usize].0, self.talk(i));
        // An acknowledgement that is overdue waits for the socket, not for time.
        if s.ack_at != Instant(0) && s.ack_at > self.now.at && s.ack_at < talk.0 {
            (s.ack_at, Reason::Ack)
        } else {
            talk
        }
    }

    /// When the peer must have been heard, or asked, or have made progress, or have used what it was lent.
    fn talk(&self, i: u32) -> (Instant, Reason) {
        let mut talk = self.silence(i);
        if let Some(at) = self.progress(i)
            && at < talk.0
        {
            talk = (at, Reason::Progress);
        }
        if let Some(at) = self.parcel_due(i)
            && at < talk.0
        {
            talk = (at, Reason::Part);
        }
        if self.extra_holder != Some(i) || has(Bug::LoanNeverExpires) {
            return talk;
        }
        // Others wait for what it holds: a peer that asks for credit has a batch to send.
        let loan = self.sessions[i as usize].0.loan_used.after_ms(self.config.timing.silence_timeout_ms);
        if loan < talk.0 { (loan, Reason::Loan) } else { talk }
    }

    fn silence(&self, i: u32) -> (Instant, Reason) {
        let (s, t) = (&self.sessions[i as usize].0, &self.config.timing);
        match s.pinged {
            _ if !s.peer_vector_done => (s.opened.after_ms(t.hello_timeout_ms), Reason::Hello),
            None => (s.last_rx.after_ms(t.ping_after_ms), Reason::Ping),
            // From the moment when it was asked: after a long sleep the question comes late too.
            Some(asked) => {
                // The question stands in line behind what is under way, and the peer has nothing to
                // say before that is there.
                let wait = t.silence_timeout_ms.saturating_sub(t.ping_after_ms).max(1);
                let wait = wait.max(s.pace.patience_ms(s.in_flight, t.silence_timeout_ms));
                (asked.max(s.last_rx).after_ms(wait), Reason::Silence)
            }
        }
    }

    /// When the oldest batch under way must have been acknowledged: a link that carries a few bytes
    /// now and then is never silent, and of no use. What we do not read may be an acknowledgement.
    fn progress(&self, i: u32) -> Option<Instant> {
        let s = &self.sessions[i as usize].0;
        let oldest = s.flights.front().filter(|_| !s.paused)?;
        let silence_ms = self.config.timing.silence_timeout_ms;
        Some(oldest.at.after_ms(2 * silence_ms + s.pace.patience_ms(s.in_flight, silence_ms)))
    }

    pub(super) fn set_timer(&mut self, i: u32) {
        let live = self.sessions[i as usize].0.state == State::Live;
        let due = if live { self.due(i).0 } else { Instant::FAR };
        self.timers.set(i, due);
    }
}
