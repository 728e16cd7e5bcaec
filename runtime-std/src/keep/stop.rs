//! The handle by which a node that stays connected is asked to end.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Asks a [`Replica::keep`](crate::Replica::keep) to end: from another thread, or the thread that
/// waits for signals. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    asked: AtomicBool,
    bell: UnixStream,
    heard: UnixStream,
}

impl Stop {
    /// A handle that nobody has used yet.
    ///
    /// # Errors
    /// [`Code::Io`](ropeway_core::code::Code::Io) if the process has no file descriptor left.
    pub fn new() -> Result<Self> {
        let (bell, heard) = UnixStream::pair().map_err(|e| Error::io("making a socket pair", e))?;
        Ok(Self { inner: Arc::new(Inner { asked: AtomicBool::new(false), bell, heard }) })
    }

    /// Asks for the end. Asking again changes nothing.
    pub fn stop(&self) {
        if !self.inner.asked.swap(true, Ordering::SeqCst) {
            // One byte always fits; it wakes whoever sleeps.
            let _ = (&self.inner.bell).write(&[0]);
        }
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// Readable once the end was asked for.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.inner.heard.as_fd()
    }
}
