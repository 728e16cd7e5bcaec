//! SIGKILL at any instant: what was acknowledged is there, nothing comes twice, and everything
//! starts again. The page cache survives a kill, so this says nothing about fsync: the simulator's
//! disks do.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use ropeway_std::SyncOptions;
use ropeway_tests::process::{Hub, assert_clean, said, verb};
use ropeway_tests::{Deployment, Random};

/// How many kills; the continuous build asks for more of them.
fn kills_wanted() -> u32 {
    std::env::var("ROPEWAY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

/// Events of one push.
const BATCH: u64 = 400;

/// One clinic, one hub, and what must be true of them.
struct Story {
    d: Deployment,
    hub: Option<Hub>,
    random: Random,
    /// Payloads that are in the clinic's log for certain, in order.
    certain: Vec<Vec<u8>>,
    batches: u64,
    /// How many events the clinic was told that the hub has.
    acknowledged: u64,
    kills: [u32; 3],
    /// Exponential averages of how long each process takes when nothing disturbs it.
    usual: [Duration; 3],
}

const PUSH: usize = 0;
const SYNC: usize = 1;
const HUB: usize = 2;

impl Story {
    fn new() -> Self {
        let d = Deployment::new(&["clinic_a"]);
        let usual = [Duration::from_millis(30); 3];
        let random = Random::new(9);
        Self { d, hub: None, random, certain: Vec::new(), batches: 0, acknowledged: 0, kills: [0; 3], usual }
    }

    fn clinic(&self) -> PathBuf {
        self.d.path("clinic_a")
    }

    fn hub_address(&mut self) -> String {
        let (d, when) = (&self.d, format!("after {:?} kills", self.kills));
        self.hub.get_or_insert_with(|| Hub::start(&d.path("hub"), &when)).address.clone()
    }

    /// Kills a process at a random instant of its usual life; true if it was still alive.
    fn kill(&mut self, kind: usize, mut child: Child) -> Option<std::process::Output> {
        let start = Instant::now();
        let delay = self.usual[kind].as_micros() as u64 * 5 / 4;
        let delay = Duration::from_micros(self.random.below(delay.max(1)));
        while start.elapsed() < delay && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let ended = child.try_wait().unwrap().is_some();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        if output.status.signal() == Some(9) {
            self.kills[kind] += 1;
            return None;
        }
        if ended {
            self.usual[kind] = (self.usual[kind] * 3 + start.elapsed()) / 4;
        }
        Some(output)
    }

    fn push(&mut self) {
        let payload = |i| format!("{{\"batch\":{},\"event\":{i},\"note\":\"seen by the nurse\"}}", self.batches);
        let batch: Vec<String> = (0..BATCH).map(payload).collect();
        self.batches += 1;
        let file = self.d.root().join("events.ndjson");
        fs::write(&file, batch.join("\n") + "\n").unwrap();
        let child = verb("push", &self.clinic(), &["--ndjson", file.to_str().unwrap()]).spawn().unwrap();
        let outcome = self.kill(PUSH, child);
        if let Some(o) = &outcome {
            assert_eq!(o.status.code(), Some(0), "{}", said(o));
        }
        // All of it if it said so; else any beginning of it.
        let held = self.d.payloads("clinic_a", "clinic_a");
        assert!(held.starts_with(&self.certain), "{} are there of {}", held.len(), self.certain.len());
        let new = &held[self.certain.len()..];
        assert!(batch.iter().map(String::as_bytes).take(new.len()).eq(new.iter().map(Vec::as_slice)));
        assert!(new.len() <= batch.len() && (outcome.is_none() || new.len() == batch.len()), "{}", new.len());
        self.certain = held;
    }

    fn sync(&mut self) {
        let address = self.hub_address();
        let child = verb("sync", &self.clinic(), &["--hub", &address]).spawn().unwrap();
        if let Some(o) = self.kill(SYNC, child) {
            assert_eq!(o.status.code(), Some(0), "{}", said(&o));
            self.acknowledged = self.certain.len() as u64;
        }
    }

    /// Kills the hub while the clinic syncs with it.
    fn kill_hub(&mut self) {
        let address = self.hub_address();
        let mut clinic = self.d.open("clinic_a");
        let syncing = std::thread::spawn(move || match clinic.sync(&address, &SyncOptions::default(), |_| ()) {
            Ok(report) => (report, None),
            Err(e) => (*e.report, Some(e.error)),
        });
        let delay = self.random.below(self.usual[SYNC].as_micros() as u64);
        std::thread::sleep(Duration::from_micros(delay));
        drop(self.hub.take());
        self.kills[HUB] += 1;
        let (report, error) = syncing.join().unwrap();
        assert!(error.as_ref().is_none_or(|e| matches!(e.code.as_u16(), 501 | 502)), "{error:?}");
        self.acknowledged = self.acknowledged.max(report.resumed_at + report.acknowledged);
    }

    fn check(&self) {
        let when = format!("after {:?} kills", self.kills);
        assert_clean(&self.clinic(), &when);
        assert_clean(&self.d.path("hub"), &when);
        assert_eq!(self.d.payloads("clinic_a", "clinic_a"), self.certain, "{when}");
        let at_hub = self.d.payloads("hub", "clinic_a");
        assert!(self.certain.starts_with(&at_hub), "{when}");
        assert!(at_hub.len() as u64 >= self.acknowledged, "{when}: {} of {}", at_hub.len(), self.acknowledged);
    }
}

#[test]
fn kill_9_of_push_sync_and_serve_loses_nothing_that_was_acknowledged() {
    let mut story = Story::new();
    let wanted = kills_wanted();
    while story.kills.iter().sum::<u32>() < wanted {
        story.push();
        match story.random.below(3) {
            0 => {}
            1 => story.sync(),
            _ => story.kill_hub(),
        }
        story.check();
    }
    let address = story.hub_address();
    let output = verb("sync", &story.clinic(), &["--hub", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    story.acknowledged = story.certain.len() as u64;
    story.check();
    let [push, sync, hub] = story.kills;
    println!("killed push {push} times, sync {sync}, serve {hub}; {} events", story.certain.len());
    assert!(push > 0 && sync > 0 && hub > 0, "{:?}", story.kills);
}
