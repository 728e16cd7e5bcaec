//! Counting the bytes of the wire.

use std::io::{self, IoSlice, Read, Write};

/// A socket that adds what passes to a counter.
#[derive(Debug)]
pub struct Counted<'a, S> {
    socket: &'a mut S,
    bytes: &'a mut u64,
}

impl<'a, S> Counted<'a, S> {
    /// Counts what passes through `socket` in `bytes`.
    pub fn new(socket: &'a mut S, bytes: &'a mut u64) -> Self {
        Self { socket, bytes }
    }
}

impl<S: Read> Read for Counted<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf).inspect(|n| *self.bytes += *n as u64)
    }
}

impl<S: Write> Write for Counted<'_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(buf).inspect(|n| *self.bytes += *n as u64)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write_vectored(bufs).inspect(|n| *self.bytes += *n as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
