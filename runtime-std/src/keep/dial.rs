//! Looking up and connecting, beside a loop that must not wait.
//!
//! A look-up has no time limit of its own and cannot be called off, so it runs in a thread. A thread
//! that nobody waits for any more ends by itself: its socket is closed with it.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use ropeway_core::code::Code;

use crate::client::{Work, connect};
use crate::error::{Error, Result};

/// A connection that is being made.
pub(crate) struct Dial {
    outcome: Receiver<Result<TcpStream>>,
    /// Its other end is dropped when the outcome is there.
    done: UnixStream,
}

impl Dial {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`Code::Io`] if the system gives no thread or no sockets.
    pub(crate) fn start(hub: &str, timeout: Duration) -> Result<Self> {
        let io = |e| Error::io("connecting", e);
        let (ours, theirs) = UnixStream::pair().map_err(io)?;
        let (send, outcome) = channel();
        let hub = hub.to_owned();
        let work = move || {
            let _ = send.send(connect(&hub, timeout, &Work::new(())));
            drop(theirs);
        };
        std::thread::Builder::new().name("dial".into()).spawn(work).map_err(io)?;
        Ok(Self { outcome, done: ours })
    }

    /// The outcome, `None` while there is none.
    pub(crate) fn poll(&self) -> Option<Result<TcpStream>> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::new(Code::Unreachable, "the dialling thread ended"))),
        }
    }

    /// Readable when there is an outcome.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}
