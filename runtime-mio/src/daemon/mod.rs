//! The daemon: one event loop for all sockets, one thread for the disk.

use std::net::SocketAddr;
use std::time::Duration;

use ropeway_core::policy::Policy;
use ropeway_core::limits::Timing;
use ropeway_std::{DataDir, Result};

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
    /// How long sessions may take to end when the daemon is stopped.
    pub grace: Duration,
}
