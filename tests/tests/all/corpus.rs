//! Directories as earlier releases wrote them, in `tests/testdata/`: each release must read them, write on top of
//! them, and leave what is there as it is. A release adds one and changes none.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ropeway_core::policy::Policy;
use ropeway_std::DataDir;
use ropeway_tests::process::{assert_clean, ropeway, said, verb};
use ropeway_tests::{Deployment, numbered};

use crate::durable::bytes_of;

/// The directories, and how many events each holds.
const CORPUS: [(&str, u64); 2] = [("v1", 75), ("v1-raw-key", 21)];

fn kept(corpus: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(corpus)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            // A version control system keeps no modes.
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn log_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut log = bytes_of(&dir.join("log"));
    log.retain(|path, _| path.extension().is_some_and(|e| e == "log" || e == "sealed"));
    log
}

#[test]
fn what_earlier_releases_wrote_is_read_and_written_on_top_of() {
    for (corpus, count) in CORPUS {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("a"));
        copy(&kept(corpus), dir.root());
        let before = log_of(dir.root());
        let held = numbered::held(&dir).unwrap();
        assert!(held.clean && held.count == count, "{corpus}: {held:?}");
        assert_clean(dir.root(), corpus);
        assert!(log_of(dir.root()) == before, "{corpus}: reading has changed it");

        let mut node = numbered::open(&dir).unwrap();
        numbered::write(&mut node, count + 1, 3, 300).unwrap();
        drop(node);
        for (path, old) in &before {
            let Ok(now) = fs::read(path) else { panic!("{corpus}: {} is gone", path.display()) };
            // A hot segment has grown behind what stood there, where there was room.
            let end = old.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            assert!(now[..end] == old[..end] && now.len() == old.len(), "{corpus}: {} was rewritten", path.display());
        }
        let rekey = verb("rekey", dir.root(), &["--data"]).output().unwrap();
        assert!(rekey.status.success(), "{corpus}: {}", said(&rekey));
        let mut node = numbered::open(&dir).unwrap();
        for group in 0..6 {
            numbered::write(&mut node, count + 4 + group * 5, 5, 900).unwrap();
        }
        assert!(node.maintain(Duration::from_secs(60)));
        drop(node);
        let taken = tmp.path().join("taken");
        let snapshot = verb("snapshot", dir.root(), &["--with-key"]).arg(&taken).output().unwrap();
        assert!(snapshot.status.success(), "{corpus}: {}", said(&snapshot));
        let restored = tmp.path().join("restored");
        let restore = ropeway(["restore"]).arg(&taken).arg("--dir").arg(&restored).output().unwrap();
        assert!(restore.status.success(), "{corpus}: {}", said(&restore));
        for at in [dir.root(), restored.as_path()] {
            let held = numbered::held(&DataDir::new(at)).unwrap();
            assert!(held.clean && held.count == count + 33, "{corpus}: {held:?}");
            assert_clean(at, corpus);
        }
    }
}

/// Writes those that are not there, if `ROPEWAY_MAKE_CORPUS` is set: what is there must never change.
#[test]
fn the_corpus_is_made_where_it_is_asked_for() {
    if std::env::var_os("ROPEWAY_MAKE_CORPUS").is_none() {
        return;
    }
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let write = |node: &str, from: u64, groups: u64, len: usize| {
        let mut open = numbered::open(&d.dir(node)).unwrap();
        for group in 0..groups {
            numbered::write(&mut open, from + group * 3, 3, len).unwrap();
        }
        open
    };
    let rekey = |more: &[&str]| assert!(verb("rekey", &d.path("clinic_a"), more).output().unwrap().status.success());
    // Sealed segments, checkpoints, receipts of a hub, three data keys, another key, a hot segment.
    assert!(write("clinic_a", 1, 10, 900).maintain(Duration::from_secs(60)));
    rekey(&["--data"]);
    let hub = d.serve(Policy::Own);
    write("clinic_a", 31, 5, 900).sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    drop(hub);
    rekey(&["--data"]);
    assert!(write("clinic_a", 46, 8, 900).maintain(Duration::from_secs(60)));
    rekey(&[]);
    drop(write("clinic_a", 70, 2, 200));
    // A directory from before there were keyrings.
    let raw = d.path("clinic_b");
    fs::remove_file(raw.join("keys/keyring")).unwrap();
    fs::write(raw.join("keys/log.key"), "5a".repeat(32) + "\n").unwrap();
    assert!(write("clinic_b", 1, 7, 900).maintain(Duration::from_secs(60)));
    for (corpus, node) in [("v1", "clinic_a"), ("v1-raw-key", "clinic_b")] {
        let to = kept(corpus);
        if !to.exists() {
            copy(&d.path(node), &to);
            for ours in ["tls", "quarantine", "lock", "log/unfinished.tmp"] {
                let _ = fs::remove_dir_all(to.join(ours)).or_else(|_| fs::remove_file(to.join(ours)));
            }
        }
    }
}
