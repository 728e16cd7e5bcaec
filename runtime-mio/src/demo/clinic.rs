//! One clinic of a demo: its node, its events, and its way through the link.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::limits::Timing;
use ropeway_std::keygen::init_node;
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::{DataDir, Error, LogView, Options, Replica, Result, SyncOptions, SyncReport};

use super::link::{Counters, LinkCounts};
use super::progress::{ClinicProgress, State};
use super::workload::{Workload, clinic_name};

/// How long a clinic waits before it dials again, in milliseconds of link time.
const PAUSE_MS: f64 = 2_000.0;
/// It gives up after so many attempts in a row that brought nothing.
const IDLE_ATTEMPTS_MAX: u32 = 30;
/// This machine needs some time of its own, however fast the link is played: shorter patience than
/// this would take a busy processor for a dead link.
const PATIENCE_MIN_MS: u64 = 3_000;

/// All durations of a session for links that are played at this speed.
pub(super) fn timing(speed: f64) -> Timing {
    let link = Timing::default();
    Timing {
        hello_timeout_ms: scaled(link.hello_timeout_ms, speed).max(PATIENCE_MIN_MS),
        ping_after_ms: scaled(link.ping_after_ms, speed).max(PATIENCE_MIN_MS / 3),
        silence_timeout_ms: scaled(link.silence_timeout_ms, speed).max(PATIENCE_MIN_MS),
        ack_delay_ms: scaled(link.ack_delay_ms, speed),
        frame_time_ms: scaled(link.frame_time_ms, speed),
    }
}

fn scaled(link_ms: u64, speed: f64) -> u64 {
    ((link_ms as f64 / speed) as u64).max(1)
}

/// A clinic with its log open.
pub(super) struct Clinic {
    /// Which one; its name and events follow from it.
    pub(super) index: u32,
    /// How many events it appended.
    pub(super) events: u64,
    /// Where they went; `None` if there are none.
    pub(super) stream: Option<StreamKey>,
    name: NodeName,
    dir: DataDir,
    replica: Replica,
}

/// How a clinic's sync went, over all attempts.
#[derive(Debug, Default)]
pub(super) struct Journey {
    /// Events sent.
    pub(super) sent: u64,
    /// Events that the hub held when the clinic first came back after a cut.
    pub(super) resumed_at: Option<u64>,
    /// How long it took here, in seconds.
    pub(super) wall_seconds: f64,
    /// What the link counted.
    pub(super) counts: LinkCounts,
    /// Why it gave up.
    pub(super) error: Option<Error>,
}

impl Clinic {
    /// Makes the node below `root`, has it signed by `hub`, and appends its events.
    pub(super) fn prepare(
        root: &Path,
        hub: &DataDir,
        index: u32,
        events: u64,
        seed: u64,
        speed: f64,
    ) -> Result<Clinic> {
        let name = NodeName::new(&clinic_name(index))?;
        let dir = DataDir::new(root.join(name.as_str()));
        init_node(&dir, name)?;
        sign(&dir.node_csr(), hub, &SignOptions::default())?;
        let mut replica = Replica::open(dir.clone(), Options { timing: timing(speed), ..Options::default() })?;
        let mut workload = Workload::new(seed, index);
        for _ in 0..events {
            let (kind, payload) = workload.next_event();
            replica.append(Lane::Normal, kind, &payload)?;
        }
        replica.commit()?;
        let stream = replica.frontier().find(|entry| entry.own && entry.top > 0).map(|entry| entry.key);
        Ok(Clinic { index, events, stream, name, dir, replica })
    }

    /// The node's name.
    pub(super) fn name(&self) -> NodeName {
        self.name
    }

    /// Syncs through the link until the hub has everything; after a cut it dials again.
    pub(super) fn travel(
        &mut self,
        link: SocketAddr,
        counters: &Counters,
        speed: f64,
        progress: &mut ClinicProgress,
    ) -> Journey {
        let (hub, options, begin) = (link.to_string(), sync_options(speed), Instant::now());
        let pause = Duration::from_secs_f64(PAUSE_MS / 1_000.0 / speed).max(Duration::from_millis(10));
        let (mut journey, mut acknowledged, mut idle) = (Journey::default(), 0, 0);
        for attempt in 0.. {
            let before = acknowledged;
            let events = self.events;
            let outcome = self.replica.sync(&hub, &options, |report| {
                acknowledged = acknowledged.max(report.resumed_at + report.acknowledged);
                progress.update(state(attempt, report, events), acknowledged, counters.read().bytes_up);
            });
            let (report, error) = match outcome {
                Ok(report) => (report, None),
                Err(failed) => (*failed.report, Some(failed.error)),
            };
            journey.sent += report.sent;
            if attempt > 0 && journey.resumed_at.is_none() && report.sent + report.resumed_at > 0 {
                journey.resumed_at = Some(report.resumed_at);
            }
            let Some(error) = error else { break };
            idle = if acknowledged > before { 0 } else { idle + 1 };
            if !is_of_the_link(error.code) || idle >= IDLE_ATTEMPTS_MAX {
                journey.error = Some(error);
                break;
            }
            progress.update(State::LinkCut, acknowledged, counters.read().bytes_up);
            thread::sleep(pause);
        }
        journey.wall_seconds = begin.elapsed().as_secs_f64();
        journey.counts = counters.read();
        let end = if journey.error.is_none() { State::Done } else { State::Failed };
        progress.update(end, acknowledged, journey.counts.bytes_up);
        journey
    }

    /// Syncs once more, past the link, when the hub holds everything of everybody: true if the hub
    /// gave this clinic nothing of another's.
    pub(super) fn probe(&mut self, hub: SocketAddr, speed: f64) -> Result<bool> {
        let report = self.replica.sync(&hub.to_string(), &sync_options(speed), |_| ())?;
        Ok(report.received == 0 && self.replica.frontier().all(|entry| entry.key.node == self.name))
    }

    /// Closes the log and reads it again from the disk: true if it holds only this clinic's streams.
    pub(super) fn close(self) -> Result<bool> {
        drop(self.replica);
        let own = LogView::open(&self.dir)?.frontier().all(|entry| entry.key.node == self.name);
        Ok(own)
    }
}

fn sync_options(speed: f64) -> SyncOptions {
    let link = SyncOptions::default();
    let patience = |ms| scaled(ms, speed).max(PATIENCE_MIN_MS);
    SyncOptions {
        connect_timeout_ms: patience(link.connect_timeout_ms),
        handshake_timeout_ms: patience(link.handshake_timeout_ms),
        deadline_ms: None,
        ..link
    }
}

/// What a person sees of an attempt. That it resumed stays visible for a tenth of the work.
fn state(attempt: u32, report: &SyncReport, events: u64) -> State {
    match (attempt, report.resumed_at) {
        (0, _) if report.hub.is_empty() => State::Connecting,
        (0, _) => State::Sending,
        (_, 0) if report.acknowledged == 0 => State::Connecting,
        (_, at) if report.acknowledged <= events / 10 => State::Resuming(at),
        _ => State::Sending,
    }
}

/// Whether dialling again may help.
fn is_of_the_link(code: Code) -> bool {
    matches!(code, Code::Cut | Code::Unreachable | Code::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_shrink_with_speed_down_to_what_a_machine_needs() {
        let real = timing(1.0);
        assert_eq!((real.silence_timeout_ms, real.ack_delay_ms), (60_000, 250));
        let fast = timing(100.0);
        assert_eq!((fast.silence_timeout_ms, fast.ping_after_ms), (3_000, 1_000));
        assert_eq!((fast.ack_delay_ms, fast.frame_time_ms), (2, 5));
        assert_eq!(timing(0.5).silence_timeout_ms, 120_000);
        assert_eq!(sync_options(4.0).handshake_timeout_ms, 15_000);
    }

    #[test]
    fn a_person_sees_where_it_goes_on() {
        let report = |resumed_at, acknowledged| SyncReport {
            hub: "hub".into(),
            resumed_at,
            acknowledged,
            ..SyncReport::default()
        };
        assert_eq!(state(0, &SyncReport::default(), 100), State::Connecting);
        assert_eq!(state(0, &report(0, 0), 100), State::Sending);
        assert_eq!(state(1, &report(0, 0), 100), State::Connecting);
        assert_eq!(state(1, &report(51, 10), 100), State::Resuming(51));
        assert_eq!(state(1, &report(51, 11), 100), State::Sending);
    }
}
