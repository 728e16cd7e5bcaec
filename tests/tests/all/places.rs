//! Directories that are not what a node left: missing, emptied, copied while at work, of a newer version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ropeway_core::policy::Policy;
use ropeway_std::{DataDir, Replica, keygen};
use ropeway_tests::process::{ropeway, said, verb};
use ropeway_tests::{Deployment, name, numbered};

use crate::durable::bytes_of;

/// Every verb that works on a directory that is there, with what it needs.
const VERBS: [(&str, &[&str]); 11] = [
    ("push", &["--payload", "x"]),
    ("sync", &["--hub", "127.0.0.1:1"]),
    ("serve", &["--bind", "127.0.0.1:0"]),
    ("pull", &[]),
    ("status", &[]),
    ("verify", &[]),
    ("audit", &[]),
    ("rekey", &[]),
    ("rekey", &["--data"]),
    ("key", &[]),
    ("snapshot", &[]),
];

fn run(v: &str, dir: &Path, more: &[&str], beside: &Path) -> Output {
    match v {
        "key" => {
            let mut list = ropeway(["key", "list", "--data-dir"]);
            list.arg(dir).output().unwrap()
        }
        "snapshot" => {
            let taken = beside.join("taken");
            let _ = fs::remove_dir_all(&taken);
            verb(v, dir, more).arg(taken).output().unwrap()
        }
        _ => verb(v, dir, more).output().unwrap(),
    }
}

/// A node with sealed segments, both checkpoints and a hot segment.
fn node(at: &Path) -> DataDir {
    let dir = DataDir::new(at);
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut node = numbered::open(&dir).unwrap();
    for group in 0..9 {
        numbered::write(&mut node, group * 5 + 1, 5, 900).unwrap();
    }
    assert!(node.maintain(Duration::from_secs(60)));
    dir
}

#[test]
fn no_verb_begins_anew_where_a_directory_is_missing_empty_or_has_lost_its_name() {
    let tmp = tempfile::tempdir().unwrap();
    let (missing, empty, nameless) =
        (tmp.path().join("missing"), tmp.path().join("empty"), tmp.path().join("nameless"));
    fs::create_dir(&empty).unwrap();
    fs::remove_file(node(&nameless).node_json()).unwrap();
    let before = bytes_of(&nameless);
    for (v, more) in VERBS {
        for dir in [&missing, &empty, &nameless] {
            let output = run(v, dir, more, tmp.path());
            assert_eq!(output.status.code(), Some(1), "{v} {}: {}", dir.display(), said(&output));
            assert!(said(&output).contains("R103"), "{v} {}: {}", dir.display(), said(&output));
        }
        assert!(!missing.exists(), "{v}");
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "{v}");
        assert!(bytes_of(&nameless) == before, "{v}");
    }
    // Nor does keygen, over a log.
    let mut keygen = ropeway(["keygen"]);
    let output = keygen.arg(&nameless).args(["--node", "clinic_a"]).output().unwrap();
    assert!(output.status.code() == Some(1) && bytes_of(&nameless) == before, "{}", said(&output));
}

#[test]
fn a_segment_that_is_gone_is_told_and_its_events_come_back_with_a_sync() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.dir("clinic_a");
    let mut node = numbered::open(&dir).unwrap();
    for group in 0..12 {
        numbered::write(&mut node, group * 5 + 1, 5, 900).unwrap();
    }
    assert!(node.maintain(Duration::from_secs(60)));
    let hub = d.serve(Policy::Own);
    let sync = |mut node: Replica| {
        let report = node.sync(&hub.address.to_string(), &Default::default(), |_| ());
        report.unwrap_or_else(|e| panic!("{}", e.error))
    };
    sync(node);
    fs::remove_file(dir.log().join("seg-00000002.sealed")).unwrap();
    let told = verb("verify", dir.root(), &[]).output().unwrap();
    assert!(told.status.code() == Some(3) && said(&told).contains("R304"), "{}", said(&told));
    assert!(numbered::held_in_part(&dir).unwrap().count < 60);
    sync(numbered::open(&dir).unwrap());
    let held = numbered::held_in_part(&dir).unwrap();
    assert!(held.numbers.iter().copied().eq(1..=60), "{held:?}");
    // It stays told, as repaired.
    let told = verb("verify", dir.root(), &[]).output().unwrap();
    let text = said(&told);
    assert!(told.status.code() == Some(0) && text.contains("R304") && text.contains("repaired on"), "{text}");
}

fn crc32c(bytes: &[u8]) -> [u8; 4] {
    crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes).to_le_bytes()
}

/// The version that follows this one, in the first `len` bytes, under a right CRC at their end.
fn newer(bytes: &mut [u8], len: usize) {
    bytes[8] += 1;
    let crc = crc32c(&bytes[..len - 4]);
    bytes[len - 4..len].copy_from_slice(&crc);
}

/// What a newer program might have left.
fn altered(good: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    // The next hot segment may be there already, filled with zeros.
    let used = |p: &PathBuf, end: &str| p.extension().is_some_and(|e| e == end) && good[p][0] != 0;
    let newest = |end: &str| good.keys().rfind(|p| used(p, end)).unwrap();
    let mut add = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good[path].clone();
        change(&mut bytes);
        all.push((path.to_owned(), bytes));
    };
    add(newest("log"), &|b| newer(b, 128));
    add(newest("sealed"), &|b| {
        newer(b, 192);
        // The header stands in the trailer once more.
        let trailer = b.len() - 208;
        let trailer = &mut b[trailer..];
        newer(trailer, 192);
        let crc = crc32c(&trailer[..204]);
        trailer[204..].copy_from_slice(&crc);
    });
    for path in good.keys().filter(|p| p.to_string_lossy().contains("checkpoint-")) {
        add(path, &|b| newer(b, 192));
    }
    let ring = good.keys().find(|p| p.ends_with("keyring")).unwrap();
    add(ring, &|b| {
        for slot in b.chunks_mut(8192) {
            slot[8] += 1;
            let crc = crc32c(&[&slot[..124], &slot[128..]].concat());
            slot[124..128].copy_from_slice(&crc);
        }
    });
    let json = good.keys().find(|p| p.ends_with("node.json")).unwrap();
    add(json, &|b| *b = String::from_utf8_lossy(b).replace("\"version\": 1", "\"version\": 2").into_bytes());
    all
}

#[test]
fn what_a_newer_program_wrote_is_refused_by_every_verb_and_no_byte_changes() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a");
    node(&dir);
    let good = bytes_of(&dir);
    for (path, bytes) in altered(&good) {
        assert!(good[&path] != bytes, "{}", path.display());
        fs::write(&path, bytes).unwrap();
        let before = bytes_of(&dir);
        for (v, more) in [("push", &["--payload", "x"][..]), ("rekey", &["--data"]), ("verify", &[]), ("status", &[])] {
            let output = run(v, &dir, more, tmp.path());
            let text = said(&output);
            let checkpoint = path.to_string_lossy().contains("checkpoint-");
            // Who reads everything needs no checkpoint.
            let may = checkpoint && v == "verify";
            assert!(may || !output.status.success() && text.contains("R306"), "{v}, {}: {text}", path.display());
            assert!(bytes_of(&dir) == before, "{v}, {}", path.display());
        }
        for (path, bytes) in &good {
            fs::write(path, bytes).unwrap();
        }
    }
    // A snapshot.
    let taken = tmp.path().join("taken");
    assert!(run("snapshot", &dir, &["--with-key"], tmp.path()).status.success());
    let path = taken.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let restored = tmp.path().join("restored");
    let mut restore: Command = ropeway(["restore"]);
    let output = restore.arg(&taken).arg("--dir").arg(&restored).output().unwrap();
    assert!(said(&output).contains("R306") && !restored.exists(), "{}", said(&output));
}

#[test]
fn a_directory_that_is_copied_while_a_node_works_there_goes_on_in_a_stream_of_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut node = numbered::open(&dir).unwrap();
            let mut next = 46;
            while !over.load(Ordering::Relaxed) {
                numbered::write(&mut node, next, 5, 900).unwrap();
                next += 5;
            }
            (next - 1, node.frontier().map(|f| f.key).collect::<Vec<_>>())
        });
        for n in 0..12 {
            let copy = DataDir::new(tmp.path().join(format!("copy-{n}")));
            // A file that goes away meanwhile is not copied.
            Command::new("cp").arg("-a").arg(dir.root()).arg(copy.root()).output().unwrap();
            let mut node = match numbered::open(&copy) {
                Ok(node) => node,
                Err(e) => panic!("copy {n}: {e}"),
            };
            let before: Vec<_> = node.frontier().map(|f| (f.key, f.top)).collect();
            numbered::write(&mut node, 1_000_000, 3, 100).unwrap();
            for f in node.frontier().filter(|f| !before.contains(&(f.key, f.top))) {
                assert!(before.iter().all(|b| b.0 != f.key), "copy {n} goes on in {}", f.key);
            }
            drop(node);
            // Where the copy has a hole, that is told.
            let held = numbered::held_in_part(&copy).unwrap();
            let whole = held.numbers.iter().take(held.numbers.len() - 3).copied().eq(1..=held.count - 3);
            assert!(whole || !held.clean, "copy {n}: {held:?}");
            fs::remove_dir_all(copy.root()).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap().0
    });
    let held = numbered::held(&dir).unwrap();
    assert!(held.clean && held.count == written, "{written} of {held:?}");
}
