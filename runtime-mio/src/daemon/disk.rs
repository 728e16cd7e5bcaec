//! The disk thread: does one job after the other, in order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use mio::Waker;
use ropeway_core::event::Chain;
use ropeway_core::node::{Completion, LogPosition, ReadRequest};
use ropeway_core::recovery::RunAt;
use ropeway_std::machine::random;
use ropeway_std::store::{Sealing, Store};

/// What the loop wants done. There is at most one group under way and one read a session, so the
/// queue is bounded by the core.
#[derive(Debug)]
pub(super) enum Job {
    Provision { segment: u64 },
    Append { at: LogPosition, bytes: Vec<u8> },
    Sync { upto: u64, runs: Vec<RunAt> },
    Read { request: ReadRequest },
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
        let thread = std::thread::spawn(move || or_abort(|| work(store, &inbox, &outbox, &waker)));
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

/// Ends the process if this panics: a hub without its disk would take connections and never acknowledge
/// anything. Whoever started it starts it again, as after a kill.
fn or_abort(f: impl FnOnce()) {
    struct Guard;

    impl Drop for Guard {
        fn drop(&mut self) {
            if std::thread::panicking() {
                std::process::abort();
            }
        }
    }

    let _guard = Guard;
    f();
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_panic_of_the_disk_thread_ends_the_process() {
        const VAR: &str = "ROPEWAY_TEST_DISK_PANIC";
        if std::env::var_os(VAR).is_some() {
            let _ = std::thread::spawn(|| super::or_abort(|| panic!("planted"))).join();
            return;
        }
        let test = "daemon::disk::tests::a_panic_of_the_disk_thread_ends_the_process";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let status = again.args(["--exact", test]).env(VAR, "1").output().unwrap().status;
        assert_eq!(status.signal(), Some(6), "{status}");
    }
}
