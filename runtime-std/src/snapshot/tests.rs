use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use ropeway_core::id::{Incarnation, Lane, NodeName};
use ropeway_core::limits::Limits;

use super::*;
use crate::keygen::init_node;
use crate::replica::{Options, Replica};

fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

fn open(dir: &DataDir) -> Replica {
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
    Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap()
}

fn node() -> (tempfile::TempDir, DataDir) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path().join("a"));
    init_node(&dir, name("clinic_a")).unwrap();
    (tmp, dir)
}

fn push(replica: &mut Replica, n: usize) {
    for i in 0..n {
        replica.append(Lane::Normal, 0, &[i as u8; 300]).unwrap();
    }
    replica.commit().unwrap();
}

fn take(dir: &DataDir, dest: &Path) -> Manifest {
    snapshot(dir, dest, &SnapshotOptions::default(), |_, _| ()).unwrap()
}

fn key(dir: &DataDir) -> RestoreOptions {
    RestoreOptions { keys: Some(dir.log_key()), ..RestoreOptions::default() }
}

/// Incarnation and top of each stream.
fn streams(replica: &Replica) -> Vec<(Incarnation, u64)> {
    replica.frontier().map(|e| (e.key.incarnation, e.top)).collect()
}

#[test]
fn a_restored_node_holds_all_and_writes_in_an_incarnation_of_its_own() {
    let (tmp, dir) = node();
    let mut replica = open(&dir);
    push(&mut replica, 8_000);
    push(&mut replica, 1);
    assert!(replica.maintain(std::time::Duration::from_secs(60)));
    push(&mut replica, 1);
    drop(replica);
    let dest = tmp.path().join("snap");
    let m = take(&dir, &dest);
    assert_eq!((m.events, m.heads.len(), m.with_key, m.damages.len()), (8_002, 1, false, 0));
    assert!(m.files.iter().any(|f| f.path.ends_with(".sealed")), "{:?}", m.files);
    assert!(m.files.len() >= 3 && !dest.join("keys").exists() && !dest.join(INCOMPLETE).exists());
    // Pages that were never used are not in it.
    assert!(m.files.iter().any(|f| f.bytes < f.full_bytes), "{:?}", m.files);

    let to = DataDir::new(tmp.path().join("b"));
    let restored = restore(&dest, &to, &key(&dir), |_, _| ()).unwrap();
    assert!(!restored.signed && restored.node.name == name("clinic_a") && restored.key_kept_as.is_none());
    let mut names: Vec<_> = fs::read_dir(to.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["keys", "lock", "log", "node.json", "quarantine", "restored.json", "tls"]);
    assert_eq!(fs::metadata(to.log_key()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(to.log()).unwrap().permissions().mode() & 0o777, 0o700);
    let mut again = open(&to);
    assert_eq!(again.damages(), []);
    push(&mut again, 3);
    let all = streams(&again);
    assert!(matches!(all[..], [(old, 8_002), (new, 3)] if old != new), "{all:?}");
    assert_eq!(m.incarnation, Some(all[0].0.to_string()));
    // It stays in that one.
    drop(again);
    let mut again = open(&to);
    push(&mut again, 1);
    assert_eq!(streams(&again), [all[0], (all[1].0, 4)]);
    let e = restore(&dest, &to, &key(&dir), |_, _| ()).unwrap_err();
    assert_eq!(e.code, Code::AlreadyInitialised, "{e}");
}

#[test]
fn an_inode_that_is_used_again_does_not_bring_the_old_incarnation_back() {
    let (tmp, dir) = node();
    push(&mut open(&dir), 5);
    let dest = tmp.path().join("snap");
    take(&dir, &dest);
    let before = crate::machine::fingerprint(&dir);
    fs::write(dir.restored(), "{}").unwrap();
    assert_ne!(crate::machine::fingerprint(&dir), before);
    fs::remove_file(dir.restored()).unwrap();
    assert_eq!(crate::machine::fingerprint(&dir), before);
}

#[test]
fn snapshots_of_a_log_that_is_being_written_to_are_whole() {
    let (tmp, dir) = node();
    let mut replica = open(&dir);
    push(&mut replica, 10);
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                push(&mut replica, 7);
            }
            replica
        })
    };
    let mut before = 0;
    for round in 0..6 {
        let dest = tmp.path().join(format!("snap{round}"));
        let m = take(&dir, &dest);
        assert!(m.events >= before && m.damages.is_empty(), "{m:?}");
        before = m.events;
        let to = DataDir::new(tmp.path().join(format!("b{round}")));
        restore(&dest, &to, &key(&dir), |_, _| ()).unwrap();
        let restored = open(&to);
        assert_eq!((restored.damages(), streams(&restored)[0].1), (&[][..], m.events));
    }
    stop.store(true, Ordering::Relaxed);
    let replica = writer.join().unwrap();
    assert_eq!(replica.damages(), []);
    assert!(streams(&replica)[0].1 > before);
}

#[test]
fn what_cannot_be_trusted_is_not_restored_and_nothing_is_left_behind() {
    let (tmp, dir) = node();
    push(&mut open(&dir), 50);
    let dest = tmp.path().join("snap");
    let m = take(&dir, &dest);
    let to = DataDir::new(tmp.path().join("b"));
    let refused = |options: &RestoreOptions| {
        let e = restore(&dest, &to, options, |_, _| ()).unwrap_err();
        assert!(!to.root().exists(), "{e}");
        e.code
    };
    assert_eq!(refused(&RestoreOptions::default()), Code::KeyMissing);
    let other = DataDir::new(tmp.path().join("other"));
    init_node(&other, name("clinic_b")).unwrap();
    assert_eq!(refused(&key(&other)), Code::WrongKey);
    let folder = |path: PathBuf| RestoreOptions { keys: Some(path), ..RestoreOptions::default() };
    assert_eq!(refused(&folder(other.root().join("keys"))), Code::WrongKey);
    assert_eq!(refused(&folder(other.root().to_owned())), Code::WrongKey);
    assert_eq!(refused(&folder(other.log())), Code::BadArgument);

    fs::write(dest.join(INCOMPLETE), "").unwrap();
    assert_eq!(refused(&key(&dir)), Code::BadSnapshot);
    fs::remove_file(dest.join(INCOMPLETE)).unwrap();

    let segment = m.files[0].under(&dest);
    let bytes = fs::read(&segment).unwrap();
    let mut changed = bytes.clone();
    changed[5_000] ^= 1;
    for bad in [&changed[..], &bytes[..4096], b""] {
        fs::write(&segment, bad).unwrap();
        assert_eq!(refused(&key(&dir)), Code::BadSnapshot);
    }
    fs::remove_file(&segment).unwrap();
    assert_eq!(refused(&key(&dir)), Code::BadSnapshot);
    fs::write(&segment, &bytes).unwrap();
    fs::remove_file(dest.join(MANIFEST)).unwrap();
    assert_eq!(refused(&key(&dir)), Code::BadSnapshot);
}

#[test]
fn a_place_that_holds_something_is_not_taken_for_a_snapshot() {
    let (tmp, dir) = node();
    let full = tmp.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), "").unwrap();
    for dest in [full, dir.root().join("snap"), dir.log().join("x")] {
        let e = snapshot(&dir, &dest, &SnapshotOptions::default(), |_, _| ()).unwrap_err();
        assert_eq!(e.code, Code::BadArgument, "{e}");
    }
    assert_eq!(fs::read_dir(dir.log()).unwrap().count(), 0);
    // An empty log makes an empty snapshot.
    let dest = tmp.path().join("snap");
    fs::create_dir(&dest).unwrap();
    assert_eq!(take(&dir, &dest).files, []);
}

#[test]
fn another_node_with_an_empty_log_begins_with_the_snapshot() {
    let (tmp, dir) = node();
    push(&mut open(&dir), 40);
    let dest = tmp.path().join("snap");
    let m = snapshot(&dir, &dest, &SnapshotOptions { with_key: true }, |_, _| ()).unwrap();
    assert!(m.with_key && m.files.iter().any(|f| f.path == "keys/log.key"));
    let to = DataDir::new(tmp.path().join("hub_2"));
    init_node(&to, name("hub_2")).unwrap();
    let fresh = fs::read(to.log_key()).unwrap();
    let restored = restore(&dest, &to, &RestoreOptions::default(), |_, _| ()).unwrap();
    assert_eq!(restored.node.name, name("hub_2"));
    let kept = restored.key_kept_as.unwrap().join("log.key");
    assert_eq!(fs::read(kept).unwrap(), fresh);
    let mut hub = open(&to);
    push(&mut hub, 2);
    let rows: Vec<_> = hub.frontier().map(|e| (e.key.node, e.top, e.own)).collect();
    assert_eq!(rows, [(name("clinic_a"), 40, false), (name("hub_2"), 2, true)]);
}

#[test]
fn a_torn_tail_is_left_out_and_damage_is_copied_and_told() {
    use std::os::unix::fs::FileExt;
    let (tmp, dir) = node();
    let mut replica = open(&dir);
    for _ in 0..5 {
        push(&mut replica, 2);
    }
    drop(replica);
    let path = dir.log().join("seg-00000001.log");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 100], 6 * 4096).unwrap();
    let m = take(&dir, &tmp.path().join("torn"));
    assert_eq!((m.events, m.files[0].bytes, m.damages.len()), (10, 6 * 4096, 0));
    file.write_all_at(&[7; 100], 3 * 4096).unwrap();
    let m = take(&dir, &tmp.path().join("damaged"));
    assert_eq!((m.events, m.damages.len()), (8, 1));
    let to = DataDir::new(tmp.path().join("b"));
    restore(&tmp.path().join("damaged"), &to, &key(&dir), |_, _| ()).unwrap();
    assert_eq!(open(&to).damages().len(), 1);
}

#[test]
fn a_newest_group_that_may_be_in_the_page_cache_only_can_be_left_out() {
    let (tmp, dir) = node();
    let mut replica = open(&dir);
    for _ in 0..5 {
        push(&mut replica, 2);
    }
    drop(replica);
    let pass = |dir: &DataDir, without| {
        let keys: Keys = Arc::from(keys(&source_of(tmp.path())).unwrap());
        look(Pass::over(DirFiles::new(dir), keys, name("clinic_a")).without(without), &mut |_, _| ()).unwrap()
    };
    let newest = pass(&dir, None).newest;
    let source = pass(&dir, newest);
    assert_eq!((source.newest, source.events), (newest, 8));
    let dest = tmp.path().join("snap");
    begin(&dir, &dest).unwrap();
    copy_log(&dir, &dest, &source, newest, &mut |_, _| ()).unwrap();
    let copy = pass(&DataDir::new(&dest), None);
    assert_eq!((copy.events, copy.heads == source.heads, copy.damages.len()), (8, true, 0));
}

/// The directory that [`node`] makes.
fn source_of(tmp: &Path) -> DataDir {
    DataDir::new(tmp.join("a"))
}
