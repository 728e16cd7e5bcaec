//! A socket with a meter.

use std::io::{self, IoSlice, Read, Write};

use super::meter::{Meter, Way};

/// A socket through which only so much passes as there may, and all that passes is counted.
#[derive(Debug)]
pub(crate) struct Metered<'a, S> {
    socket: &'a mut S,
    bytes: &'a mut u64,
    meter: &'a Meter,
}

impl<'a, S> Metered<'a, S> {
    /// Counts what passes through `socket` in `bytes` and in `meter`.
    pub(crate) fn new(socket: &'a mut S, bytes: &'a mut u64, meter: &'a Meter) -> Self {
        Self { socket, bytes, meter }
    }

    fn counted(&mut self, way: Way, n: usize) {
        *self.bytes += n as u64;
        self.meter.spend(way, n as u64);
    }
}

impl<S: Read> Read for Metered<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.meter.allow(Way::Down, buf.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => self.socket.read(&mut buf[..n]).inspect(|n| self.counted(Way::Down, *n)),
        }
    }
}

impl<S: Write> Write for Metered<'_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.meter.allow(Way::Up, buf.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => self.socket.write(&buf[..n]).inspect(|n| self.counted(Way::Up, *n)),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        match (self.meter.allow(Way::Up, all), bufs.iter().find(|buf| !buf.is_empty())) {
            (n, _) if n == all => self.socket.write_vectored(bufs).inspect(|n| self.counted(Way::Up, *n)),
            (_, Some(first)) => self.write(first),
            (_, None) => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
