//! The disk thread: does one job after the other, in order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;
use ropeway_core::event::Chain;
use ropeway_core::node::{Completion, LogPosition, Loss, ReadRequest};
use ropeway_core::recovery::RunAt;
use ropeway_core::streams::FrontierEntry;
use ropeway_std::fetch::Asks;
use ropeway_std::machine::{SystemClock, random};
use ropeway_std::repair::Note;
use ropeway_std::retain::{Gone, Keeper};
use ropeway_std::store::{Damage, Sealing, Store};
use ropeway_std::tls::Tickets;

use super::scrub::Scrubber;

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
    /// Some of what was asked for has come: the rest is still asked for.
    Ask {
        left: Asks,
    },
    /// What have these damages cost, of these streams?
    Assess {
        found: Vec<(Damage, [u8; 32])>,
        streams: Vec<(u32, FrontierEntry)>,
    },
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    Log(Completion),
    Read {
        request: ReadRequest,
        chain: Result<Chain, ropeway_core::code::Code>,
        records: Vec<u8>,
    },
    /// The log's rule has removed these.
    Expired(Gone),
    /// Damaged pages, with the digests of what stands there.
    Found {
        found: Vec<(Damage, [u8; 32])>,
    },
    /// What one of them has cost, as far as that can be told.
    Cost {
        damage: Damage,
        digest: [u8; 32],
        cost: Option<Vec<Loss>>,
    },
}

#[derive(Debug)]
pub(super) struct Disk {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    pub(super) fn start(
        mut store: Store,
        keeper: Keeper,
        scrubber: Scrubber,
        tickets: Tickets,
        waker: Arc<Waker>,
    ) -> Disk {
        let (jobs, inbox) = channel();
        let (outbox, done) = channel();
        scrubber.begin(&mut store);
        let work = move || {
            work(store, keeper, scrubber, &tickets, &inbox, &outbox, &waker);
            tickets.write_or_tell();
        };
        let thread = std::thread::spawn(move || or_abort(work));
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

fn work(
    mut store: Store,
    mut keeper: Keeper,
    mut scrubber: Scrubber,
    tickets: &Tickets,
    inbox: &Receiver<Job>,
    outbox: &Sender<Done>,
    waker: &Waker,
) {
    let clock = SystemClock::default();
    keeper.wake();
    loop {
        // Sealing, removing and scrubbing are done in small steps whenever there is no job.
        let job = match inbox.try_recv() {
            Err(TryRecvError::Empty) => match tidy(&mut store, &mut keeper, &clock) {
                Tidied::Some(gone) if gone.is_empty() => continue,
                Tidied::Some(gone) => {
                    if outbox.send(Done::Expired(gone)).is_err() {
                        return;
                    }
                    let _ = waker.wake();
                    continue;
                }
                Tidied::All => {
                    tickets.write_if_due();
                    let scrub = scrubber.wait(&store).unwrap_or(Duration::MAX);
                    match inbox.recv_timeout(scrub.min(keeper.wait()).min(tickets.wait())) {
                        Err(RecvTimeoutError::Timeout) => {
                            let is_due = scrubber.wait(&store).is_some_and(|time| time.is_zero());
                            if is_due && let Some(found) = scrubber.step(&mut store) {
                                let _ = outbox.send(Done::Found { found });
                                let _ = waker.wake();
                            }
                            continue;
                        }
                        other => other.ok(),
                    }
                }
            },
            other => other.ok(),
        };
        let Some(job) = job else { return };
        let done = match job {
            Job::Assess { found, streams } => {
                for (damage, digest) in found {
                    let cost = store.cost_of(&damage, &streams);
                    if outbox.send(Done::Cost { damage, digest, cost }).is_err() {
                        return;
                    }
                }
                let _ = waker.wake();
                continue;
            }
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
            Job::Ask { left } => {
                left.save_or_tell();
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

enum Tidied {
    /// There is more, or this is gone.
    Some(Gone),
    /// Nothing is left to be done for a while.
    All,
}

/// One step of what is done when nothing else is to be done.
fn tidy(store: &mut Store, keeper: &mut Keeper, clock: &SystemClock) -> Tidied {
    match store.seal(&mut random) {
        Sealing::Idle => {}
        Sealing::Sealed(_) => {
            keeper.wake();
            return Tidied::Some(Gone::new());
        }
        _ => return Tidied::Some(Gone::new()),
    }
    match keeper.step(store, clock.now().wall_ms) {
        gone if gone.is_empty() => Tidied::All,
        gone => Tidied::Some(gone),
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
