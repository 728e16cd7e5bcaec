//! A hub and many clinics in virtual time: real nodes with real logs and codecs, over thin links, any number of
//! sessions at once. There is no TLS: it costs each session the same, and the tables `sessions` and `backlog` have it.

use std::collections::VecDeque;
use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::node::{Event, SessionId};
use ropeway_std::DataDir;
use tempfile::TempDir;

use super::visit::{Visit, Visited};
use super::watch::Watch;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::wire::air::Air;
use crate::wire::home;
use crate::wire::host::{CLOCK, Host, Packing, Wish, make_clinic, make_hub, now};
use crate::{Result, cpu};

/// So much of each clinic's stream the hub has before: more than a session learns.
const BEFORE_BYTES: usize = 96 << 10;
/// Small, since each clinic has one and there are hundreds.
const SEGMENT_BYTES: usize = 1 << 20;
/// Longer than anything takes, in microseconds of virtual time.
const PATIENCE_US: u64 = 48 * 3_600 * 1_000_000;

/// A clinic between its visits.
struct Clinic {
    dir: DataDir,
    /// Its next event, of the corpus.
    next: usize,
}

/// Who comes, when, and with how many new events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    pub(super) at_us: u64,
    pub(super) clinic: usize,
    pub(super) events: usize,
}

/// See the [module](self).
pub(super) struct Fleet<'c> {
    corpus: &'c Corpus,
    air: Air,
    clinics: Vec<Clinic>,
    hub_dir: DataDir,
    hub: Option<Host>,
    watch: Watch,
    pub(super) now_us: u64,
    _home: TempDir,
}

impl<'c> Fleet<'c> {
    /// So many clinics, of whose streams the hub has a part.
    pub(super) fn new(clinics: usize, corpus: &'c Corpus) -> Result<Self> {
        let home = home()?;
        let hub_dir = make_hub(home.path(), CLOCK)?;
        let mut fleet = Self {
            corpus,
            air: Air::cable(),
            clinics: Vec::new(),
            hub_dir,
            hub: None,
            watch: Watch::default(),
            now_us: 0,
            _home: home,
        };
        fleet.serve(0)?;
        let bar = bar("clinics", clinics as u64);
        for n in 0..clinics {
            let dir = make_clinic(fleet._home.path(), &fleet.hub_dir, &format!("clinic_{n:03}"), CLOCK)?;
            // Not all at the same place.
            let next = n * 97 % corpus.len();
            let mut events = 0;
            let mut bytes = 0;
            while bytes < BEFORE_BYTES {
                bytes += corpus.event((next + events) % corpus.len()).1.len();
                events += 1;
            }
            fleet.clinics.push(Clinic { dir, next });
            fleet.run(&[Coming { at_us: fleet.now_us, clinic: n, events }], Packing::Zstd)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        fleet.air = Air::thin();
        Ok(fleet)
    }

    /// The hub's process begins anew, with so many states.
    pub(super) fn serve(&mut self, states: usize) -> Result<()> {
        self.hub = None;
        let codecs = Some(self.watch.codecs(states));
        self.hub = Some(Host::open_with(&self.hub_dir, self.now_us, Wish { codecs, ..Wish::default() })?);
        Ok(())
    }

    /// Lets clinics come; each is a process that ends with its session. In the order in which they end.
    pub(super) fn run(&mut self, coming: &[Coming], packing: Packing) -> Result<Vec<Visited>> {
        let mut hub = self.hub.take().ok_or("the hub does not run")?;
        let done = self.run_with(&mut hub, coming, packing);
        self.hub = Some(hub);
        done
    }

    fn run_with(&mut self, hub: &mut Host, coming: &[Coming], packing: Packing) -> Result<Vec<Visited>> {
        let mut coming: Vec<_> = coming.to_vec();
        coming.sort_by_key(|c| c.at_us);
        let mut coming = VecDeque::from(coming);
        let (mut visits, mut done) = (Vec::<Visit>::new(), Vec::new());
        let until_us = self.now_us + PATIENCE_US;
        loop {
            while let Some(next) = coming.front().copied().filter(|c| c.at_us <= self.now_us) {
                coming.pop_front();
                visits.push(self.begin(hub, next, packing)?);
            }
            self.settle(hub, &mut visits)?;
            let mut open = Vec::new();
            for visit in visits {
                if visit.is_over() {
                    hub.drive(self.now_us)?;
                    let index = visit.hub_session().index();
                    done.push(visit.end(self.now_us, self.watch.take(index))?);
                } else {
                    open.push(visit);
                }
            }
            visits = open;
            if visits.is_empty() && coming.is_empty() {
                return Ok(done);
            }
            let timer_us = hub.node.poll_timeout().map(|(at, _)| at.0 * 1_000).filter(|_| !visits.is_empty());
            let soonest = visits.iter().filter_map(|v| v.next_us(self.now_us)).chain(coming.front().map(|c| c.at_us));
            let next_us = soonest.chain(timer_us).map(|us| us.max(self.now_us + 1)).min();
            self.now_us = next_us.filter(|us| *us < until_us).ok_or("clinics and hub wait for each other")?;
        }
    }

    /// A clinic takes its new events, and dials.
    fn begin(&mut self, hub: &mut Host, coming: Coming, packing: Packing) -> Result<Visit> {
        let us = self.now_us;
        let clinic = &mut self.clinics[coming.clinic];
        let limits = Some(Limits { segment_bytes: SEGMENT_BYTES, ..Limits::clinic() });
        let codecs = (packing == Packing::Zstd).then(|| ropeway_std::zstd_codec::codecs(0, None));
        let mut host = Host::open_with(&clinic.dir, us, Wish { limits, codecs, ..Wish::default() })?;
        for _ in 0..coming.events {
            let (kind, payload) = self.corpus.event(clinic.next % self.corpus.len());
            host.append(us, Lane::Normal, kind, payload)?;
            clinic.next += 1;
        }
        host.drive(us)?;
        Visit::begin(coming.clinic, host, hub, self.air, us)
    }

    /// Lets everybody do all that there is to do at this moment.
    fn settle(&mut self, hub: &mut Host, visits: &mut [Visit]) -> Result<()> {
        let us = self.now_us;
        if hub.node.poll_timeout().is_some_and(|(at, _)| at <= now(us).at) {
            hub.node.timeout(now(us));
        }
        loop {
            let mut moved = false;
            for visit in visits.iter_mut() {
                if visit.is_due(us) {
                    let (turned, took) = cpu::timed(|| visit.turn_hub(hub, us));
                    visit.hub_cpu += took;
                    moved |= visit.turn_clinic(us)? | turned?;
                }
            }
            let of = |id: SessionId, visits: &mut [Visit], f: fn(&mut Visit)| {
                visits.iter_mut().filter(|v| v.hub_session() == id).for_each(f);
            };
            while let Some(id) = hub.node.poll_ready() {
                moved = true;
                of(id, visits, Visit::wake);
            }
            while let Some(id) = hub.node.poll_resumed() {
                moved = true;
                of(id, visits, Visit::resume);
            }
            while let Some(event) = hub.node.poll_event() {
                moved = true;
                match event {
                    Event::Closed { ending, .. } if ending.code.is_some() => {
                        return Err(format!("a session ended: {ending:?}").into());
                    }
                    Event::StorageFailed { code } => return Err(format!("the hub's log: {code}").into()),
                    Event::Fork { stream } | Event::TailLost { stream } => {
                        return Err(format!("{stream} is not what it was").into());
                    }
                    Event::Withheld(events) => return Err(format!("{events:?} were withheld").into()),
                    Event::Closed { session, .. } => of(session, visits, Visit::wake),
                    Event::CaughtUp { .. } => {}
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

/// What visits have cost together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) visits: u64,
    pub(super) bytes: u64,
    pub(super) hub_cpu: Duration,
}

impl Sum {
    pub(super) fn of<'v>(visits: impl Iterator<Item = &'v Visited>) -> Self {
        visits.fold(Self::default(), |sum, v| Self {
            visits: sum.visits + 1,
            bytes: sum.bytes + v.bytes.iter().sum::<u64>(),
            hub_cpu: sum.hub_cpu + v.hub_cpu,
        })
    }

    /// Bytes of frames of one of them.
    pub(super) fn bytes_each(&self) -> Option<f64> {
        (self.visits > 0).then(|| self.bytes as f64 / self.visits as f64)
    }
}
