//! The end of a session whose budget has ended: no more batches, then what is under way is acknowledged,
//! then an ERROR says why, between two frames.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ropeway_core::id::Lane;
use ropeway_core::node::{ReadRequest, Reason, SessionId, Transmit};
use ropeway_core::time::Now;

use super::meter::Meter;
use super::socket::Metered;
use crate::replica::Replica;

/// What one event costs at most in a batch beside its payload, in bytes.
const EVENT_SLACK_BYTES: u64 = 32;
/// How long to wait for an acknowledgement that does not come.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// How long to wait until the hub has heard the farewell.
const LINGER: Duration = Duration::from_secs(10);

impl Replica {
    /// Answers a read with a batch that fits into what is left. `None`: nothing fits, and the session ends
    /// soon.
    pub(crate) fn answer_within(
        &mut self,
        meter: &Meter,
        now: Now,
        mut request: ReadRequest,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let coming = self.coming(request.session);
        let urgent = request.grant.stream().lane == Lane::Urgent;
        let room = meter.with(|m| m.room(urgent, coming))?;
        request.bytes = request.bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
        let payload = usize::try_from(room.saturating_sub(EVENT_SLACK_BYTES)).unwrap_or(usize::MAX);
        let answer = self.answer_read(now, &request, payload, out);
        let sent = self.node.stats(request.session).map_or(0, |s| s.sent);
        answer.map_err(|first| meter.with(|m| m.stop_before(first as u64 + EVENT_SLACK_BYTES, sent))).ok()
    }

    /// Ends the session once its budget has ended and everything that was sent is acknowledged.
    pub(crate) fn mind_budget(&mut self, meter: &Meter, session: SessionId) {
        let coming = self.coming(session);
        meter.with(|m| m.look(coming));
        let Some(stats) = self.node.stats(session) else { return };
        // An acknowledgement of ours that waits for company is worth the wait: else its events come again.
        let owed = self.node.poll_timeout().is_some_and(|(_, reason)| reason == Reason::Ack);
        let code = meter.with(|m| {
            let stop = m.stop.filter(|_| !m.caught_up && !m.released)?;
            let done = stats.acknowledged >= stats.sent && !owed;
            m.released = done || m.waited_in_vain(stats.acknowledged, ACK_WAIT);
            m.released.then_some(stop.code())
        });
        if let Some(code) = code {
            self.node.abort(self.clock.now(), session, code);
        }
    }

    /// Whether urgent events of this node wait for a hub.
    pub(crate) fn is_urgent(&self) -> bool {
        self.frontier().any(|e| e.own && e.key.lane == Lane::Urgent && e.top > e.acked)
    }

    /// What the hub may have sent on credit before it hears anything of us, in bytes: nothing as long as it
    /// has not sent anything.
    fn coming(&self, session: SessionId) -> u64 {
        let receives = self.node.stats(session).is_some_and(|s| s.received > 0);
        if receives { self.node.limits().credit_bytes as u64 } else { 0 }
    }
}

impl Meter {
    /// After a farewell: waits until the hub has heard it and closes too. What comes meanwhile was paid for
    /// and is counted. If the socket were closed with bytes in it that nobody has read, the system would take
    /// back what the hub has not read.
    pub(crate) fn linger(&self, socket: &mut TcpStream, bytes: &mut u64) {
        if !self.with(|m| m.released) {
            return;
        }
        let ready = socket
            .shutdown(Shutdown::Write)
            .and_then(|()| socket.set_nonblocking(false))
            .and_then(|()| socket.set_read_timeout(Some(LINGER)));
        let (start, mut piece) = (Instant::now(), [0; 4096]);
        while ready.is_ok() && start.elapsed() < LINGER {
            if !matches!(Metered::new(socket, bytes, self).read(&mut piece), Ok(1..)) {
                break;
            }
        }
    }
}
