//! A sync whose clinic or hub is killed at a system call: nothing is lost, nothing is double, the hub
//! has what it acknowledged, and the next sync brings the rest. All calls with `ROPEWAY_LONG=1`, else a
//! sample.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use ropeway_core::policy::Policy;
use ropeway_std::DirLock;
use ropeway_tests::Deployment;
use ropeway_tests::mounts::scratch;
use ropeway_tests::numbered::{held, held_in_part, open, write};
use ropeway_tests::process::{assert_clean, said, verb};
use ropeway_tests::strace;

use crate::scenario::{copy_files, remove_files};

/// Calls at which each side is killed.
const KILLS: usize = 40;
/// Events that the clinic has.
const EVENTS: u64 = 60;

struct Stage {
    d: Deployment,
}

impl Stage {
    fn new() -> Self {
        let d = Deployment::new_in(scratch(), &["clinic_a"]);
        for group in 0..EVENTS / 6 {
            write(&mut open(&d.dir("clinic_a")).unwrap(), group * 6 + 1, 6, 400).unwrap();
        }
        for node in ["clinic_a", "hub"] {
            std::fs::create_dir_all(d.dir(node).log()).unwrap();
            copy_files(&d.path(node), &d.root().join(format!("{node}_kept")));
        }
        Self { d }
    }

    fn reset(&self) {
        for node in ["clinic_a", "hub"] {
            remove_files(&self.d.path(node));
            copy_files(&self.d.root().join(format!("{node}_kept")), &self.d.path(node));
        }
    }

    fn trace(&self) -> PathBuf {
        self.d.root().join("trace")
    }

    /// Syncs undisturbed; then everything is at the hub.
    fn comes_through(&self, when: &str) {
        let hub = self.d.serve(Policy::Own);
        let mut clinic = open(&self.d.dir("clinic_a")).unwrap();
        let report = clinic.sync(&hub.address.to_string(), &Default::default(), |_| ());
        report.unwrap_or_else(|e| panic!("{when}, then a sync: {}", e.error));
        drop((clinic, hub));
        for node in ["clinic_a", "hub"] {
            let held = held(&self.d.dir(node)).unwrap();
            assert!(held.clean && held.count == EVENTS, "{when}, {node}: {held:?}");
        }
    }
}

#[test]
fn a_clinic_that_is_killed_at_any_system_call_of_a_sync_loses_and_doubles_nothing() {
    if !strace::available() {
        return;
    }
    let stage = Stage::new();
    let clinic = stage.d.path("clinic_a");
    let sync = |address: &str| verb("sync", &clinic, &["--hub", address]);
    let hub = stage.d.serve(Policy::Own);
    let output = strace::recording(&sync(&hub.address.to_string()), &stage.trace()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    drop(hub);
    let all = strace::recorded(&stage.trace(), &clinic);
    let (found, wanted) = (all.len(), strace::sample(all, KILLS));
    for call in &wanted {
        stage.reset();
        let when = format!("sync killed at {} {}: {}", call.name, call.nth, call.line);
        let hub = stage.d.serve(Policy::Own);
        let output = call.inject(&sync(&hub.address.to_string()), "signal=KILL").output().unwrap();
        drop(hub);
        let (own, there) = (held(&stage.d.dir("clinic_a")).unwrap(), held_in_part(&stage.d.hub()).unwrap());
        assert!(own.clean && own.count == EVENTS, "{when}: {own:?}");
        assert!(there.clean && (there.count == EVENTS || !output.status.success()), "{when}: {there:?}");
        stage.comes_through(&when);
    }
    assert_clean(&clinic, "at last");
    println!("sync: killed at {} of {found} system calls", wanted.len());
}

#[test]
fn a_hub_that_is_killed_at_any_system_call_has_what_it_acknowledged() {
    if !strace::available() {
        return;
    }
    let stage = Stage::new();
    let hub = stage.d.path("hub");
    let serve = verb("serve", &hub, &["--bind", "127.0.0.1:0"]);
    let (acknowledged, _) = disturbed(&stage, strace::recording(&serve, &stage.trace()));
    assert_eq!(acknowledged, EVENTS);
    let all = strace::recorded(&stage.trace(), &hub);
    let (found, wanted) = (all.len(), strace::sample(all, KILLS));
    for call in &wanted {
        stage.reset();
        let when = format!("serve killed at {} {}: {}", call.name, call.nth, call.line);
        let (acknowledged, output) = disturbed(&stage, call.inject(&serve, "signal=KILL"));
        let there = held_in_part(&stage.d.hub()).unwrap();
        let text = said(&output);
        assert!(there.clean && there.count >= acknowledged, "{when}: {acknowledged} of {there:?}; {text}");
        stage.comes_through(&when);
    }
    assert_clean(&hub, "at last");
    println!("serve: killed at {} of {found} system calls", wanted.len());
}

/// Serves by this command, syncs once, ends the hub if it still lives; how many events it has
/// acknowledged.
fn disturbed(stage: &Stage, mut command: Command) -> (u64, Output) {
    let mut hub: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(hub.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut acknowledged = 0;
    if let Some(address) = line.trim().strip_prefix("listening on ") {
        let mut clinic = open(&stage.d.dir("clinic_a")).unwrap();
        acknowledged = match clinic.sync(address, &Default::default(), |_| ()) {
            Ok(report) => report.acknowledged,
            Err(e) => e.report.acknowledged,
        };
        if let Some(pid) = DirLock::holder(&stage.d.hub()) {
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).output();
        }
    }
    (acknowledged, hub.wait_with_output().unwrap())
}
