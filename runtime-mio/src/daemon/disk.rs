//! The disk thread: does one job after the other, in order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use mio::Waker;
use ropeway_core::event::Chain;
use ropeway_core::node::{Completion, LogPosition, ReadRequest};
use ropeway_core::recovery::RunAt;
use ropeway_std::machine::random;
use ropeway_std::repair::Note;
use ropeway_std::store::{Sealing, Store};

/// What the loop wants done. There is at most one group under way and one read a session, so the
/// queue is bounded by the core.
#[derive(Debug)]
pub(super) enum Job {
    Provision {
        segment: u64,
    },
    Append {
        at: LogPosition,
        bytes: Vec<u8>,
    },
    Sync {
        upto: u64,
        runs: Vec<RunAt>,
    },
    Read {
        request: ReadRequest,
    },
    /// The log tells this of a damage.
    Learn {
        note: Note,
    },
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    Log(Completion),
    Read { request: ReadRequest, chain: Result<Chain, ropeway_core::code::Code>, records: Vec<u8> },
}

#[derive(Debug)]
pub(super) struct Disk {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    pub(super) fn start(store: Store, waker: Arc<Waker>) -> Disk {
        let (jobs, inbox) = channel();
        let (outbox, done) = channel();
        let thread = std::thread::spawn(move || work(store, &inbox, &outbox, &waker));
        Disk { jobs: Some(jobs), done, thread: Some(thread) }
    }

    pub(super) fn push(&self, job: Job) {
        // The thread ends only when this sender is dropped.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    pub(super) fn poll_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut store: Store, inbox: &Receiver<Job>, outbox: &Sender<Done>, waker: &Waker) {
    loop {
        // Sealing is done in small steps whenever there is no job.
        let job = match inbox.try_recv() {
            Err(TryRecvError::Empty) if store.seal(&mut random) != Sealing::Idle => continue,
            Err(TryRecvError::Empty) => inbox.recv().ok(),
            other => other.ok(),
        };
        let Some(job) = job else { return };
        let done = match job {
            Job::Provision { segment } => Done::Log(store.provision(segment)),
            Job::Append { at, bytes } => match store.append(at, &bytes) {
                Some(failed) => Done::Log(failed),
                None => continue,
            },
            Job::Sync { upto, runs } => Done::Log(store.sync(upto, &runs)),
            Job::Learn { note } => {
                store.learn(note);
                continue;
            }
            Job::Read { request } => {
                let mut records = Vec::new();
                let chain = store.read_records(&request, &mut records).map_err(|e| {
                    log::error!("{e}");
                    e.code
                });
                Done::Read { request, chain, records }
            }
        };
        if outbox.send(done).is_err() {
            return;
        }
        let _ = waker.wake();
    }
}
