//! Taking events from other processes while a sync holds the directory: a nurse registers patients
//! also during the minutes in which a 2G link is busy, or while a clinic's daemon holds it for good.
//!
//! The process that holds the lock listens on a socket in the data directory; who may open the
//! directory may push. A pusher sends events (lane, kind, 0, length, payload), ends its half of the
//! connection, and hears one line of JSON once everything is durable.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use serde::{Deserialize, Serialize};

use crate::dir::DataDir;
use crate::error::{Error, Result};
use crate::replica::Replica;

const HEAD_BYTES: usize = 8;
/// Pushers at once; more wait in the listener's queue.
const PUSHERS_MAX: usize = 16;
/// How long a pusher waits for the answer: a disk may be slow, a dead process never answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of the events of one pusher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Events taken, all durable.
    pub events: u64,
    /// Seq of the first and the last one in this node's streams.
    pub first_seq: Option<u64>,
    /// See `first_seq`.
    pub last_seq: Option<u64>,
    /// Why no more were taken: number of a code, and the context.
    pub error: Option<(u16, String)>,
}

fn path(dir: &DataDir) -> PathBuf {
    dir.root().join("ropeway.sock")
}

/// The listening side. Its socket file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct LocalServer {
    listener: UnixListener,
    path: PathBuf,
    pushers: Vec<Pusher>,
}

#[derive(Debug)]
struct Pusher {
    stream: UnixStream,
    buf: Vec<u8>,
    taken: Taken,
    done: bool,
}

impl LocalServer {
    /// Listens in `dir`, whose lock the caller holds: a socket file that is there is a leftover.
    /// `None` if the file system has no sockets: pushers then wait for the lock.
    pub(crate) fn listen(dir: &DataDir) -> Option<Self> {
        let path = path(dir);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).and_then(|l| l.set_nonblocking(true).map(|()| l));
        match listener {
            Ok(listener) => Some(Self { listener, path, pushers: Vec::new() }),
            Err(e) => {
                log::warn!("{} {}: {e}; pushes wait until this is done", Code::Io, path.display());
                None
            }
        }
    }

    /// What to wait for.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = rustix::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        // Those who wait to be let in are no news while all places are taken.
        let listener = (self.pushers.len() < PUSHERS_MAX).then(|| self.listener.as_fd());
        listener.into_iter().chain(self.pushers.iter().map(|p| p.stream.as_fd()))
    }

    /// Takes what pushers have sent. Never waits for one of them.
    pub(crate) fn serve(&mut self, replica: &mut Replica) {
        while self.pushers.len() < PUSHERS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                self.pushers.push(Pusher { stream, buf: Vec::new(), taken: Taken::default(), done: false });
            }
        }
        for p in &mut self.pushers {
            p.serve(replica);
        }
        self.pushers.retain(|p| !p.done);
    }

    /// Answers those who are still in the middle of it: the lock is given back, and they can go on
    /// without us.
    pub(crate) fn end(mut self, replica: &mut Replica) {
        self.serve(replica);
        for p in &mut self.pushers {
            p.taken.error = Some((Code::Busy.as_u16(), "the sync has ended; push the rest again".to_owned()));
            p.answer(replica);
        }
    }

    /// True while a pusher is in the middle of it.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pushers.is_empty()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Pusher {
    fn serve(&mut self, replica: &mut Replica) {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return self.answer(replica),
                Ok(n) => {
                    self.buf.extend_from_slice(&piece[..n]);
                    if let Err(e) = self.take(replica) {
                        self.taken.error = Some((e.code.as_u16(), e.context));
                        return self.answer(replica);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // It is gone without an answer: what came whole is kept, as after a crash.
                    self.done = true;
                    return;
                }
            }
        }
    }

    /// Appends the whole events in the buffer.
    fn take(&mut self, replica: &mut Replica) -> Result<()> {
        let mut at = 0;
        while let Some((head, rest)) = self.buf[at..].split_first_chunk::<HEAD_BYTES>() {
            let [lane, kind_lo, kind_hi, zero, len @ ..] = *head;
            let len = u32::from_le_bytes(len) as usize;
            let max = replica.node.limits().event_bytes;
            if len > max {
                return Err(Error::new(Code::TooLarge, format!("{len} bytes; the limit is {max}")));
            }
            let lane = Lane::from_u8(lane).ok().filter(|_| zero == 0).ok_or(Code::Malformed)?;
            let Some(payload) = rest.get(..len) else { break };
            let seq = replica.append(lane, u16::from_le_bytes([kind_lo, kind_hi]), payload)?;
            self.taken.events += 1;
            self.taken.first_seq.get_or_insert(seq);
            self.taken.last_seq = Some(seq);
            at += HEAD_BYTES + len;
        }
        self.buf.drain(..at);
        Ok(())
    }

    /// Commits, then says so: the answer is a promise.
    fn answer(&mut self, replica: &mut Replica) {
        self.done = true;
        if let Err(e) = replica.commit() {
            self.taken.error = Some((e.code.as_u16(), e.context));
        }
        let Ok(mut line) = serde_json::to_vec(&self.taken) else { return };
        line.push(b'\n');
        // It fits into the socket's buffer; whoever does not read it does not want to know.
        let _ = self.stream.write_all(&line);
    }
}

/// The pushing side, for when the directory is locked by a process that listens.
#[derive(Debug)]
pub struct LocalPush {
    out: BufWriter<UnixStream>,
}

impl LocalPush {
    /// Connects to the process that works on `dir`; `None` if none listens.
    #[must_use]
    pub fn connect(dir: &DataDir) -> Option<Self> {
        let stream = UnixStream::connect(path(dir)).ok()?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).ok()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
        Some(Self { out: BufWriter::new(stream) })
    }

    /// Sends one event. It is not durable before [`finish`](LocalPush::finish) has said so.
    ///
    /// # Errors
    /// [`Code::Io`] if the other process has stopped listening; `finish` then says why.
    pub fn push(&mut self, lane: Lane, kind: u16, payload: &[u8]) -> Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| Code::TooLarge)?;
        let [kind_lo, kind_hi] = kind.to_le_bytes();
        let mut send =
            |bytes: &[u8]| self.out.write_all(bytes).map_err(|e| Error::io("pushing to the running sync", e));
        send(&[lane as u8, kind_lo, kind_hi, 0])?;
        send(&len.to_le_bytes())?;
        send(payload)
    }

    /// Sends what is buffered; the other process commits it soon, but says nothing yet.
    ///
    /// # Errors
    /// As [`push`](LocalPush::push).
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| Error::io("pushing to the running sync", e))
    }

    /// Waits until everything sent is durable.
    ///
    /// # Errors
    /// [`Code::Io`] if the other process ended without an answer: the events may or may not be in
    /// the log.
    pub fn finish(mut self) -> Result<Taken> {
        let said = |e| Error::io("the running sync did not answer; the events may or may not be in the log", e);
        // If it has stopped reading, the answer says why.
        let _ = self.out.flush();
        let stream = self.out.get_ref();
        let _ = stream.shutdown(Shutdown::Write);
        let mut line = String::new();
        BufReader::new(stream.take(64 << 10)).read_to_string(&mut line).map_err(said)?;
        serde_json::from_str(&line).map_err(|_| said(io::ErrorKind::UnexpectedEof.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen::init_node;
    use crate::replica::Options;
    use ropeway_core::id::NodeName;

    fn node() -> (tempfile::TempDir, DataDir, Replica) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("a"));
        init_node(&dir, NodeName::new("a").unwrap()).unwrap();
        let replica = Replica::open(dir.clone(), Options::default()).unwrap();
        (tmp, dir, replica)
    }

    fn push(dir: &DataDir, payloads: Vec<Vec<u8>>) -> std::thread::JoinHandle<Result<Taken>> {
        let mut push = LocalPush::connect(dir).unwrap();
        std::thread::spawn(move || {
            for p in payloads {
                if push.push(Lane::Normal, 7, &p).is_err() {
                    break;
                }
            }
            push.finish()
        })
    }

    #[test]
    fn events_of_another_process_are_durable_when_it_hears_so() {
        let (_tmp, dir, mut replica) = node();
        assert!(LocalPush::connect(&dir).is_none(), "nobody listens yet");
        let mut server = LocalServer::listen(&dir).unwrap();
        let payloads: Vec<_> = (0..300u32).map(|i| vec![i as u8; (i * 37 % 5000) as usize]).collect();
        let pusher = push(&dir, payloads.clone());
        while !pusher.is_finished() {
            server.serve(&mut replica);
        }
        let taken = pusher.join().unwrap().unwrap();
        assert_eq!(taken, Taken { events: 300, first_seq: Some(1), last_seq: Some(300), error: None });
        drop(replica);
        let mut got = Vec::new();
        Replica::open(dir.clone(), Options::default())
            .unwrap()
            .read(1, |_, _, e| got.push(e.payload.to_vec()))
            .unwrap();
        assert_eq!(got, payloads);
        drop(server);
        assert!(!path(&dir).exists());
    }

    #[test]
    fn a_bad_event_is_refused_with_its_code_and_what_came_before_is_kept() {
        let (_tmp, dir, mut replica) = node();
        let mut server = LocalServer::listen(&dir).unwrap();
        let pusher = push(&dir, vec![b"good".to_vec(), vec![0; 300 << 10], b"never".to_vec()]);
        while !pusher.is_finished() {
            server.serve(&mut replica);
        }
        let taken = pusher.join().unwrap().unwrap();
        assert_eq!((taken.events, taken.error.map(|e| e.0)), (1, Some(311)));
    }
}
