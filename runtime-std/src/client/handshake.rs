//! The handshake of a session's connection, and what is said before it has ended.

use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use ropeway_core::node::SessionId;
use ropeway_core::policy::{PeerIdentity, Role};

use super::{Link, SyncOptions, SyncReport, Work};
use crate::error::{Error, Result};
use crate::replica::Replica;

impl Replica {
    /// Brings a connection to where its peer is known, and begins the session with it: before that, if what it has to
    /// say can go as early data.
    pub(super) fn meet(
        &mut self,
        link: &mut Link,
        hub: &str,
        options: &SyncOptions,
        work: &mut Work<'_, impl FnMut(&SyncReport)>,
    ) -> Result<SessionId> {
        let early = self.speak_early(link, hub, work);
        let met = self.shake_hands(link, hub, options, work).and_then(|peer| match early {
            None => self.node.open(self.clock.now(), peer).map_err(|e| Error::from(e.code())),
            Some((session, before)) if before == peer => Ok(session),
            // What was said was meant for the one that was here before. It could be read only there.
            Some(_) => Err(Error::new(Code::Cut, format!("{hub} is {} now: it is called again", peer.name))),
        });
        if let (Err(_), Some((session, _))) = (&met, early) {
            self.leave(session);
        }
        met
    }

    fn speak_early<P>(
        &mut self,
        link: &mut Link,
        hub: &str,
        work: &mut Work<'_, P>,
    ) -> Option<(SessionId, PeerIdentity)> {
        let peer = link.conn.speak_early()?;
        let session = self.node.open(self.clock.now(), peer).ok()?;
        let mut out = vec![0; self.node.limits().frame_bytes + 64];
        // If the link is lost already, the handshake will hear of it.
        let _ = self.transmit(link, hub, session, &mut out, work);
        Some((session, peer))
    }

    fn shake_hands<P>(
        &mut self,
        link: &mut Link,
        hub: &str,
        options: &SyncOptions,
        work: &mut Work<'_, P>,
    ) -> Result<PeerIdentity> {
        let deadline = Instant::now() + link.patience(Duration::from_millis(options.handshake_timeout_ms));
        while link.conn.is_handshaking() {
            link.flush(hub)?;
            if link.conn.is_handshaking() {
                self.serve_local(&mut work.local);
                link.wait(work.at_most(Some(deadline.saturating_duration_since(Instant::now()))), work.others())?;
                work.check_time(hub)?;
                if work.stay.as_ref().is_some_and(|stay| stay.is_asked()) {
                    return Err(Error::new(Code::Stopping, hub));
                }
                if Instant::now() >= deadline {
                    return Err(Error::new(Code::Timeout, format!("{hub}: no answer to the TLS handshake")));
                }
                link.fill(hub)?;
                if link.eof {
                    return Err(Error::new(Code::Cut, format!("{hub}: during the TLS handshake")));
                }
            }
        }
        let peer = link.conn.peer()?;
        if peer.role != Role::Hub {
            return Err(Error::new(Code::NotAHub, format!("{hub} is {}", peer.name)));
        }
        work.report.hub = peer.name.to_string();
        if let Some(stay) = &work.stay {
            stay.notes().resumed.set(link.conn.is_resumed());
            stay.notes().early.set(link.conn.is_early_accepted());
        }
        Ok(peer)
    }

    /// However it ended: the session must not outlive its connection, and the receipts of what was acknowledged go into
    /// the log.
    pub(super) fn leave(&mut self, session: SessionId) {
        self.node.close(self.clock.now(), session);
        while self.node.poll_event().is_some() {}
        self.book.poke();
        self.drive();
    }
}
