//! Randomness and time for rustls, and one end of a TLS connection over a simulated socket.
//!
//! rustls asks for both by functions without a state, so the state of the end that is at work lies
//! in the thread while it works, and nowhere else: connections do not disturb each other's draws.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::policy::PeerIdentity;
use ropeway_std::tls::{self, Clock, Conn, Inputs, TlsOptions};
use ropeway_std::{Error, NodeIdentity};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup};
use rustls::{NamedGroup, PeerMisbehaved};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::net::{Received, Socket};

/// Plain bytes that an end keeps for its reader before it leaves the rest in the socket.
const PLAIN_MAX: usize = 16 << 10;
/// Most plain bytes that are taken at once: one record of TLS.
const WRITE_MAX: usize = 16 << 10;

/// Numbers that do not run out when the run's draws do (splitmix64): a handshake without
/// randomness is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What an end's TLS draws from and reads the time off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    draws: Draws,
    /// Virtual time.
    now_us: u64,
    /// How far its wall clock, in microseconds since 1970, is ahead of virtual time.
    wall_ahead_us: i64,
}

thread_local! {
    static AT_WORK: Cell<Option<Source>> = const { Cell::new(None) };
}

/// Looks at the source of the end that is at work.
fn at_work<T>(ask: impl FnOnce(&mut Source) -> T) -> Option<T> {
    let mut source = AT_WORK.get()?;
    let answer = ask(&mut source);
    AT_WORK.set(Some(source));
    Some(answer)
}

impl Source {
    pub(super) fn new(draws: Draws, now_us: u64, wall_s: u64) -> Self {
        let mut source = Self { draws, now_us, wall_ahead_us: 0 };
        source.set_wall(now_us, wall_s);
        source
    }

    /// Sets the wall clock.
    pub(super) fn set_wall(&mut self, now_us: u64, wall_s: u64) {
        self.wall_ahead_us = (wall_s.saturating_mul(1_000_000) as i64).saturating_sub(now_us as i64);
    }

    /// Runs `work`, whose TLS asks this source.
    fn scope<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = AT_WORK.replace(Some(*self));
        let result = work();
        if let Some(own) = AT_WORK.replace(before) {
            self.draws = own.draws;
        }
        result
    }
}

fn draw(out: &mut [u8]) -> Result<(), GetRandomFailed> {
    let fill = |source: &mut Source| {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&source.draws.next().to_le_bytes()[..part.len()]);
        }
    };
    at_work(fill).ok_or(GetRandomFailed)
}

fn steady() -> Duration {
    Duration::from_micros(at_work(|s| s.now_us).unwrap_or(0))
}

fn wall_s() -> u64 {
    at_work(|s| s.now_us.saturating_add_signed(s.wall_ahead_us) / 1_000_000).unwrap_or(0)
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        draw(out)
    }
}

#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        let mut secret = [0; 32];
        draw(&mut secret)?;
        Ok(Box::new(Exchange { secret, public: x25519(secret, X25519_BASEPOINT_BYTES) }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    secret: [u8; 32],
    public: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let peer = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = x25519(self.secret, peer);
        if shared == [0; 32] {
            // The peer's point is of small order.
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&shared[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

const INPUTS: Inputs = Inputs { secure_random: &Random, x25519: &X25519, steady };

/// What a dialling process keeps between connections: its tickets. Dies with the process.
///
/// # Errors
/// As [`tls::Client::new`].
pub(crate) fn client(id: &NodeIdentity, options: &TlsOptions) -> Result<tls::Client, Error> {
    tls::Client::with_inputs(id, &TlsOptions { clock: Clock::Custom(wall_s), ..*options }, &INPUTS)
}

/// What a serving process keeps between connections: sessions to resume. Dies with the process.
///
/// # Errors
/// As [`tls::Server::new`].
pub(crate) fn server(id: &NodeIdentity, options: &TlsOptions) -> Result<tls::Server, Error> {
    tls::Server::with_inputs(id, &TlsOptions { clock: Clock::Custom(wall_s), ..*options }, &INPUTS)
}

/// How the stream from the peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eof {
    /// The peer said that nothing follows.
    Clean,
    /// It just stopped.
    Torn,
    /// The connection went.
    Broken,
}

/// One end of a connection above its socket.
pub(super) struct End {
    conn: Conn,
    pub(super) source: Source,
    pub(super) peer: Option<PeerIdentity>,
    pub(super) resumed: bool,
    pub(super) failed: Option<Code>,
    pub(super) eof: Option<Eof>,
    pub(super) plain: Vec<u8>,
    closing: bool,
    /// Bytes of TLS given to the socket, and plain bytes taken and delivered.
    pub(super) tls_out: u64,
    pub(super) plain_out: u64,
    pub(super) plain_in: u64,
}

impl End {
    /// An end whose connection `make` makes.
    pub(super) fn new(mut source: Source, make: impl FnOnce() -> Result<Conn, Error>) -> Result<Self, Error> {
        let mut conn = source.scope(make)?;
        // As the daemon does: what waits is bounded by one write.
        conn.set_buffer_limit(None);
        Ok(Self {
            conn,
            source,
            peer: None,
            resumed: false,
            failed: None,
            eof: None,
            plain: Vec::new(),
            closing: false,
            tls_out: 0,
            plain_out: 0,
            plain_in: 0,
        })
    }

    /// Takes plain bytes, if all that it took before has gone to the socket.
    pub(super) fn write(&mut self, bytes: &[u8], socket: &mut Socket) -> usize {
        let blocked = self.peer.is_none() || self.closing || self.failed.is_some() || self.conn.wants_write();
        if blocked || bytes.is_empty() || !socket.may_send() {
            return 0;
        }
        let bytes = &bytes[..bytes.len().min(WRITE_MAX)];
        let Self { conn, source, .. } = self;
        let taken = source.scope(|| conn.write_plain(bytes)).map_or(0, |()| bytes.len());
        self.plain_out += taken as u64;
        self.flush(socket);
        taken
    }

    /// Says that nothing follows, then ends the stream.
    pub(super) fn close(&mut self, socket: &mut Socket) {
        if !self.closing {
            self.closing = true;
            let Self { conn, source, .. } = self;
            source.scope(|| conn.close());
            self.flush(socket);
        }
    }

    /// Moves bytes between TLS and the socket; whether any moved.
    pub(super) fn pump(&mut self, now_us: u64, socket: &mut Socket) -> bool {
        self.source.now_us = now_us;
        let filled = self.fill(socket);
        let flushed = self.flush(socket);
        if (self.closing || self.failed.is_some()) && !self.conn.wants_write() {
            socket.close();
        }
        filled || flushed
    }

    fn fill(&mut self, socket: &mut Socket) -> bool {
        let mut moved = false;
        // What is left in a socket that is over would go with it.
        while self.failed.is_none() && self.eof.is_none() && (self.plain.len() < PLAIN_MAX || socket.is_over()) {
            let conn = &mut self.conn;
            let end = match socket.recv(|mut bytes| conn.read_tls(&mut bytes).unwrap_or(0)) {
                Received::Bytes(0) => break,
                Received::Bytes(_) => None,
                Received::End => Some(Eof::Torn),
                Received::Broken => Some(Eof::Broken),
            };
            moved = true;
            if end.is_some() {
                // TLS judges whether anything is missing.
                let _ = conn.read_tls(&mut io::empty());
            }
            self.failed = self.process().err().map(|e| e.code);
            if self.failed.is_none() && self.eof.is_none() {
                self.eof = end;
            }
        }
        moved
    }

    fn process(&mut self) -> Result<(), Error> {
        let Self { conn, source, .. } = self;
        source.scope(|| conn.process())?;
        if self.peer.is_none() && !conn.is_handshaking() {
            self.peer = Some(source.scope(|| conn.peer())?);
            self.resumed = conn.is_resumed();
        }
        let mut piece = [0; 4096];
        loop {
            match conn.read_plain(&mut piece) {
                Ok(0) => {
                    self.eof = Some(Eof::Clean);
                    return Ok(());
                }
                Ok(n) => {
                    self.plain.extend_from_slice(&piece[..n]);
                    self.plain_in += n as u64;
                }
                // More will come, or the stream was torn.
                Err(_) => return Ok(()),
            }
        }
    }

    fn flush(&mut self, socket: &mut Socket) -> bool {
        let before = self.tls_out;
        while self.conn.wants_write() {
            let mut to = ToSocket(socket);
            match self.conn.write_tls(&mut to) {
                Ok(0) | Err(_) => break,
                Ok(n) => self.tls_out += n as u64,
            }
        }
        self.tls_out > before
    }
}

struct ToSocket<'a>(&'a mut Socket);

impl Write for ToSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.send(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
