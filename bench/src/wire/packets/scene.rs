//! A hub and a clinic as processes in namespaces of their own, with a link between them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ropeway_core::id::Lane;
use ropeway_std::store::Stop;
use ropeway_std::tls::Clock;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, LogView};
use serde_json::Value;
use tempfile::TempDir;

use super::super::host::{Host, make_clinic, make_hub};
use super::super::{NAME, fill, home};
use super::relay::{Plan, Relay};
use super::seen::HUB_PORT;
use super::space::Space;
use super::way::Profile;
use crate::Result;
use crate::corpus::Corpus;

const CLINIC: &str = "192.0.2.1";
const HUB: &str = "192.0.2.2";
/// What is given up after so long waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How often those who wait look whether the end was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Set when somebody wants it to end.
pub(super) type Asked = Arc<AtomicBool>;

/// Everything that one measurement runs in; all of it goes when it is dropped.
pub(super) struct Scene {
    asked: Asked,
    // In this order: nobody is left without the place that it is in.
    hub: Option<Process>,
    pub(super) link: Relay,
    clinic_space: Space,
    _hub_space: Space,
    pub(super) clinic_dir: DataDir,
    hub_dir: DataDir,
    _home: TempDir,
}

impl Scene {
    /// A hub at work, and a clinic that is not.
    pub(super) fn open(asked: &Asked, profile: Profile, plan: Plan, seed: u64) -> Result<Self> {
        let home = home()?;
        let hub_dir = make_hub(home.path(), Clock::System)?;
        let clinic_dir = make_clinic(home.path(), &hub_dir, NAME, Clock::System)?;
        let (clinic_space, hub_space) = (Space::new()?, Space::new()?);
        clinic_space.choose_congestion_control()?;
        hub_space.choose_congestion_control()?;
        let devices = (clinic_space.device(CLINIC, HUB)?, hub_space.device(HUB, CLINIC)?);
        let link = Relay::start(devices.0, devices.1, profile, plan, seed)?;
        let bind = format!("{HUB}:{HUB_PORT}");
        let args = ["serve", "--bind", &bind, "--policy", "own", "--data-dir"];
        let hub = Process::start(asked, &hub_space, args.map(OsString::from), &hub_dir)?;
        let line = hub.line(Instant::now() + Duration::from_secs(60))?;
        if line["listening"] != *bind {
            return Err(format!("the hub does not listen: {line}").into());
        }
        let asked = Arc::clone(asked);
        let hub = Some(hub);
        Ok(Self { asked, hub, link, clinic_space, _hub_space: hub_space, clinic_dir, hub_dir, _home: home })
    }

    /// The clinic takes events while its program does not run.
    pub(super) fn append(&self, corpus: &Corpus, range: std::ops::Range<usize>, lane: Lane, gap_s: u32) -> Result<()> {
        fill(&mut Host::open(&self.clinic_dir, 0)?, 0, corpus, range, lane, gap_s).map(drop)
    }

    /// `ropeway sync`, with more arguments.
    pub(super) fn sync(&self, more: &[&str]) -> Result<Process> {
        let hub = format!("{HUB}:{HUB_PORT}");
        let args = [&["sync", "--hub", &hub], more, &["--data-dir"]].concat();
        Process::start(&self.asked, &self.clinic_space, args.into_iter().map(OsString::from), &self.clinic_dir)
    }

    /// Waits a while.
    pub(super) fn rest(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let left @ 1.. = end.saturating_duration_since(Instant::now()).as_micros() {
            std::thread::sleep(LOOK.min(Duration::from_micros(left as u64)));
            look(&self.asked)?;
        }
        Ok(())
    }

    /// How many events of the clinic in this lane, or in all, are durable at the hub.
    pub(super) fn at_hub(&self, lane: Option<Lane>) -> Result<u64> {
        let view = LogView::open_quickly(&self.hub_dir)?;
        let of_clinic = |e: &ropeway_core::streams::FrontierEntry| {
            e.key.node.as_str() == NAME && lane.is_none_or(|lane| lane == e.key.lane)
        };
        Ok(view.frontier().filter(of_clinic).map(|e| e.have).sum())
    }

    /// Fails unless the hub holds exactly these events, in their order.
    pub(super) fn compare(&self, corpus: &Corpus) -> Result<()> {
        let mut view = LogView::open(&self.hub_dir)?;
        let (mut n, mut same) = (0, true);
        let missing = view.read(&Filter::default(), 1, |_, _, event| {
            same &= n < corpus.len() && corpus.event(n) == (event.kind, event.payload);
            n += 1;
            Stop::No
        })?;
        if !same || n != corpus.len() || !missing.is_empty() {
            return Err(format!("the hub holds {n} events, not the {} of the clinic", corpus.len()).into());
        }
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.hub.take());
    }
}

fn look(asked: &Asked) -> Result<()> {
    if asked.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

/// `ropeway` at work. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    asked: Asked,
}

impl Process {
    /// Starts it in a namespace with these arguments, then a directory, and `--json`.
    fn start(asked: &Asked, space: &Space, args: impl IntoIterator<Item = OsString>, dir: &DataDir) -> Result<Self> {
        look(asked)?;
        // This program is that one too: nobody has to build or to find another.
        let mut command: Command = space.enter(std::env::current_exe()?);
        command.arg("ropeway").args(args).arg(dir.root()).arg("--json");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("nsenter: {e}"))?;
        let (tell, lines) = channel();
        if let Some(output) = child.stdout.take() {
            let read = move |output: ChildStdout| {
                BufReader::new(output).lines().map_while(std::io::Result::ok).try_for_each(|line| tell.send(line))
            };
            std::thread::spawn(move || read(output));
        }
        Ok(Self { child, lines, asked: Arc::clone(asked) })
    }

    /// The next object that it prints.
    fn line(&self, until: Instant) -> Result<Value> {
        loop {
            look(&self.asked)?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return serde_json::from_str(&line).map_err(|e| format!("{e}: {line}").into()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => return Err("a process has nothing to say for an hour".into()),
                Err(RecvTimeoutError::Disconnected) => return Err("a process has ended before it was done".into()),
            }
        }
    }

    /// The next object.
    pub(super) fn next(&self) -> Result<Value> {
        self.line(Instant::now() + PATIENCE)
    }

    /// What it prints until it says this of itself; that is the last.
    pub(super) fn until(&self, state: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let line = self.next()?;
            let found = line["state"] == *state;
            all.push(line);
            if found {
                return Ok(all);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
