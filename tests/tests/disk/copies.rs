//! `snapshot` and `restore`, disturbed at a system call: half a snapshot is refused, and half a restore can be
//! done again. All calls with `ROPEWAY_LONG=1`, else a sample.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ropeway_std::snapshot::{INCOMPLETE, MANIFEST};
use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::scratch;
use ropeway_tests::process::{assert_clean, ropeway, said, verb};
use ropeway_tests::strace;
use ropeway_tests::{name, numbered};
use tempfile::TempDir;

use crate::disturb::{Fault, Subject, every_call};
use crate::scenario::{assert_no_old_litter, files_in, keys_in};

const KILLS: usize = 24;

/// Both verbs, for the tests in which a call fails.
pub(crate) fn subjects(home: &dyn Fn() -> TempDir) -> Vec<Box<dyn Subject>> {
    vec![Box::new(Snapshot::new(home())), Box::new(Restore::new(home(), false)), Box::new(Restore::new(home(), true))]
}

/// Events in the newest group.
const NEWEST: u64 = 3;

/// A node with sealed segments, a checkpoint and a hot one; the number of its events.
fn node(dir: &DataDir) -> u64 {
    keygen::init_node(dir, name("clinic_a")).unwrap();
    let mut node = numbered::open(dir).unwrap();
    for group in 0..8 {
        numbered::write(&mut node, group * 5 + 1, 5, 900).unwrap();
    }
    assert!(node.maintain(Duration::from_secs(60)));
    numbered::write(&mut node, 41, NEWEST, 300).unwrap();
    40 + NEWEST
}

fn restore(from: &Path, to: &Path) -> Command {
    let mut command = ropeway(["restore"]);
    command.arg(from).arg("--dir").arg(to);
    command
}

/// A restored node holds all that the first one held, and goes on in an incarnation of its own.
fn assert_restored(at: &Path, count: u64, when: &str) {
    let dir = DataDir::new(at);
    let held = numbered::held(&dir).unwrap_or_else(|e| panic!("{when}: {e}"));
    assert!(held.clean && held.count == count, "{when}: {count} of {held:?}");
    let mut node = numbered::open(&dir).unwrap_or_else(|e| panic!("{when}, then open: {e}"));
    let before: Vec<_> = node.frontier().map(|f| f.key).collect();
    assert_no_old_litter(at, when);
    numbered::write(&mut node, count + 1, 2, 100).unwrap_or_else(|e| panic!("{when}, then write: {e}"));
    assert!(
        node.frontier().filter(|f| f.top > 0 && !before.contains(&f.key)).count() > 0,
        "{when}: it goes on as before"
    );
    drop(node);
    let held = numbered::held(&dir).unwrap();
    assert!(held.clean && held.count == count + 2, "{when}: {held:?}");
    assert_clean(at, when);
    // A key of before that is kept opens nothing of this.
    let keys = keys_in(&at.join("keys"));
    for entry in fs::read_dir(at).unwrap().flatten().filter(|e| e.file_name() != "keys" && e.path().is_dir()) {
        assert!(keys.is_disjoint(&keys_in(&entry.path())), "{when}: {} holds the key too", entry.path().display());
    }
}

struct Snapshot {
    home: TempDir,
    count: u64,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Snapshot {
    fn new(home: TempDir) -> Self {
        let dir = DataDir::new(home.path().join("node"));
        let count = node(&dir);
        Self { count, files: files_in(dir.root()), home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Subject for Snapshot {
    fn name(&self) -> String {
        "a snapshot".to_owned()
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn reset(&self) {
        for left in ["taken", "second", "restored"] {
            let _ = fs::remove_dir_all(self.path(left));
        }
    }

    fn command(&self) -> Command {
        let mut command = verb("snapshot", &self.path("node"), &["--with-key"]);
        command.arg(self.path("taken"));
        command
    }

    fn judge(&self, output: &Output, _: bool, when: &str) {
        assert!(files_in(&self.path("node")) == self.files, "{when}: the node was changed");
        let (taken, restored) = (self.path("taken"), self.path("restored"));
        let looks_whole = taken.join(MANIFEST).exists() && !taken.join(INCOMPLETE).exists();
        assert!(looks_whole || !output.status.success(), "{when}: {}", said(output));
        let o = restore(&taken, &restored).output().unwrap();
        if looks_whole && o.status.success() {
            // Without the newest group, where nobody could tell whether that is on the disk.
            let held = numbered::held(&DataDir::new(&restored)).unwrap().count;
            let left_out = self.count - NEWEST;
            assert!(held == self.count || held == left_out && !when.ends_with("undisturbed"), "{when}: {held} events");
            assert_restored(&restored, held, when);
            return;
        }
        // What could not be read then was told as damage, and is not what the copy holds.
        let warned = said(output).contains("was damaged before");
        assert!(!looks_whole || warned, "{when}, then restore: {}", said(&o));
        assert!(said(&o).contains("R106") && !restored.exists(), "{when}, then restore: {}", said(&o));
        let mut again = verb("snapshot", &self.path("node"), &[]);
        let o = again.arg(self.path("second")).output().unwrap();
        assert!(o.status.success(), "{when}, then another: {}", said(&o));
    }
}

struct Restore {
    home: TempDir,
    /// Into a node that is there already, with a log that is empty; else into nothing.
    there: bool,
    count: u64,
}

impl Restore {
    fn new(home: TempDir, there: bool) -> Self {
        let dir = DataDir::new(home.path().join("node"));
        let count = node(&dir);
        let mut snapshot = verb("snapshot", dir.root(), &["--with-key"]);
        let o = snapshot.arg(home.path().join("taken")).output().unwrap();
        assert!(o.status.success(), "{}", said(&o));
        Self { home, there, count }
    }

    fn target(&self) -> PathBuf {
        self.home.path().join("restored")
    }
}

impl Subject for Restore {
    fn name(&self) -> String {
        format!("a restore into {}", if self.there { "an empty node" } else { "nothing" })
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn reset(&self) {
        let _ = fs::remove_dir_all(self.target());
        if self.there {
            keygen::init_node(&DataDir::new(self.target()), name("clinic_a")).unwrap();
        }
    }

    fn command(&self) -> Command {
        restore(&self.home.path().join("taken"), &self.target())
    }

    fn judge(&self, output: &Output, _: bool, when: &str) {
        if !output.status.success() {
            let o = self.command().output().unwrap();
            // Or it was complete already.
            assert!(o.status.success() || said(&o).contains("R104"), "{when}, then again: {}", said(&o));
        }
        assert_restored(&self.target(), self.count, when);
    }
}

#[test]
fn a_snapshot_that_is_killed_at_any_system_call_is_whole_or_refused() {
    if strace::available() {
        every_call(&Snapshot::new(scratch()), Fault::Kill, KILLS);
    }
}

#[test]
fn a_restore_that_is_killed_at_any_system_call_can_be_done_again() {
    if strace::available() {
        every_call(&Restore::new(scratch(), false), Fault::Kill, KILLS);
        every_call(&Restore::new(scratch(), true), Fault::Kill, KILLS);
    }
}
