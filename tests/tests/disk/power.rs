//! The power of a real ext4 is cut at any instant, again and again: what was acknowledged is on the
//! card. `ROPEWAY_CUTS` says how often (500 for a night).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::{Ext4, scratch};
use ropeway_tests::numbered::held;
use ropeway_tests::process::said;
use ropeway_tests::{Random, name};

use crate::disturb::assert_said_well;
use crate::errors::each;

/// Events of a group.
const GROUP: u64 = 7;

fn cuts() -> u32 {
    std::env::var("ROPEWAY_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// A kernel that writes pages back whenever it likes, in the middle of a group too: without it, all
/// that was not synced would be lost, always.
struct Writeback {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writeback {
    fn start(log: &Path) -> Self {
        let (over, log) = (Arc::new(AtomicBool::new(false)), log.to_owned());
        let stops = over.clone();
        let thread = std::thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                let mut files: Vec<_> =
                    std::fs::read_dir(&log).into_iter().flatten().flatten().map(|e| e.path()).collect();
                files.sort();
                // The newest hot segment, and what is being sealed.
                for path in files.iter().rev().take(2) {
                    let _ = File::open(path).map(|f| f.sync_data());
                }
            }
        });
        Self { over, thread }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_power_cut_at_any_instant_costs_nothing_that_was_acknowledged() {
    let home = scratch();
    let Some(disk) = Ext4::make(home.path(), 24 << 20) else { return };
    let dir = DataDir::new(disk.at.join("node"));
    let mut random = Random::new(std::process::id().into());
    let (mut certain, mut logs, mut torn, mut beyond, mut sealing, mut remembered) = (0, 0, 0, 0, 0, 0);
    for cut in 0..cuts() {
        if certain == 0 || cut % 12 == 0 {
            let _ = std::fs::remove_dir_all(dir.root());
            keygen::init_node(&dir, name("clinic_a")).unwrap();
            disk.sync().unwrap();
            (certain, logs) = (0, logs + 1);
        }
        let when = format!("log {logs}, cut {cut}, {certain} events before it");
        let mut work = Command::new(env!("CARGO_BIN_EXE_ropeway-work"));
        work.arg("churn").arg(dir.root()).args([&(certain + 1).to_string(), &GROUP.to_string(), "990"]);
        let mut child = work.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = child.stdout.take().unwrap();
        let hears = std::thread::spawn(move || {
            let mut text = String::new();
            told.read_to_string(&mut text).map(|_| text)
        });
        let kernel = Writeback::start(&dir.log());
        // Half of the cuts come while the log is opened.
        let most = if cut % 2 == 0 { 4_000 } else { 60_000 };
        std::thread::sleep(Duration::from_micros(random.below(most)));
        disk.cut_power().unwrap();
        kernel.stop();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.starts_with('R'), "{when}: {} {text}", output.status);
        let told = hears.join().unwrap().unwrap();
        let last = told.lines().filter_map(|l| l.strip_prefix("durable ")?.parse().ok()).max();
        certain = last.unwrap_or(certain);
        disk.power_on().unwrap();
        let found = held(&dir).unwrap_or_else(|e| panic!("{when}: {e}"));
        let possible = certain..=certain + GROUP;
        assert!(found.clean && possible.contains(&found.count), "{when}: {found:?}, not {possible:?}");
        torn += u32::from(found.damages.contains("TornTail"));
        beyond += u32::from(found.count > certain);
        certain = found.count;
        sealing += u32::from(dir.log().join("unfinished.tmp").exists());
        remembered += u32::from(dir.log().join("checkpoint-b").exists());
    }
    println!(
        "{} cuts in {logs} logs: {torn} torn tails seen, {beyond} times more than was acknowledged, {sealing} \
         in the middle of sealing, {remembered} with two checkpoints",
        cuts()
    );
    assert!(remembered > 0 || cuts() < 20, "nothing was sealed");
}

/// Any other verb, cut once or more at an instant of its run.
#[test]
fn a_power_cut_at_any_instant_of_any_verb_leaves_what_was_or_what_was_to_be() {
    let home = scratch();
    let Some(disk) = Ext4::make(home.path(), 64 << 20) else { return };
    let here = || tempfile::tempdir_in(&disk.at).unwrap();
    let mut random = Random::new(std::process::id().into());
    each(&here, |subject| {
        subject.reset();
        let start = Instant::now();
        let output = subject.command().output().unwrap();
        let whole = start.elapsed();
        assert!(output.status.success(), "{}: {}", subject.name(), said(&output));
        let mut ended_well = 0;
        let times = (cuts() / 20).max(1);
        for cut in 0..times {
            subject.reset();
            disk.sync().unwrap();
            let child = subject.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let at = Duration::from_micros(random.below(whole.as_micros() as u64));
            std::thread::sleep(at);
            disk.cut_power().unwrap();
            let output = child.wait_with_output().unwrap();
            disk.power_on().unwrap();
            let when = format!("{}, cut {cut}, after {at:?} of {whole:?}", subject.name());
            assert_said_well(&output, true, &when);
            ended_well += u32::from(output.status.success());
            subject.judge(&output, true, &when);
        }
        println!("{}: {times} cuts, {ended_well} of them after its end", subject.name());
    });
}
