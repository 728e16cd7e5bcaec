//! A card that is pulled out while a node works on it, and put back: what was open stays broken until the log is
//! opened again, and nothing that was acknowledged is lost.

use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::{Ext4, scratch};
use ropeway_tests::numbered::{held, open, write};
use ropeway_tests::process::{Hub, said, verb};
use ropeway_tests::{Deployment, name};

#[test]
fn a_card_that_was_pulled_out_and_put_back_is_not_written_to_before_the_log_is_opened_again() {
    let home = scratch();
    let Some(mut card) = Ext4::make(home.path(), 16 << 20) else { return };
    let dir = DataDir::new(card.at.join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut node = open(&dir).unwrap();
    write(&mut node, 1, 3, 300).unwrap();
    card.sync().unwrap();
    card.cut_power().unwrap();
    let first = write(&mut node, 4, 3, 300).unwrap_err();
    assert!(first.code.as_u16() >= 300, "{first}");
    card.put_back().unwrap();
    for _ in 0..3 {
        write(&mut node, 4, 3, 300).unwrap_err();
        node.commit().unwrap_err();
    }
    let there = held(&dir).unwrap();
    assert!(there.clean && there.count == 3, "{there:?}");
    drop(node);
    let mut node = open(&dir).unwrap();
    write(&mut node, 4, 3, 300).unwrap();
    drop(node);
    let there = held(&dir).unwrap();
    assert!(there.clean && there.count == 6, "{there:?}");
}

#[test]
fn a_hub_whose_card_is_pulled_out_acknowledges_nothing_more_until_it_starts_again() {
    let home = scratch();
    let Some(mut card) = Ext4::make(home.path(), 48 << 20) else { return };
    let d = Deployment::new_in(tempfile::tempdir_in(&card.at).unwrap(), &[]);
    // The clinic has a card of its own.
    let own = scratch();
    let clinic = DataDir::new(own.path().join("clinic_a"));
    keygen::init_node(&clinic, name("clinic_a")).unwrap();
    sign(&clinic.node_csr(), &d.hub(), &SignOptions::default()).unwrap();
    let mut node = open(&clinic).unwrap();
    write(&mut node, 1, 6, 300).unwrap();
    drop(node);
    let hub = Hub::start(&d.path("hub"), "at first");
    let sync = |hub: &Hub| verb("sync", clinic.root(), &["--hub", &hub.address, "--timeout-s", "5"]).output().unwrap();
    let output = sync(&hub);
    assert!(output.status.success(), "{}", said(&output));
    write(&mut open(&clinic).unwrap(), 7, 6, 300).unwrap();
    card.cut_power().unwrap();
    for back in [false, true] {
        if back {
            card.put_back().unwrap();
        }
        let output = sync(&hub);
        assert!(!output.status.success() && !said(&output).contains("6 acknowledged"), "{back}: {}", said(&output));
    }
    assert_eq!(held(&d.hub()).unwrap().count, 6);
    drop(hub);
    let hub = Hub::start(&d.path("hub"), "again");
    let output = sync(&hub);
    assert!(output.status.success(), "{}", said(&output));
    drop(hub);
    let there = held(&d.hub()).unwrap();
    assert!(there.clean && there.count == 12, "{there:?}");
}
