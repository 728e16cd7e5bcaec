//! The run: makes the nodes, starts the hub, lets the clinics sync through their links, judges.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ropeway_core::id::NodeName;
use ropeway_core::policy::Policy;
use ropeway_std::keygen::{HUB_NAME, init_hub};
use ropeway_std::tls::Clock;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, Error, LogView, Result};

use super::check::{Checker, Counts};
use super::clinic::{Clinic, Journey, timing};
use super::folder::Folder;
use super::link::{CutPlan, Link, LinkOptions};
use super::profile::Profile;
use super::progress::Progress;
use super::report::{ClinicRow, Report, Verdict, counted};
use super::workload::Workload;
use crate::daemon::{Daemon, DaemonOptions, Stopper};

/// Bytes up before the first event: the TLS handshake and the greeting. Measured.
const HELLO_BYTES: u64 = 900;
/// Bytes up for an event of the workload over a slow link, compressed and encrypted. Measured.
const EVENT_BYTES: u64 = 14;
/// How long a cut link stays down, in milliseconds of link time.
const DOWN_MS: u64 = 5_000;

/// What to show.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many clinics; at least 1.
    pub clinics: u32,
    /// How many events, over all clinics.
    pub events: u64,
    /// Each clinic's link.
    pub profile: Profile,
    /// Whether each link is cut once, in the middle.
    pub cut: bool,
    /// Link seconds per second here.
    pub speed: f64,
    /// Which events; which jitter.
    pub seed: u64,
    /// Where the nodes' directories stay; `None` removes them.
    pub keep: Option<PathBuf>,
}

impl Plan {
    /// What will be shown, for a person: a few lines without the last line end.
    #[must_use]
    pub fn announce(&self) -> String {
        let events = counted(self.events, "event");
        let clinics = counted(self.clinics.into(), "clinic");
        let (send, own) = if self.clinics == 1 { ("sends", "") } else { ("send", ", each over a link of its own") };
        let profile = self.profile.about;
        let cut =
            if self.cut { "\nEvery link is cut once, half way, and stays down for 5 s of link time." } else { "" };
        let (link, here) = (self.estimate_seconds(), self.estimate_seconds() / self.speed);
        format!(
            "{clinics} {send} {events} to a hub{own}.\n\
             The link: {profile}.{cut}\n\
             At {} times real time: about {link:.0} s of link time, {here:.0} s here. Seed {}.\n\
             Only the links are emulated: keys, certificates, TLS, logs and the hub are real.",
            self.speed, self.seed
        )
    }

    /// Link seconds that the slowest clinic should take.
    fn estimate_seconds(&self) -> f64 {
        let bytes = HELLO_BYTES + EVENT_BYTES * self.events_of(0);
        let latency = f64::from(self.profile.latency_us) / 1e6;
        let cut = if self.cut { DOWN_MS as f64 / 1e3 + 10.0 * latency } else { 0.0 };
        bytes as f64 / f64::from(self.profile.rate_up_bytes_per_s) + 10.0 * latency + cut
    }

    /// Events of the clinic with this index.
    fn events_of(&self, index: u32) -> u64 {
        let clinics = u64::from(self.clinics.max(1));
        self.events / clinics + u64::from(u64::from(index) < self.events % clinics)
    }

    /// When the link of a clinic with so many events breaks.
    fn cut_of(&self, events: u64) -> Option<CutPlan> {
        let middle = HELLO_BYTES + events * EVENT_BYTES / 2;
        (self.cut && events > 0).then(|| CutPlan::once(middle, DOWN_MS))
    }
}

/// Does it all. `told` hears where the nodes' directories are before the run.
///
/// # Errors
/// What kept the nodes from being made or the hub from starting. From then on whatever goes wrong
/// is in the report.
pub fn run(plan: &Plan, progress: &Progress, told: impl FnOnce(&std::path::Path)) -> Result<Report> {
    let begin = Instant::now();
    let folder = Folder::new(plan.keep.as_deref())?;
    told(folder.path());
    let hub_dir = DataDir::new(folder.path().join(HUB_NAME));
    init_hub(&hub_dir, NodeName::new(HUB_NAME)?, Clock::System)?;
    let make = |index| Clinic::prepare(folder.path(), &hub_dir, index, plan.events_of(index), plan.seed, plan.speed);
    let mut clinics = (0..plan.clinics).map(make).collect::<Result<Vec<Clinic>>>()?;
    let mut hub = Hub::start(&hub_dir, plan)?;

    let journeys = travel(plan, hub.address, progress, &mut clinics)?;
    let mut report = blank(plan, &clinics, &journeys);
    let fail = |report: &mut Report, name: &str, error: &Error| report.errors.push(format!("{name}: {error}"));
    for (clinic, journey) in clinics.iter_mut().zip(&journeys) {
        let name = clinic.name();
        match &journey.error {
            Some(error) => fail(&mut report, name.as_str(), error),
            // All others are at the hub by now: whatever it would give away is there to be given.
            None => match clinic.probe(hub.address, plan.speed) {
                Ok(isolated) => report.isolated &= isolated,
                Err(error) => fail(&mut report, name.as_str(), &error),
            },
        }
    }
    if let Err(error) = hub.stop() {
        fail(&mut report, HUB_NAME, &error);
    }
    match judge(plan, &hub_dir, &clinics) {
        Ok(counts) => {
            report.events_at_hub = counts.at_hub;
            (report.lost, report.duplicates, report.altered) = (counts.lost, counts.duplicates, counts.altered);
        }
        Err(error) => fail(&mut report, HUB_NAME, &error),
    }
    for clinic in clinics {
        let name = clinic.name();
        match clinic.close() {
            Ok(isolated) => report.isolated &= isolated,
            Err(error) => fail(&mut report, name.as_str(), &error),
        }
    }
    report.wall_seconds = begin.elapsed().as_secs_f64();
    Ok(report.settle())
}

/// Lets every clinic sync in a thread of its own, through a link of its own.
fn travel(plan: &Plan, hub: SocketAddr, progress: &Progress, clinics: &mut [Clinic]) -> Result<Vec<Journey>> {
    let mut links = Vec::new();
    for clinic in clinics.iter() {
        let seed = plan.seed ^ (u64::from(clinic.index) << 32);
        let options = LinkOptions { speed: plan.speed, seed, cut: plan.cut_of(clinic.events) };
        links.push(Link::start(hub, &plan.profile, options).map_err(|e| Error::io("starting a link", e))?);
    }
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (clinic, link) in clinics.iter_mut().zip(&links) {
            let mut shown = progress.clinic(clinic.name().as_str(), clinic.events);
            let go = move || clinic.travel(link.address(), &link.counters(), plan.speed, &mut shown);
            let spawned = thread::Builder::new().name("demo-clinic".into()).spawn_scoped(scope, go);
            threads.push(spawned.map_err(|e| Error::io("starting a thread", e))?);
        }
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok(joined.collect())
    })
}

/// The report before anything was compared.
fn blank(plan: &Plan, clinics: &[Clinic], journeys: &[Journey]) -> Report {
    let row = |(clinic, journey): (&Clinic, &Journey)| ClinicRow {
        name: clinic.name().to_string(),
        events: clinic.events,
        bytes_up: journey.counts.bytes_up,
        bytes_down: journey.counts.bytes_down,
        bytes_per_event: journey.counts.bytes_up as f64 / clinic.events.max(1) as f64,
        seconds: journey.wall_seconds * plan.speed,
        resumed_at: journey.resumed_at,
        resent: journey.sent.saturating_sub(clinic.events),
    };
    let rows: Vec<ClinicRow> = clinics.iter().zip(journeys).map(row).collect();
    Report {
        verdict: Verdict::Failed,
        events_appended: rows.iter().map(|row| row.events).sum(),
        events_at_hub: 0,
        lost: 0,
        duplicates: 0,
        altered: 0,
        isolated: true,
        errors: Vec::new(),
        wire_bytes_up: rows.iter().map(|row| row.bytes_up).sum(),
        wire_bytes_down: rows.iter().map(|row| row.bytes_down).sum(),
        cuts: journeys.iter().map(|journey| journey.counts.cuts).sum(),
        resent_events: rows.iter().map(|row| row.resent).sum(),
        seconds: rows.iter().map(|row| row.seconds).fold(0.0, f64::max),
        wall_seconds: 0.0,
        speed: plan.speed,
        profile: plan.profile.name.to_owned(),
        clinics: rows,
    }
}

/// Reads the hub's log from the disk and compares it with the events, invented once more.
fn judge(plan: &Plan, hub: &DataDir, clinics: &[Clinic]) -> Result<Counts> {
    let mut log = LogView::open(hub)?;
    let mut counts = Counts::default();
    for clinic in clinics {
        let mut workload = Workload::new(plan.seed, clinic.index);
        let mut checker = Checker::new((0..clinic.events).map(|_| workload.next_event()));
        let filter = Filter { node: Some(clinic.name()), ..Filter::default() };
        // What damage hides from us is not taken, and so it is lost.
        log.read(&filter, 1, |key, seq, event| {
            let place = (Some(*key) == clinic.stream).then_some(seq);
            checker.take(place, event.kind, event.payload);
            ropeway_std::store::Stop::No
        })?;
        counts += checker.finish();
    }
    let strangers = log.frontier().filter(|entry| clinics.iter().all(|clinic| clinic.name() != entry.key.node));
    counts.at_hub += strangers.map(|entry| entry.top).sum::<u64>();
    Ok(counts)
}

/// The daemon in a thread; dropping it stops it.
struct Hub {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Hub {
    fn start(dir: &DataDir, plan: &Plan) -> Result<Hub> {
        let options = DaemonOptions {
            policy: Policy::Own,
            // A session that was cut may still be there when the clinic comes back.
            max_sessions: 2 * plan.clinics as usize + 2,
            timing: timing(plan.speed),
            grace: Duration::from_secs(2),
            ..DaemonOptions::new((Ipv4Addr::LOCALHOST, 0).into())
        };
        let daemon = Daemon::bind(dir.clone(), options)?;
        let (address, stopper) = (daemon.local_addr(), daemon.stopper());
        let thread = thread::Builder::new().name("demo-hub".into()).spawn(move || daemon.run());
        let thread = Some(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(Hub { address, stopper, thread })
    }

    /// Ends it in good order.
    fn stop(&mut self) -> Result<()> {
        self.stopper.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // Only after another error, which is the one to show.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(clinics: u32, events: u64) -> Plan {
        Plan { clinics, events, profile: Profile::ALL[0], cut: true, speed: 4.0, seed: 1, keep: None }
    }

    #[test]
    fn every_event_belongs_to_one_clinic() {
        for (clinics, events) in [(3, 5_000), (32, 1), (7, 7), (1, 12)] {
            let plan = plan(clinics, events);
            assert_eq!((0..clinics).map(|index| plan.events_of(index)).sum::<u64>(), events);
        }
        assert_eq!(plan(3, 5).events_of(1), 2);
        assert_eq!(plan(3, 5).events_of(2), 1);
    }

    #[test]
    fn a_clinic_with_nothing_to_send_has_no_middle() {
        assert_eq!(plan(2, 0).cut_of(0), None);
        assert_eq!(Plan { cut: false, ..plan(2, 10) }.cut_of(5), None);
        assert!(plan(2, 10).cut_of(5).is_some_and(|cut| cut.after_bytes_up > HELLO_BYTES && cut.times == 1));
    }

    #[test]
    fn the_announcement_says_what_and_how_long() {
        let says = plan(3, 5_000).announce();
        for part in ["3 clinics send 5,000 events", "23 kbit/s", "cut once", "At 4 times real time", "Seed 1."] {
            assert!(says.contains(part), "{part}: {says}");
        }
        assert!(!Plan { cut: false, ..plan(1, 1) }.announce().contains("cut"));
    }
}
