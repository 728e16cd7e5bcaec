//! One TLS connection without a socket: bytes of the wire in and out, plain bytes out and in.

use std::io::{self, Read, Write};
use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_core::policy::PeerIdentity;
use rustls::client::ClientConfig;
use rustls::server::ServerConfig;
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;

use super::clock::Clock;
use super::early::{Hubs, Maker, Said, UNPROVEN_MAX_BYTES, new_maker};
use super::{Inputs, Tickets, TlsOptions, client_config_with, server_config_with, tls_error, verify};
use crate::error::{Error, Result};
use crate::identity::{CertIdentity, DeploymentId, NodeIdentity};

/// Makes connections that were accepted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    deployment: DeploymentId,
    clock: Clock,
    /// Marks its tickets, if early data is taken.
    maker: Option<Maker>,
}

impl Server {
    /// A server with this identity.
    ///
    /// # Errors
    /// As [`server_config`](super::server_config).
    pub fn new(id: &NodeIdentity, options: &TlsOptions) -> Result<Self> {
        Self::with_inputs(id, options, &Inputs::default())
    }

    /// A server with this identity that takes nothing from the system. See [`Inputs`].
    ///
    /// # Errors
    /// As [`server_config`](super::server_config).
    pub fn with_inputs(id: &NodeIdentity, options: &TlsOptions, inputs: &Inputs) -> Result<Self> {
        Self::make(server_config_with(id, options, inputs, None)?, id, options.clock)
    }

    /// A server with this identity that lets its peers resume by these tickets.
    ///
    /// # Errors
    /// As [`server_config`](super::server_config).
    pub fn with_tickets(id: &NodeIdentity, options: &TlsOptions, tickets: Tickets) -> Result<Self> {
        Self::make(server_config_with(id, options, &Inputs::default(), Some(tickets))?, id, options.clock)
    }

    fn make(config: Arc<ServerConfig>, id: &NodeIdentity, clock: Clock) -> Result<Self> {
        let takes_early = config.max_early_data_size > 0;
        let maker = takes_early.then(|| new_maker(config.crypto_provider().secure_random)).transpose()?;
        Ok(Self { config, deployment: id.deployment(), clock, maker })
    }

    #[cfg(test)]
    pub(super) fn from_config(config: Arc<ServerConfig>, id: &NodeIdentity, clock: Clock) -> Self {
        Self::make(config, id, clock).unwrap()
    }

    /// A connection for a socket that was accepted.
    ///
    /// # Errors
    /// [`Code::Tls`].
    pub fn accept(&self) -> Result<Conn> {
        let mut inner = ServerConnection::new(Arc::clone(&self.config)).map_err(tls_error)?;
        if let Some(maker) = &self.maker {
            inner.set_resumption_data(maker);
        }
        let side = Side::Accepted { judge: self.clock, maker: self.maker, reads_early: false, unproven: 0 };
        Ok(Conn { inner: inner.into(), deployment: self.deployment, side, pending: Vec::new() })
    }
}

/// Makes connections to hubs, and remembers their tickets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    deployment: DeploymentId,
    hubs: Hubs,
}

impl Client {
    /// A client with this identity.
    ///
    /// # Errors
    /// As [`client_config`](super::client_config).
    pub fn new(id: &NodeIdentity, options: &TlsOptions) -> Result<Self> {
        Self::with_inputs(id, options, &Inputs::default())
    }

    /// A client with this identity that takes nothing from the system. See [`Inputs`].
    ///
    /// # Errors
    /// As [`client_config`](super::client_config).
    pub fn with_inputs(id: &NodeIdentity, options: &TlsOptions, inputs: &Inputs) -> Result<Self> {
        let config = client_config_with(id, options, inputs)?;
        Ok(Self { config, deployment: id.deployment(), hubs: Hubs::default() })
    }

    #[cfg(test)]
    pub(super) fn from_config(config: ClientConfig, id: &NodeIdentity) -> Self {
        Self { config: Arc::new(config), deployment: id.deployment(), hubs: Hubs::default() }
    }

    /// A connection for a socket to the hub at `address`. The address is not sent and not
    /// verified: tickets are kept under it.
    ///
    /// # Errors
    /// [`Code::Tls`].
    pub fn connect(&self, address: &str) -> Result<Conn> {
        let inner = ClientConnection::new(Arc::clone(&self.config), ticket_key(address)).map_err(tls_error)?;
        let side = Side::Dialled { hubs: self.hubs.clone(), address: address.to_owned(), said: None };
        Ok(Conn { inner: inner.into(), deployment: self.deployment, side, pending: Vec::new() })
    }
}

/// An address in the form of a name, which is what rustls keeps tickets under. Two addresses that
/// fall together cost a full handshake, nothing else.
fn ticket_key(address: &str) -> ServerName<'static> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = address.chars().take(60).map(plain).collect();
    let fallback = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    ServerName::try_from(format!("h{label}h")).unwrap_or(fallback)
}

/// A TLS connection of either side. Feed it with [`Conn::read_tls`] and [`Conn::process`], empty it
/// with [`Conn::write_tls`].
#[derive(Debug)]
pub struct Conn {
    inner: Connection,
    deployment: DeploymentId,
    side: Side,
    /// Plain bytes that the next ones may share a record with.
    pending: Vec<u8>,
}

/// What only one of the sides needs.
#[derive(Debug)]
enum Side {
    Dialled {
        hubs: Hubs,
        address: String,
        /// Early data, until the handshake has ended.
        said: Option<Said>,
    },
    Accepted {
        /// It judges dates again when a session is resumed.
        judge: Clock,
        maker: Option<Maker>,
        /// Whoever reads knows that what comes may be a recording.
        reads_early: bool,
        /// Bytes from the wire while the handshake went on.
        unproven: usize,
    },
}

/// Most bytes of frames that share a record. A record costs 22 bytes of its own and a packet 40, but the first frame
/// in it is read when the last one is there: at 2G that is 180 ms later.
const SHARED_MAX_BYTES: usize = 512;

impl Conn {
    /// Takes bytes of the wire from `from`, at most one read. 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of `from`; [`io::ErrorKind::Other`] while decrypted bytes wait to be read.
    pub fn read_tls(&mut self, from: &mut dyn Read) -> io::Result<usize> {
        let n = self.inner.read_tls(from)?;
        if let Side::Accepted { unproven, .. } = &mut self.side
            && self.inner.is_handshaking()
        {
            *unproven += n;
        }
        Ok(n)
    }

    /// Decrypts what was read. Returns how many plain bytes wait to be read.
    ///
    /// # Errors
    /// The peer's fault or its refusal of us, with its code. An alert may wait to be written; after
    /// that the connection is over.
    pub fn process(&mut self) -> Result<usize> {
        let state = self.inner.process_new_packets().map_err(tls_error)?;
        if matches!(self.side, Side::Accepted { maker: Some(_), unproven, .. } if unproven > UNPROVEN_MAX_BYTES)
            && self.inner.is_handshaking()
        {
            return Err(Error::new(Code::Tls, "too many bytes before the handshake was done"));
        }
        if let (Side::Dialled { said, .. }, Connection::Client(conn)) = (&mut self.side, &mut self.inner)
            && !conn.is_handshaking()
            && let Some(said) = said.take()
        {
            let rest = said.rest(conn.is_early_data_accepted());
            conn.writer().write_all(rest).map_err(|e| Error::new(Code::Tls, format!("what was said early: {e}")))?;
        }
        Ok(state.plaintext_bytes_to_read())
    }

    /// Gives bytes for the wire to `to`, one write. Whatever was written before goes with it.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_tls(&mut self, to: &mut dyn Write) -> io::Result<usize> {
        self.seal()?;
        self.inner.write_tls(to)
    }

    /// Whether it has enough for the wire that it should be written now; what waits for company is not.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.inner.wants_write()
    }

    /// Makes a record of what waits for company.
    fn seal(&mut self) -> io::Result<()> {
        // The capacity goes too: ten thousand connections have a buffer each.
        let pending = std::mem::take(&mut self.pending);
        self.put(&pending)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.side, &mut self.inner) {
            (Side::Dialled { said: Some(said), .. }, Connection::Client(conn)) => said.write(conn, bytes),
            (_, inner) => inner.writer().write_all(bytes),
        }
    }

    /// Whether it wants bytes from the wire.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.inner.wants_read()
    }

    /// Whether it has bytes for the wire.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.inner.wants_write() || !self.pending.is_empty()
    }

    /// Whether the handshake is still under way. Until it ends there is no peer.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    /// Whether the handshake used a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.inner.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes decrypted bytes. `Ok(0)` means that the peer closed properly. Before the handshake has ended there are
    /// none, but after [`Conn::early_peer`].
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there are none now; [`io::ErrorKind::UnexpectedEof`] when
    /// the stream was cut.
    pub fn read_plain(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let is_handshaking = self.inner.is_handshaking();
        if let (Side::Accepted { reads_early, .. }, Connection::Server(conn)) = (&self.side, &mut self.inner)
            && (*reads_early || !is_handshaking)
            && let Some(mut early) = conn.early_data()
            && let n @ 1.. = early.read(out)?
        {
            return Ok(n);
        }
        self.inner.reader().read(out)
    }

    /// On the dialling side, before the handshake: who is spoken to, if early data can be sent. After that,
    /// [`Conn::write_plain`] takes some, and what does not go early, or is not accepted, is sent when the handshake has
    /// ended, as if nothing had been. Whoever says something meant for this hub must see that [`Conn::peer`] is it.
    pub fn speak_early(&mut self) -> Option<PeerIdentity> {
        let (Side::Dialled { hubs, address, said }, Connection::Client(conn)) = (&mut self.side, &mut self.inner)
        else {
            return None;
        };
        let hub = hubs.get(address).filter(|_| conn.is_handshaking() && conn.early_data().is_some())?;
        *said = Some(Said::default());
        Some(hub)
    }

    /// Whether no more can be sent early: what is written waits for the end of the handshake.
    #[must_use]
    pub fn is_early_full(&self) -> bool {
        matches!(&self.side, Side::Dialled { said: Some(said), .. } if said.is_full())
    }

    /// On the accepting side, before the handshake has ended: who sends early data, by a ticket that nobody has used
    /// before. It may be a recording, but one that was never heard: whatever the peer said is its word, but whether
    /// the peer is there will only be known by the end of the handshake. After this, [`Conn::read_plain`] gives it out
    /// at once; else it does so after the handshake.
    ///
    /// # Errors
    /// As [`Conn::peer`].
    pub fn early_peer(&mut self) -> Result<Option<PeerIdentity>> {
        let (Side::Accepted { maker, reads_early, .. }, Connection::Server(conn)) = (&mut self.side, &mut self.inner)
        else {
            return Ok(None);
        };
        let is_ours = maker.is_some() && conn.received_resumption_data() == maker.as_ref().map(|m| &m[..]);
        if !is_ours || !conn.is_handshaking() || conn.early_data().is_none() {
            return Ok(None);
        }
        *reads_early = true;
        self.identify().map(Some)
    }

    /// Whether early data was sent and accepted.
    #[must_use]
    pub fn is_early_accepted(&mut self) -> bool {
        match &mut self.inner {
            Connection::Client(conn) => conn.is_early_data_accepted(),
            Connection::Server(conn) => conn.early_data().is_some(),
        }
    }

    /// Takes plain bytes for the peer, whole. Small pieces wait, so that they share a record, until there are too
    /// many for one or [`Conn::write_tls`] is called.
    ///
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] when the buffer is full.
    pub fn write_plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.len() + bytes.len() > SHARED_MAX_BYTES {
            self.seal()?;
        }
        if bytes.len() > SHARED_MAX_BYTES {
            return self.put(bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Says that nothing more will be sent (24 bytes).
    pub fn close(&mut self) {
        let _ = self.seal();
        self.inner.send_close_notify();
    }

    /// Limits, in bytes, what waits to be sent; `None` is no limit. 64 KiB at first.
    pub fn set_buffer_limit(&mut self, limit: Option<usize>) {
        self.inner.set_buffer_limit(limit);
    }

    /// Who the peer is, by its verified certificate.
    ///
    /// # Errors
    /// [`Code::State`] before the handshake has ended; on the serving side
    /// [`Code::CertificateExpired`] if a resumed session outlived its certificate.
    pub fn peer(&self) -> Result<PeerIdentity> {
        if self.inner.is_handshaking() {
            return Err(Error::new(Code::State, "the handshake has not ended"));
        }
        let peer = self.identify()?;
        if let Side::Dialled { hubs, address, .. } = &self.side {
            hubs.learn(address, peer);
        }
        Ok(peer)
    }

    #[cfg(test)]
    pub(super) fn inner(&mut self) -> &mut Connection {
        &mut self.inner
    }

    fn identify(&self) -> Result<PeerIdentity> {
        let chain = self.inner.peer_certificates().unwrap_or_default();
        let peer = verify::peer_identity(chain, self.deployment)?;
        if let Side::Accepted { judge, .. } = self.side
            && judge.now_s() > CertIdentity::of_chain(chain)?.not_after_s
        {
            return Err(Error::new(Code::CertificateExpired, format!("the certificate of {}", peer.name)));
        }
        Ok(peer)
    }
}
