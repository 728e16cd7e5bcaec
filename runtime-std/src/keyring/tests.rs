use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ropeway_core::id::{Lane, NodeName};

use super::*;
use crate::dir::hex;
use crate::keygen::init_node;
use crate::pass;
use crate::replica::{Options, Replica};
use crate::store::{Damage, Files, Stop};
use crate::view::{Filter, LogView};

const OLD: &str = "old horse battery";
const NEW: &str = "new horse battery";

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

/// The directory, opened by somebody who knows this passphrase only.
fn dir_with(root: &Path, text: &'static str) -> DataDir {
    DataDir::new(root).with_passphrase(Arc::new(move |_| Ok(phrase(text))))
}

fn options(kek: Option<NewKek>, data: bool) -> RekeyOptions {
    RekeyOptions { kek, data }
}

fn push(dir: &DataDir, payload: &str) {
    let mut node = Replica::open(dir.clone(), Options::default()).unwrap();
    node.append(Lane::Normal, 0, payload.as_bytes()).unwrap();
    node.commit().unwrap();
}

fn payloads(dir: &DataDir) -> Result<Vec<String>> {
    let mut view = LogView::open(dir)?;
    let mut all = Vec::new();
    let missing = view.read(&Filter::default(), 1, |_, _, e| {
        all.push(String::from_utf8(e.payload.to_vec()).unwrap());
        Stop::No
    })?;
    assert!(missing.is_empty() || !view.damages().is_empty());
    Ok(all)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
}

/// A node in the small: its log is one segment of one page.
fn node(root: &Path) -> DataDir {
    let dir = DataDir::new(root);
    init_node(&dir, NodeName::new("a").unwrap()).unwrap();
    dir
}

/// A directory as it was before there were keyrings.
fn legacy(root: &Path) -> DataDir {
    let dir = node(root);
    fs::remove_file(dir.keyring_file()).unwrap();
    fs::write(dir.log_key(), format!("{}\n", "1f".repeat(32))).unwrap();
    dir
}

fn small(root: &Path) {
    // Segments full of zeros would be copied a hundred times.
    let seg = root.join("log/seg-00000001.log");
    if seg.exists() {
        fs::OpenOptions::new().write(true).open(seg).unwrap().set_len(64 << 10).unwrap();
    }
}

fn never() -> Result<Passphrase> {
    panic!("nobody should be asked")
}

#[test]
fn a_new_data_key_is_used_from_now_on_and_everything_stays_readable() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    for n in 1..=3 {
        push(&dir, &format!("event {n}"));
        let done = rekey(&dir, &options(None, true), &mut never).unwrap();
        assert_eq!((done.new_data_key, done.kek_replaced, done.bytes_written), (Some(n + 1), false, 8192));
    }
    push(&dir, "event 4");
    assert_eq!(payloads(&dir).unwrap(), ["event 1", "event 2", "event 3", "event 4"]);
    let ring = dir.keyring().unwrap();
    assert_eq!((ring.current(), ring.generation(), ring.is_unfinished()), (4, 4, false));
    let used = crate::store::key_use(&mut crate::store::DirFiles::new(&dir), &ring.data_keys()).unwrap();
    let used: Vec<_> = used.iter().map(|(id, u)| (*id, u.segments.clone(), u.other_key)).collect();
    assert_eq!(used, [1, 2, 3, 4].map(|id| (id, vec![1], false)));
}

#[test]
fn rotating_the_key_leaves_the_log_as_it_is_and_the_old_key_worthless() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    push(&dir, "x");
    let (old, log) = (fs::read(dir.log_key()).unwrap(), fs::read(dir.log().join("seg-00000001.log")).unwrap());
    let done = rekey(&dir, &options(Some(NewKek::Same), false), &mut never).unwrap();
    assert_eq!((done.key_file, done.removed, done.left), (Some(dir.log_key()), None, None));
    assert!(fs::read(dir.log().join("seg-00000001.log")).unwrap() == log);
    assert_eq!(payloads(&dir).unwrap(), ["x"]);
    let new = fs::read(dir.log_key()).unwrap();
    assert_eq!(new.iter().filter(|b| **b == b'\n').count(), 1, "one line");
    fs::write(dir.log_key(), &old).unwrap();
    assert_eq!(dir.keyring().unwrap_err().code, Code::WrongKey, "neither slot opens under the old key");
    for n in 0..2 {
        let bytes = fs::read(dir.keyring_file()).unwrap();
        let slot = parse_slot(&bytes[n * 8192..(n + 1) * 8192]).unwrap();
        let old = parse_key_file(&old).unwrap().swap_remove(0).key;
        assert_eq!(slot.open(&Kek::of(old)).unwrap_err(), Code::WrongKey);
    }
}

#[test]
fn an_old_directory_opens_as_before_and_rekey_makes_a_keyring_of_it() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = legacy(&tmp.path().join("a"));
    push(&dir, "x");
    let ring = dir.keyring().unwrap();
    assert_eq!((ring.generation(), ring.current(), ring.entries().len()), (0, 1, 1));
    rekey(&dir, &options(None, true), &mut never).unwrap();
    push(&dir, "y");
    let ring = dir.keyring().unwrap();
    assert_eq!((ring.generation(), ring.current(), ring.entries().len()), (1, 2, 2));
    assert_eq!(payloads(&dir).unwrap(), ["x", "y"]);
    assert!(!fs::read_to_string(dir.log_key()).unwrap().contains(&"1f".repeat(32)));
    // Without its keyring the key file opens nothing, and is not taken for a data key.
    fs::remove_file(dir.keyring_file()).unwrap();
    assert_eq!(dir.keyring().unwrap_err().code, Code::KeyMissing);
}

#[test]
fn a_passphrase_opens_it_and_another_one_changes_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("a");
    let dir = node(&root);
    push(&dir, "x");
    let mut short = || Ok(phrase("short"));
    let e = rekey(&dir, &options(Some(NewKek::Passphrase), false), &mut short).unwrap_err();
    assert_eq!((e.code, payloads(&dir).unwrap().len()), (Code::BadArgument, 1));
    let done = rekey(&dir, &options(Some(NewKek::Passphrase), false), &mut || Ok(phrase(OLD))).unwrap();
    assert_eq!(done.removed, Some(dir.log_key()));
    assert!(!dir.log_key().exists());
    assert_eq!(payloads(&dir_with(&root, OLD)).unwrap(), ["x"]);
    let before = fs::read(dir.keyring_file()).unwrap();
    for (dir, code) in [(DataDir::new(&root), Code::KeyMissing), (dir_with(&root, NEW), Code::WrongKey)] {
        assert_eq!(dir.keyring().unwrap_err().code, code);
        assert_eq!(Replica::open(dir.clone(), Options::default()).unwrap_err().code, code);
        assert_eq!(rekey(&dir, &options(Some(NewKek::Same), true), &mut never).unwrap_err().code, code);
        assert!(fs::read(dir.keyring_file()).unwrap() == before);
    }
    // Once asked, not again; and the line end of a file does not count.
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let once = DataDir::new(&root).with_passphrase(Arc::new(move |_| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(phrase("old horse battery\r\n"))
    }));
    push(&once, "y");
    assert_eq!(payloads(&once).unwrap(), ["x", "y"]);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_key_file_elsewhere_is_made_or_used_as_it_is() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let (made, given) = (tmp.path().join("made.key"), tmp.path().join("given.key"));
    let done = rekey(&dir, &options(Some(NewKek::File(Some(made.clone()))), false), &mut never).unwrap();
    assert_eq!((done.key_file, done.removed), (Some(made.clone()), Some(dir.log_key())));
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&given, "ab".repeat(32)).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o644)).unwrap();
    let to = options(Some(NewKek::File(Some(given.clone()))), false);
    assert_eq!(rekey(&dir, &to, &mut never).unwrap_err().code, Code::KeyExposed);
    fs::set_permissions(&given, fs::Permissions::from_mode(0o600)).unwrap();
    let done = rekey(&dir, &to, &mut never).unwrap();
    assert_eq!((done.key_file, done.left), (None, Some(made)));
    assert_eq!(fs::read(&given).unwrap(), "ab".repeat(32).into_bytes());
    assert_eq!(dir.keyring().unwrap().source(), &Source::File(given.clone()));
    // Rotated in place.
    let done = rekey(&dir, &options(Some(NewKek::Same), false), &mut never).unwrap();
    assert_eq!(done.key_file, Some(given.clone()));
    dir.keyring().unwrap();
    // Back home, by its full name: kept relative, so that the directory can be moved.
    let done = rekey(&dir, &options(Some(NewKek::File(Some(dir.log_key()))), false), &mut never).unwrap();
    assert_eq!((done.ring.source(), done.left), (&Source::File("keys/log.key".into()), Some(given)));
    fs::rename(dir.root(), tmp.path().join("b")).unwrap();
    DataDir::new(tmp.path().join("b")).keyring().unwrap();
}

#[test]
fn a_running_node_and_a_log_of_other_keys_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = legacy(&tmp.path().join("a"));
    push(&dir, "x");
    let held = crate::dir::DirLock::acquire(&dir).unwrap();
    let e = rekey(&dir, &options(None, true), &mut never).unwrap_err();
    assert!(e.code == Code::Locked && e.context.contains("end it first"), "{e}");
    drop(held);
    fs::write(dir.log_key(), format!("{}\n", "20".repeat(32))).unwrap();
    assert_eq!(rekey(&dir, &options(None, true), &mut never).unwrap_err().code, Code::WrongKey);
    assert!(!dir.keyring_file().exists());
}

#[test]
fn a_missing_data_key_costs_its_segments_only_and_nothing_is_written_behind_it() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    push(&dir, "kept");
    let older = fs::read(dir.keyring_file()).unwrap();
    rekey(&dir, &options(None, true), &mut never).unwrap();
    push(&dir, "lost");
    let newer = fs::read(dir.keyring_file()).unwrap();
    // An older backup of the keyring.
    fs::write(dir.keyring_file(), &older).unwrap();
    assert_eq!(payloads(&dir).unwrap(), ["kept"]);
    let view = LogView::open(&dir).unwrap();
    let damages: Vec<_> = view.damages().iter().map(|d| (d.code, d.segment, d.from_page)).collect();
    assert_eq!(damages, [(Code::KeyMissing, 1, 2)]);
    assert_eq!(Replica::open(dir.clone(), Options::default()).unwrap_err().code, Code::KeyMissing);
    // Its number is not given to another key.
    assert_eq!(rekey(&dir, &options(None, true), &mut never).unwrap().new_data_key, Some(3));
    fs::write(dir.keyring_file(), &newer).unwrap();
    assert_eq!(payloads(&dir).unwrap(), ["kept", "lost"]);
}

#[test]
fn without_the_key_in_the_middle_what_stands_before_and_behind_is_read() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let limits = ropeway_core::limits::Limits { segment_bytes: 1 << 20, ..ropeway_core::limits::Limits::clinic() };
    for _ in 0..3 {
        let mut node = Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap();
        // More than fits into a segment.
        for n in 0..5 {
            node.append(Lane::Normal, 0, &vec![n; 200_000]).unwrap();
            node.commit().unwrap();
        }
        drop(node);
        rekey(&dir, &options(None, true), &mut never).unwrap();
    }
    let with_all = fs::read(dir.keyring_file()).unwrap();
    let whole = unlock(&dir).unwrap().ring.data_keys();
    lose_key(&dir, 2);
    let used = crate::store::key_use(&mut crate::store::DirFiles::new(&dir), &whole).unwrap();
    let mut view = LogView::open(&dir).unwrap();
    let unreadable: Vec<_> = view.damages().iter().filter(|d| d.code == Code::KeyMissing).map(|d| d.segment).collect();
    assert_eq!(unreadable, used[&2].segments);
    let (mut first, mut last, mut count) = (u64::MAX, 0, 0);
    let missing = view.read(&Filter::default(), 1, |_, seq, _| {
        (first, last, count) = (first.min(seq), last.max(seq), count + 1);
        Stop::No
    });
    assert_eq!((first, last, missing.unwrap().len()), (1, 15, 1));
    assert!((9..15).contains(&count), "{count}");
    let passed = pass_over(&dir);
    assert_eq!(passed, (count, view.damages().to_vec()));

    // Sealed, and behind a checkpoint under the newest key, the same is missing.
    fs::write(dir.keyring_file(), with_all).unwrap();
    assert!(Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap().maintain(Duration::MAX));
    assert!(!crate::store::DirFiles::new(&dir).list_sealed().unwrap().is_empty());
    lose_key(&dir, 2);
    let (sealed_count, damages) = pass_over(&dir);
    assert_eq!(sealed_count, count);
    assert!(damages.iter().all(|d| d.code == Code::KeyMissing), "{damages:?}");
    assert_eq!(LogView::open_quickly(&dir).unwrap().frontier().map(|e| e.top).max(), Some(15));
    // The checkpoint's own key is missing, too: all is read instead.
    lose_key(&dir, 1);
    lose_key(&dir, 3);
    assert!(LogView::open_quickly(&dir).is_ok());
}

fn lose_key(dir: &DataDir, id: u32) {
    let Unlocked { mut ring, kek } = unlock(dir).unwrap();
    ring.keys.retain(|k| k.id != id);
    file::create(&dir.keyring_file(), &ring, &kek.unwrap()).unwrap();
}

/// Counts events.
struct Count(u64);

impl pass::Visitor for Count {
    fn event(&mut self, _: &pass::Seen<'_>) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

/// How many events a pass meets, and what it finds wrong.
fn pass_over(dir: &DataDir) -> (u64, Vec<Damage>) {
    let (mut pass, mut read) = (pass::Pass::new(dir).unwrap(), Count(0));
    let _ = pass.run(&pass::Filter::default(), &mut read).unwrap();
    (read.0, pass.damages().to_vec())
}

#[test]
fn a_reader_that_goes_on_learns_of_keys_made_since_it_began() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    push(&dir, "before");
    let (mut pass, mut read) = (pass::Pass::new(&dir).unwrap(), Count(0));
    let _ = pass.run(&pass::Filter::default(), &mut read).unwrap();
    rekey(&dir, &options(None, true), &mut never).unwrap();
    push(&dir, "after");
    let _ = pass.run(&pass::Filter::default(), &mut read).unwrap();
    assert_eq!((read.0, pass.damages()), (2, &[][..]));
}

#[test]
fn a_key_that_an_interrupted_write_left_is_gone_after_the_next_start_and_the_next_rekey() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let left = |path: &Path| {
        let left = path.with_extension("key.tmp");
        fs::copy(path, &left).unwrap();
        left
    };
    let first = left(&dir.log_key());
    push(&dir, "x");
    assert!(!first.exists());
    let given = tmp.path().join("given.key");
    for (kek, present) in [(NewKek::File(Some(given.clone())), dir.log_key()), (NewKek::Passphrase, given)] {
        let left = left(&present);
        rekey(&dir, &options(Some(kek), false), &mut || Ok(phrase(OLD))).unwrap();
        assert!(!left.exists(), "{left:?}");
    }
    assert_eq!(payloads(&dir_with(dir.root(), OLD)).unwrap(), ["x"]);
}

#[test]
fn a_full_keyring_and_a_newer_one_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let kek = Kek::of(parse_key_file(&fs::read(dir.log_key()).unwrap()).unwrap().swap_remove(0).key);
    let mut ring = dir.keyring().unwrap();
    for id in 2..=KEYS_MAX as u32 {
        ring.keys.push(KeyEntry { id, made_s: 0, key: LogKey::random().unwrap() });
    }
    file::create(&dir.keyring_file(), &ring, &kek).unwrap();
    assert_eq!(dir.keyring().unwrap().entries().len(), KEYS_MAX);
    assert_eq!(rekey(&dir, &options(None, true), &mut never).unwrap_err().code, Code::Limit);
    rekey(&dir, &options(Some(NewKek::Same), false), &mut never).unwrap();
    assert_eq!(dir.keyring().unwrap().entries().len(), KEYS_MAX);

    let mut bytes = fs::read(dir.keyring_file()).unwrap();
    bytes[8192 + 8] = 2;
    let slot = with_right_crc(&bytes[8192..]);
    bytes[8192..].copy_from_slice(&slot);
    fs::write(dir.keyring_file(), &bytes).unwrap();
    assert_eq!(dir.keyring().unwrap_err().code, Code::FormatNewer);
    assert_eq!(rekey(&dir, &options(None, true), &mut never).unwrap_err().code, Code::FormatNewer);
    assert!(fs::read(dir.keyring_file()).unwrap() == bytes);
    fs::write(dir.keyring_file(), [0; 99]).unwrap();
    assert_eq!(dir.keyring().unwrap_err().code, Code::KeyBad);
}

/// One way to rekey: how the directory is made, what is asked for.
type Way = (fn(&Path) -> DataDir, RekeyOptions);

fn with_passphrase(root: &Path) -> DataDir {
    let dir = node(root);
    rekey(&dir, &options(Some(NewKek::Passphrase), false), &mut || Ok(phrase(OLD))).unwrap();
    dir
}

fn ways() -> Vec<Way> {
    vec![
        (node, options(Some(NewKek::Same), false)),
        (node, options(None, true)),
        (node, options(Some(NewKek::Passphrase), true)),
        (legacy, options(None, false)),
        (legacy, options(Some(NewKek::Passphrase), false)),
        (with_passphrase, options(Some(NewKek::Same), true)),
        (with_passphrase, options(Some(NewKek::File(None)), false)),
    ]
}

/// The directory opens with what its owner had or chose, and shows everything.
fn opens(root: &Path) {
    let tries = [OLD, NEW].map(|text| payloads(&dir_with(root, text)));
    let good = tries.iter().flatten().count();
    assert!(good > 0 && tries.iter().flatten().all(|p| *p == ["x"]), "{tries:?}");
}

#[test]
fn killed_before_any_step_or_on_a_full_disk_it_opens_with_the_old_or_the_new_key() {
    let tmp = tempfile::tempdir().unwrap();
    for (w, (make, how)) in ways().into_iter().enumerate() {
        let made = tmp.path().join(format!("{w}"));
        drop(make(&made));
        push(&dir_with(&made, OLD), "x");
        small(&made);
        let mut steps = usize::MAX;
        let mut kill_at = 0;
        while kill_at < steps {
            let root = tmp.path().join(format!("{w}-{kill_at}"));
            copy(&made, &root);
            let dir = dir_with(&root, OLD);
            let mut at = 0;
            let mut step = |_: &'static str| {
                at += 1;
                // A kill and a refused write leave the same: nothing is undone.
                if at > kill_at { Err(Code::DiskFull.into()) } else { Ok(()) }
            };
            let done = rekey::rekey_by_steps(&dir, &how, &mut || Ok(phrase(NEW)), &mut step);
            opens(&root);
            match done {
                Err(e) => assert_eq!(e.code, Code::DiskFull),
                Ok(_) => steps = at,
            }
            // Whoever comes back after it can end the work.
            let knows = if dir_with(&root, OLD).keyring().is_ok() { OLD } else { NEW };
            let again = rekey(&dir_with(&root, knows), &how, &mut || Ok(phrase(NEW))).unwrap();
            let dir = dir_with(&root, NEW);
            assert!(!dir.keyring().unwrap().is_unfinished());
            assert_eq!(payloads(&dir).unwrap(), ["x"]);
            let in_file = matches!(again.ring.source(), Source::File(_));
            assert_eq!(dir.log_key().exists(), in_file, "way {w}, step {kill_at}");
            kill_at += 1;
        }
        assert!(steps >= 2, "way {w} has {steps} steps");
    }
}

#[test]
fn after_an_interrupted_rekey_what_counts_is_made_durable_before_the_other_slot_goes() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    let mut kill = |what: &'static str| if what == "second slot" { Err(Code::Io.into()) } else { Ok(()) };
    rekey::rekey_by_steps(&dir, &options(None, true), &mut never, &mut kill).unwrap_err();
    let ring = dir.keyring().unwrap();
    assert!(ring.is_unfinished() && ring.current() == 2);
    let mut steps = Vec::new();
    let mut note = |what: &'static str| {
        steps.push(what);
        Ok(())
    };
    let done = rekey::rekey_by_steps(&dir, &options(None, true), &mut never, &mut note).unwrap();
    // The newest slot has two blocks, and the other two have changed in one.
    assert_eq!((done.bytes_written, done.new_data_key), (4 * 4096, Some(3)));
    assert_eq!(steps, ["newest slot again", "first slot", "second slot"]);
}

#[test]
fn a_slot_torn_anywhere_leaves_the_other_one() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = node(&tmp.path().join("a"));
    for _ in 0..2 {
        let (old_text, old) = (fs::read(dir.log_key()).unwrap(), fs::read(dir.keyring_file()).unwrap());
        rekey(&dir, &options(Some(NewKek::Same), true), &mut never).unwrap();
        let (new_text, new) = (fs::read(dir.log_key()).unwrap(), fs::read(dir.keyring_file()).unwrap());
        let kek = |text: &[u8]| Kek::of(parse_key_file(text).unwrap().swap_remove(0).key);
        let (old_kek, new_kek) = (kek(&old_text), kek(&new_text));
        let (from, _) = parse_file(&old).map(|s| (s.newest().0.bytes() == &old[..8192], 0)).unwrap();
        let first = if from { 8192 } else { 0 };
        for (n, slot) in [first, 8192 - first].into_iter().enumerate() {
            for cut in (0..=8192).step_by(64) {
                let mut torn = old.clone();
                if n == 1 {
                    torn[first..first + 8192].copy_from_slice(&new[first..first + 8192]);
                }
                torn[slot..slot + cut].copy_from_slice(&new[slot..slot + cut]);
                // What stood where the write ended may be neither.
                if cut < 4096 && cut % 512 == 0 {
                    torn[slot + cut..slot + cut + 64].fill(0x99);
                }
                let slots = parse_file(&torn).unwrap();
                let opened = [&old_kek, &new_kek].map(|k| slots.newest().0.open(k).is_ok());
                assert_eq!(opened.iter().filter(|o| **o).count(), 1, "slot {n}, cut {cut}");
                assert!(n == 0 || opened[1], "the second slot is written when the first one holds");
            }
        }
        assert_ne!(hex(&old[..64]), hex(&new[..64]));
    }
}
