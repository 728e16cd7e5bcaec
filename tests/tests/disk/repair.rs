//! SIGKILL while damage is set aside and listed: at any system call nothing that can be read is lost, and
//! the next start goes on where this one was.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

use ropeway_std::repair::Fate;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, LogView, keygen};
use ropeway_tests::mounts::scratch;
use ropeway_tests::strace::{self, recorded, recording};
use ropeway_tests::{name, numbered};

use crate::scenario::{copy_files, remove_files};

/// Calls at which it is killed.
const KILLS: usize = 40;

/// Events that can be read, and what the log tells of its damages.
fn look(dir: &DataDir) -> (usize, Vec<Fate>) {
    let (mut view, mut events) = (LogView::open(dir).unwrap(), 0);
    let missing = view.read(&Filter::default(), 1, |_, _, _| {
        events += 1;
        ropeway_std::store::Stop::No
    });
    assert!(!missing.unwrap().is_empty());
    (events, view.judged().iter().map(|j| j.fate).filter(|f| *f != Fate::Harmless).collect())
}

#[test]
fn killed_at_any_system_call_damage_is_listed_once_and_nothing_more_is_lost() {
    if !strace::available() {
        return;
    }
    let home = scratch();
    let (dir, kept) = (DataDir::new(home.path().join("node")), home.path().join("kept"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut node = numbered::open(&dir).unwrap();
    for round in 0..4 {
        numbered::write(&mut node, round * 3 + 1, 3, 300).unwrap();
    }
    drop(node);
    let log = OpenOptions::new().write(true).open(dir.log().join("seg-00000001.log")).unwrap();
    log.write_all_at(b"rot", 2 * 4096 + 50).unwrap();
    drop(log);
    let (before, fates) = look(&dir);
    assert_eq!(fates, [Fate::Open(None)]);
    copy_files(dir.root(), &kept);
    let mut step = Command::new(env!("CARGO_BIN_EXE_ropeway-work"));
    step.arg("write").arg(dir.root()).args(["100", "1", "2", "300"]);
    let trace = home.path().join("trace");
    assert!(recording(&step, &trace).output().unwrap().status.success());
    let calls = strace::sample(recorded(&trace, dir.root()), KILLS);
    for call in &calls {
        remove_files(dir.root());
        copy_files(&kept, dir.root());
        call.inject(&step, "signal=KILL").output().unwrap();
        let when = format!("killed at {} {}: {}", call.name, call.nth, call.line);
        let (held, fates) = look(&dir);
        assert!(held >= before && fates.len() == 1, "{when}: {held} events, {fates:?}");
        // Twice: what the first start lists, the second one knows.
        for start in 0..2 {
            numbered::write(&mut numbered::open(&dir).unwrap(), 200 + start, 1, 300).unwrap();
            let (now, fates) = look(&dir);
            assert!(now as u64 == held as u64 + start + 1, "{when}: {now} events");
            assert!(matches!(fates[..], [Fate::Open(Some(_))]), "{when}: {fates:?}");
        }
        let copies = std::fs::read_dir(dir.quarantine()).unwrap().count();
        assert!(copies >= 1, "{when}: nothing was set aside");
    }
    println!("{} kills", calls.len());
}
