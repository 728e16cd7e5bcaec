//! A small deployment in a temporary directory: a hub that is served in a thread, and clinics.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

pub mod hostile;
pub mod logged;
pub mod middlebox;
pub mod mounts;
pub mod numbered;
pub mod process;
pub mod recorder;
pub mod spec;
pub mod strace;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName};
use ropeway_core::limits::Timing;
use ropeway_core::policy::{Policy, Role};
use ropeway_mio::daemon::{Daemon, DaemonOptions, Stopper};
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::store::Stop;
use ropeway_std::tls::Clock;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, LogView, Options, Replica, keygen};

/// A hub's directory, clinics' directories beside it, all signed.
pub struct Deployment {
    root: tempfile::TempDir,
}

/// A hub being served.
pub struct Serving {
    /// Where.
    pub address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node's name.
#[must_use]
pub fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

impl Deployment {
    /// A hub and these clinics.
    #[must_use]
    pub fn new(clinics: &[&str]) -> Self {
        Self::new_in(tempfile::tempdir().unwrap(), clinics)
    }

    /// As [`Deployment::new`], in this folder.
    #[must_use]
    pub fn new_in(root: tempfile::TempDir, clinics: &[&str]) -> Self {
        let d = Self { root };
        keygen::init_hub(&d.hub(), name("hub"), Clock::System).unwrap();
        for c in clinics {
            d.enroll(c, Role::Clinic);
        }
        d
    }

    /// Adds a node.
    pub fn enroll(&self, node: &str, role: Role) {
        let dir = self.dir(node);
        keygen::init_node(&dir, name(node)).unwrap();
        sign(&dir.node_csr(), &self.hub(), &SignOptions { role, ..SignOptions::default() }).unwrap();
    }

    /// The directory that holds all.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A node's path.
    #[must_use]
    pub fn path(&self, node: &str) -> PathBuf {
        self.root.path().join(node)
    }

    /// A node's directory.
    #[must_use]
    pub fn dir(&self, node: &str) -> DataDir {
        DataDir::new(self.path(node))
    }

    /// The hub's directory.
    #[must_use]
    pub fn hub(&self) -> DataDir {
        self.dir("hub")
    }

    /// Serves the hub until the result is dropped.
    #[must_use]
    pub fn serve(&self, policy: Policy) -> Serving {
        self.serve_with(policy, Timing::default())
    }

    /// As [`Deployment::serve`], with other deadlines.
    #[must_use]
    pub fn serve_with(&self, policy: Policy, timing: Timing) -> Serving {
        let bind = "127.0.0.1:0".parse().unwrap();
        // Half a minute by default; tests of strangers wait for less.
        let handshake_timeout = Duration::from_millis(timing.hello_timeout_ms.min(30_000));
        self.serve_as(DaemonOptions { policy, timing, handshake_timeout, ..DaemonOptions::new(bind) })
    }

    /// As [`Deployment::serve`], with everything said.
    #[must_use]
    pub fn serve_as(&self, options: DaemonOptions) -> Serving {
        let daemon = unlocked(|| Daemon::bind(self.hub(), options));
        let (address, stopper) = (daemon.local_addr(), daemon.stopper());
        let thread = std::thread::spawn(move || daemon.run().unwrap());
        Serving { address, stopper, thread: Some(thread) }
    }

    /// A node, opened.
    #[must_use]
    pub fn open(&self, node: &str) -> Replica {
        unlocked(|| Replica::open(self.dir(node), Options::default()))
    }

    /// Appends these payloads and commits.
    pub fn push<P: AsRef<[u8]>>(&self, node: &str, payloads: impl IntoIterator<Item = P>) {
        let mut replica = self.open(node);
        for p in payloads {
            replica.append(Lane::Normal, 0, p.as_ref()).unwrap();
        }
        replica.commit().unwrap();
    }

    /// The payloads that `at` holds of the node `of`, in order.
    #[must_use]
    pub fn payloads(&self, at: &str, of: &str) -> Vec<Vec<u8>> {
        let mut view = LogView::open(&self.dir(at)).unwrap();
        let mut all = Vec::new();
        let filter = Filter { node: Some(name(of)), ..Filter::default() };
        let missing = view
            .read(&filter, 1, |_, _, e| {
                all.push(e.payload.to_vec());
                Stop::No
            })
            .unwrap();
        assert!(missing.is_empty(), "{missing:?}");
        all
    }
}

/// What is opened under a directory's lock. Another test of this process may be starting a program just
/// now: until its `exec`, the child holds a copy of every lock.
fn unlocked<T: std::fmt::Debug>(mut open: impl FnMut() -> ropeway_std::Result<T>) -> T {
    for _ in 0..200 {
        match open() {
            Err(e) if e.code == Code::Locked => std::thread::sleep(Duration::from_millis(10)),
            other => return other.unwrap(),
        }
    }
    panic!("it stays locked");
}

/// SplitMix64: the same numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }
}

/// This many different payloads of `len` bytes that no codec can make shorter.
#[must_use]
pub fn noise(seed: u64, count: usize, len: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (0..len).map(|_| random.any() as u8).collect()).collect()
}

/// Whether the tests are to try everything, however long that takes: `ROPEWAY_LONG=1`.
#[must_use]
pub fn long() -> bool {
    std::env::var_os("ROPEWAY_LONG").is_some_and(|v| v != "0")
}
