//! Two processes on one directory, stops, full disks and wrong keys: what was acknowledged stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::policy::Policy;
use ropeway_mio::daemon::{Daemon, DaemonOptions};
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::{DataDir, Options, Replica, keygen};
use ropeway_tests::process::{Hub, assert_clean, said, verb};
use ropeway_tests::{Deployment, name, noise};

#[test]
fn a_second_process_on_a_directory_is_refused() {
    let d = Deployment::new(&["clinic_a"]);
    let held = d.open("clinic_a");
    assert_eq!(Replica::open(d.dir("clinic_a"), Options::default()).unwrap_err().code, Code::Locked);
    for (v, more) in [("push", ["--payload", "x"]), ("sync", ["--hub", "127.0.0.1:1"])] {
        let o = verb(v, &d.path("clinic_a"), &more).output().unwrap();
        assert_eq!(o.status.code(), Some(5), "{}", said(&o));
        assert!(said(&o).contains("R301"), "{}", said(&o));
    }
    // Reading needs no lock.
    assert_clean(&d.path("clinic_a"), "while it is locked");
    drop(held);
    let o = verb("push", &d.path("clinic_a"), &["--payload", "x"]).output().unwrap();
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
}

#[test]
fn a_second_daemon_on_a_directory_is_refused_and_the_first_goes_on() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = Hub::start(&d.path("hub"), "the first");
    let o = verb("serve", &d.path("hub"), &["--bind", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(o.status.code(), Some(5), "{}", said(&o));
    assert!(said(&o).contains("R301"), "{}", said(&o));
    let again = Daemon::bind(d.hub(), DaemonOptions::new("127.0.0.1:0".parse().unwrap()));
    assert_eq!(again.unwrap_err().code, Code::Locked);
    d.push("clinic_a", [b"x"]);
    d.open("clinic_a").sync(&hub.address, &Default::default(), |_| ()).unwrap();
    assert_eq!(d.payloads("hub", "clinic_a"), [b"x"]);
}

#[test]
fn sigterm_in_the_middle_of_five_syncs_ends_well_and_keeps_what_was_acknowledged() {
    let clinics = ["clinic_a", "clinic_b", "clinic_c", "clinic_d", "clinic_e"];
    let d = Deployment::new(&clinics);
    let all = noise(3, 4000, 300);
    for c in clinics {
        d.push(c, &all);
    }
    let hub = Hub::start(&d.path("hub"), "at first");
    let (begun, begins) = std::sync::mpsc::channel();
    let syncs: Vec<_> = clinics
        .into_iter()
        .map(|c| {
            let (mut clinic, address, begun) = (d.open(c), hub.address.clone(), begun.clone());
            std::thread::spawn(move || {
                let outcome = clinic.sync(&address, &Default::default(), |r| {
                    if r.acknowledged > 0 {
                        let _ = begun.send(());
                    }
                });
                match outcome {
                    Ok(r) => (c, r, None),
                    Err(e) => (c, *e.report, Some(e.error.code)),
                }
            })
        })
        .collect();
    begins.recv().unwrap();
    assert_eq!(hub.terminate(), Some(0));
    assert_clean(&d.path("hub"), "after SIGTERM");
    for sync in syncs {
        let (c, report, code) = sync.join().unwrap();
        assert!(matches!(code, None | Some(Code::Stopping | Code::Cut | Code::Unreachable)), "{code:?}");
        let held = d.payloads("hub", c);
        assert!(all.starts_with(&held) && held.len() as u64 >= report.acknowledged, "{} {report:?}", held.len());
    }
    let hub = Hub::start(&d.path("hub"), "after SIGTERM");
    for c in clinics {
        d.open(c).sync(&hub.address, &Default::default(), |_| ()).unwrap();
        assert!(d.payloads("hub", c) == all);
    }
}

/// A tmpfs of a few megabytes, if this user may mount one.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]).arg(at);
        match mount.output() {
            Ok(o) if o.status.success() => Some(Self(at.to_owned())),
            other => {
                println!("skipped: a tmpfs cannot be mounted here: {:?}", other.map(|o| said(&o)));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_events_keeps_those_it_took_and_still_syncs() {
    let d = Deployment::new(&[]);
    let Some(disk) = SmallDisk::mount(&d.root().join("card"), 4 << 20) else { return };
    let dir = DataDir::new(disk.0.join("clinic_a"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    sign(&dir.node_csr(), &d.hub(), &SignOptions::default()).unwrap();
    let options = Options { limits: Limits { segment_bytes: 1 << 20, ..Limits::clinic() }, ..Options::default() };
    let mut clinic = Replica::open(dir.clone(), options).unwrap();
    let payloads = noise(4, 6000, 1000);
    let (mut taken, mut certain) = (0, 0);
    let refused = loop {
        let mut outcome = Ok(());
        for p in &payloads[taken..taken + 10] {
            outcome = clinic.append(Lane::Normal, 0, p).map(|_| taken += 1);
            if outcome.is_err() {
                break;
            }
        }
        if let Err(e) = outcome.and_then(|()| clinic.commit()) {
            break e;
        }
        certain = taken;
    };
    assert_eq!(refused.code, Code::DiskFull, "{refused}");
    assert!((2000..4096).contains(&certain), "{certain}");
    drop(clinic);

    // The program says it too.
    let o = verb("push", dir.root(), &["--ndjson", "/dev/stdin"]).output().unwrap();
    assert_eq!(o.status.code(), Some(0), "nothing to push: {}", said(&o));
    assert_clean(dir.root(), "on a full disk");

    let mut clinic = Replica::open(dir.clone(), options).unwrap();
    let hub = d.serve(Policy::Own);
    let report = clinic.sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert!(report.acknowledged as usize >= certain && report.acknowledged as usize <= taken, "{report:?}");
    let held = d.payloads("hub", "clinic_a");
    assert!(held.len() >= certain && payloads.starts_with(&held));
    // Sealing has made some room meanwhile; it is used, and ends.
    let mut refusals = (0..4096)
        .filter_map(|_| clinic.append(Lane::Normal, 0, &payloads[0]).map(|_| ()).and_then(|()| clinic.commit()).err());
    assert_eq!(refusals.next().unwrap().code, Code::DiskFull);
}

#[test]
fn push_to_a_full_disk_says_r307() {
    let d = Deployment::new(&[]);
    // Room for the keys, not for a segment.
    let Some(disk) = SmallDisk::mount(&d.root().join("card"), 1 << 20) else { return };
    let dir = DataDir::new(disk.0.join("clinic_a"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    for _ in 0..2 {
        let o = verb("push", dir.root(), &["--payload", "x"]).output().unwrap();
        assert_eq!(o.status.code(), Some(1), "{}", said(&o));
        assert!(said(&o).contains("R307"), "{}", said(&o));
    }
    assert_clean(dir.root(), "after R307");
}

/// Every file below `dir` but the lock, which holds a process id.
pub(crate) fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("lock") {
                all.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_wrong_key_leaves_every_byte_as_it_is_and_says_r204() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    d.push("clinic_a", noise(5, 100, 50));
    let key = fs::read(d.dir("clinic_a").log_key()).unwrap();
    fs::copy(d.dir("clinic_b").log_key(), d.dir("clinic_a").log_key()).unwrap();
    let before = bytes_of(&d.path("clinic_a"));
    let attempts: [(&str, &[&str]); 6] = [
        ("push", &["--payload", "x"]),
        ("push", &["--ndjson", "/dev/null"]),
        ("sync", &["--hub", "127.0.0.1:1"]),
        ("pull", &[]),
        ("status", &[]),
        ("verify", &[]),
    ];
    for (v, more) in attempts {
        let o = verb(v, &d.path("clinic_a"), more).output().unwrap();
        assert_eq!(o.status.code(), Some(1), "{v}: {}", said(&o));
        assert!(said(&o).contains("R204"), "{v}: {}", said(&o));
        assert!(bytes_of(&d.path("clinic_a")) == before, "{v} has changed something");
    }
    assert_eq!(Replica::open(d.dir("clinic_a"), Options::default()).unwrap_err().code, Code::WrongKey);
    assert!(bytes_of(&d.path("clinic_a")) == before);
    fs::write(d.dir("clinic_a").log_key(), key).unwrap();
    assert_eq!(d.payloads("clinic_a", "clinic_a"), noise(5, 100, 50));
}
