//! A card at the end of its life: mounted read-only, or without a free byte, perhaps with the torn write
//! of the power cut that came before. What it holds is still sent.

use std::process::Command;

use ropeway_core::policy::Policy;
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::{Ballast, Ext4, Tmpfs, scratch};
use ropeway_tests::numbered::{held, open, write};
use ropeway_tests::process::{said, verb};
use ropeway_tests::{Deployment, name};

/// A clinic with nine events in three groups; the last may have been torn. How many are left.
fn clinic(d: &Deployment, dir: &DataDir, torn: bool) -> u64 {
    keygen::init_node(dir, name("clinic_a")).unwrap();
    sign(&dir.node_csr(), &d.hub(), &SignOptions::default()).unwrap();
    let mut node = open(dir).unwrap();
    for group in 0..3 {
        write(&mut node, group * 3 + 1, 3, 300).unwrap();
    }
    drop(node);
    if torn {
        let tear = Command::new(env!("CARGO_BIN_EXE_ropeway-work")).arg("tear").arg(dir.root()).output().unwrap();
        assert!(tear.status.success(), "{}", said(&tear));
    }
    held(dir).unwrap().count
}

/// `code` refuses a push; a sync brings everything to the hub.
fn refuses_and_sends(d: &Deployment, dir: &DataDir, count: u64, code: &str, when: &str) {
    let push = verb("push", dir.root(), &["--payload", &"x".repeat(30_000)]).output().unwrap();
    assert!(push.status.code() == Some(1) && said(&push).contains(code), "{when}: {}", said(&push));
    let hub = d.serve(Policy::Own);
    let sync = verb("sync", dir.root(), &["--hub", &hub.address.to_string()]).output().unwrap();
    // It may have an end to tell of: the hub's receipts cannot be written down on such a card.
    let text = said(&sync);
    assert!(text.contains(&format!("{count} acknowledged")), "{when}: {text}");
    assert!(sync.status.success() || text.contains(code), "{when}: {text}");
    drop(hub);
    let there = held(&d.hub()).unwrap();
    assert!(there.clean && there.count == count, "{when}: {count} of {there:?}");
}

#[test]
fn a_card_that_is_mounted_read_only_is_refused_events_and_sends_those_it_holds() {
    for torn in [false, true] {
        let home = scratch();
        let Some(card) = Ext4::make(home.path(), 12 << 20) else { return };
        let d = Deployment::new_in(scratch(), &[]);
        let dir = DataDir::new(card.at.join("node"));
        let count = clinic(&d, &dir, torn);
        card.sync().unwrap();
        card.read_only().unwrap();
        refuses_and_sends(&d, &dir, count, "R309", &format!("torn: {torn}"));
        let seen = held(&dir).unwrap();
        assert!(seen.clean && seen.count == count, "torn: {torn}: {seen:?}");
    }
}

#[test]
fn a_disk_without_a_free_byte_still_sends_what_it_holds_also_after_a_torn_write() {
    for torn in [false, true] {
        let home = scratch();
        let Some(card) = Tmpfs::mount(&home.path().join("card"), 2 << 20) else { return };
        let d = Deployment::new_in(scratch(), &[]);
        let dir = DataDir::new(card.at.join("node"));
        let count = clinic(&d, &dir, torn);
        let _full = Ballast::fill(&card.at, 0);
        refuses_and_sends(&d, &dir, count, "R307", &format!("torn: {torn}"));
    }
}
