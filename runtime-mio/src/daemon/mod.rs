//! The daemon: one event loop for all sockets, one thread for the disk.
//!
//! The loop never blocks on a file and the disk thread never touches a socket; between them go
//! jobs and completions. All decisions are the core's: see `ropeway_core::node`.

mod accept;
mod conn;
mod disk;
mod run;
mod scrub;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};
use ropeway_core::accept::{Acceptance, AcceptanceRef};
use ropeway_core::code::Code;
use ropeway_core::limits::{Limits, Timing};
use ropeway_core::node::Node;
use ropeway_core::policy::{Policy, Role};
use ropeway_std::fetch::Asks;
use ropeway_std::machine::SystemClock;
use ropeway_std::repair::Book;
use ropeway_std::replica::{Prepared, identity, prepare};
use ropeway_std::retain::Keeper;
use ropeway_std::scrub::ScrubRate;
use ropeway_std::tls::{Server, Tickets, TlsOptions};
use ropeway_std::{DataDir, DirLock, Error, Options, Result};

use conn::Conn;
use disk::Disk;
use scrub::Scrubber;

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct DaemonOptions {
    /// Address to listen on; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What clinics may read.
    pub policy: Policy,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Durations of a session.
    pub timing: Timing,
    /// How long a stranger may take to finish the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long sessions may take to end when the daemon is stopped.
    pub grace: Duration,
    /// How fast the log is read to find rot.
    pub scrub: ScrubRate,
    /// See [`Options::model_states`].
    pub model_states: usize,
    /// Whether early data is taken, see [`TlsOptions::early_data`].
    pub early_data: bool,
    /// See [`Options::accept_bytes`].
    pub accept_bytes: usize,
}

impl DaemonOptions {
    /// Serves on `bind` with everything else as a hub in the field wants it.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            policy: Policy::Own,
            max_sessions: 256,
            // A clinic asks after 20 s; a hub that asked then too would cost as much again.
            timing: Timing { ping_after_ms: 30_000, ..Timing::default() },
            handshake_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            scrub: ScrubRate::Monthly,
            model_states: MODEL_STATES,
            early_data: false,
            accept_bytes: 0,
        }
    }
}

/// 16 MB of them: clinics that send at the same time have one each.
const MODEL_STATES: usize = 5;
/// Sockets that may be open before their peer is known.
const STRANGERS_MAX: usize = 1024;
/// Bytes that a stranger may send before the handshake is done.
const HANDSHAKE_MAX_BYTES: u64 = 16 << 10;

/// Clinics that may resume at once; about 600 bytes each.
const TICKETS_MAX: usize = 10_000;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONN: usize = 2;

/// Stops a daemon from another thread or a signal handler's thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Asks for a graceful stop: peers are told, what is in flight becomes durable.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
    }
}

/// A hub at work.
pub struct Daemon {
    options: DaemonOptions,
    poll: Poll,
    listener: Option<TcpListener>,
    address: SocketAddr,
    server: Server,
    node: Node<'static>,
    disk: Disk,
    /// Damages that are open.
    book: Book,
    asks: Asks,
    clock: SystemClock,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Which connection a session has, by the session's index.
    of_session: Vec<usize>,
    /// Connections that may have more to read than one turn allowed.
    unread: Vec<usize>,
    strangers: usize,
    out: Vec<u8>,
    plain: Vec<u8>,
    stop: Stopper,
    stopping: Option<Instant>,
    swept: Instant,
    _lock: DirLock,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Opens the hub's directory and its port. Nothing is accepted before [`Daemon::run`].
    ///
    /// # Errors
    /// [`Code::NotAHub`] if the directory's certificate is a clinic's, [`Code::Locked`],
    /// [`Code::Address`], and those of [`ropeway_std::Replica::open`].
    pub fn bind(dir: DataDir, options: DaemonOptions) -> Result<Daemon> {
        dir.node()?;
        let lock = DirLock::acquire(&dir)?;
        let (id, file) = identity(&dir)?;
        if id.role() != Role::Hub {
            return Err(Error::new(Code::NotAHub, format!("{} has a clinic certificate", file.name)));
        }
        let limits = Limits::hub(options.max_sessions);
        let DaemonOptions { timing, policy, model_states, accept_bytes, .. } = options;
        let node_options = Options { limits, timing, policy, model_states, accept_bytes, ..Options::default() };
        let Prepared { setup, recovered, mut store, book, .. } = prepare(&dir, &file, &node_options)?;
        let clock = SystemClock::default();
        let tickets = Tickets::open(&dir, &id, &setup.key.1, TICKETS_MAX, TlsOptions::default().clock);
        let mut node = Node::new(setup, recovered, clock.now())?;
        let asks = Asks::begin(&dir, &mut node, &mut store, clock.now());
        let poll = Poll::new().map_err(|e| Error::io("poll", e))?;
        let bind = |e| Error::new(Code::Address, format!("{}: {e}", options.bind));
        let mut listener = TcpListener::bind(options.bind).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(bind)?;
        let keeper = Keeper::new(&dir, file.name, file.role);
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(|e| Error::io("waker", e))?);
        let tls = TlsOptions { early_data: options.early_data, ..TlsOptions::default() };
        Ok(Daemon {
            options,
            poll,
            listener: Some(listener),
            address,
            server: Server::with_tickets(&id, &tls, tickets.clone())?,
            disk: Disk::start(store, keeper, Scrubber::new(dir, options.scrub), tickets, Arc::clone(&waker)),
            out: vec![0; limits.frame_bytes + 64],
            plain: vec![0; 16 << 10],
            node,
            book,
            asks,
            clock,
            conns: Vec::new(),
            free: Vec::new(),
            of_session: vec![usize::MAX; options.max_sessions],
            unread: Vec::new(),
            strangers: 0,
            stop: Stopper { stop: Arc::new(AtomicBool::new(false)), waker },
            stopping: None,
            swept: Instant::now(),
            _lock: lock,
        })
    }

    /// From now on this rule decides which events are taken from clinics. It is asked between their frames, in the
    /// thread of all sessions.
    pub fn accept_by(&mut self, rule: Box<dyn Acceptance + Send>) {
        self.node.accept_by(AcceptanceRef::Owned(rule));
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle to stop it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }
}
