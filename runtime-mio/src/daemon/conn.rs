//! One accepted connection.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use mio::net::TcpStream;
use ropeway_core::node::SessionId;
use ropeway_std::tls::{self, Counted};

/// A socket, its TLS state, and its session once the peer is known.
pub(super) struct Conn {
    pub(super) socket: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) tls: tls::Conn,
    pub(super) session: Option<SessionId>,
    /// Its handshake has ended. A session may begin before that, with early data.
    pub(super) proven: bool,
    pub(super) since: Instant,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Decrypted bytes that the node would not take yet.
    pub(super) held: Vec<u8>,
    pub(super) paused: bool,
    /// The socket has not taken everything.
    full: bool,
    /// Everything was said: close when the last bytes are out.
    pub(super) closing: bool,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// The socket has no more for now.
    Empty,
    /// Something came in.
    Some,
    /// The peer has closed.
    Eof,
}

impl Conn {
    pub(super) fn new(socket: TcpStream, address: SocketAddr, mut tls: tls::Conn) -> Conn {
        // What is written is bounded by one frame at a time; a smaller limit would split it.
        tls.set_buffer_limit(None);
        Conn {
            socket,
            address,
            tls,
            session: None,
            proven: false,
            since: Instant::now(),
            bytes_in: 0,
            bytes_out: 0,
            held: Vec::new(),
            paused: false,
            full: false,
            closing: false,
        }
    }

    /// Reads once from the socket.
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        let Conn { socket, tls, bytes_in, .. } = self;
        match tls.read_tls(&mut Counted::new(socket, bytes_in)) {
            Ok(0) => Ok(Fill::Eof),
            Ok(_) => Ok(Fill::Some),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Fill::Empty),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Fill::Some),
            Err(e) => Err(e),
        }
    }

    /// Whether what TLS has ready may wait for what comes next, to go out in one packet with it.
    pub(super) fn may_wait(&self) -> bool {
        self.session.is_some() && !self.full && !self.closing
    }

    /// Writes what TLS has ready until the socket takes no more; true if nothing is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        self.full = true;
        let Conn { socket, tls, bytes_out, .. } = self;
        while tls.wants_write() {
            match tls.write_tls(&mut Counted::new(socket, bytes_out)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.full = false;
        Ok(true)
    }

    /// Gives frames to TLS.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_plain(bytes)
    }

    /// The bytes that wait for the node: those held back, or else new ones from TLS, which go to
    /// `plain`.
    pub(super) fn waiting(&mut self, plain: &mut [u8]) -> Range<usize> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            plain[..held.len()].copy_from_slice(&held);
            return 0..held.len();
        }
        0..self.tls.read_plain(plain).unwrap_or(0)
    }

    /// Keeps bytes that the node would not take.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held = bytes.to_vec();
    }
}
