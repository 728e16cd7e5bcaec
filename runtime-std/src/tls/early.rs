//! Early data: what a client says before the handshake has ended (docs/decisions/0018-early-data-as-an-option.md).
//!
//! Whoever records it can send it once more, though not read it and not go on. So a server says whose it is only
//! where it can come but once: rustls takes it only with a ticket that was not used yet, and such a ticket must have
//! been made by this very [`Server`](super::Server). What a file has brought back may have been used before a crash.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ropeway_core::policy::PeerIdentity;
use rustls::ClientConnection;
use rustls::crypto::SecureRandom;

use super::{CLIENT_TICKETS, tls_error};
use crate::error::Result;

/// What rustls may take or skip of early data. Not a limit of memory, that is [`UNPROVEN_MAX_BYTES`]: each time that
/// bytes come, rustls counts all over again what it has skipped before.
pub(super) const SKIPPED_MAX_BYTES: u32 = 1 << 20;
/// What may come from the wire before the handshake has ended.
pub(super) const UNPROVEN_MAX_BYTES: usize = 16 << 10;
/// Early data that a client sends: a HELLO, a vector of some streams, and a first flight of 4096 bytes.
const SENT_MAX_BYTES: usize = 6 << 10;

/// Which [`Server`](super::Server) has made a ticket.
pub(super) type Maker = [u8; 16];

/// The mark for the tickets of a new server.
pub(super) fn new_maker(random: &dyn SecureRandom) -> Result<Maker> {
    let mut maker = Maker::default();
    random.fill(&mut maker).map_err(|e| tls_error(e.into()))?;
    Ok(maker)
}

/// Who has answered under which address: early data is for the one who gave the ticket.
#[derive(Clone, Debug, Default)]
pub(super) struct Hubs(Arc<Mutex<HashMap<String, PeerIdentity>>>);

impl Hubs {
    pub(super) fn get(&self, address: &str) -> Option<PeerIdentity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied()
    }

    pub(super) fn learn(&self, address: &str, hub: PeerIdentity) {
        let mut hubs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hubs.len() >= CLIENT_TICKETS {
            hubs.clear();
        }
        hubs.insert(address.to_owned(), hub);
    }
}

/// What a client has said before the handshake has ended: it may have to be said again.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Everything, in order.
    kept: Vec<u8>,
    /// How much of it has gone as early data.
    sent: usize,
}

impl Said {
    /// Sends what may go early; the rest waits for the end of the handshake.
    pub(super) fn write(&mut self, conn: &mut ClientConnection, bytes: &[u8]) -> io::Result<()> {
        let room = if self.is_full() { 0 } else { SENT_MAX_BYTES - self.sent };
        if let Some(mut early) = conn.early_data() {
            self.sent += early.write(&bytes[..bytes.len().min(room)])?;
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether something waits already: nothing more should be written for now.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() > self.sent || self.sent >= SENT_MAX_BYTES
    }

    /// What is to be said after the handshake.
    pub(super) fn rest(&self, accepted: bool) -> &[u8] {
        &self.kept[if accepted { self.sent } else { 0 }..]
    }
}
