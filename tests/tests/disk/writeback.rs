//! A real kernel loses pages that it has taken: the card under an ext4 has no room for them. The
//! first fsync says so, the next ones say that all is well.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use ropeway_core::code::Code;
use ropeway_core::log::{MAX_BODY_BYTES, SegmentName};
use ropeway_std::store::recover;
use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::{Ballast, Ext4, Tmpfs, scratch};
use ropeway_tests::name;
use ropeway_tests::numbered::{held, open, small, write};
use ropeway_tests::process::said;

/// Gives the pages of the first segment, from `from` on, back to the file system that holds the image,
/// without ext4's knowledge: they read as zeros, and there may be no room to write them.
fn punch(disk: &Ext4, from: u64) {
    let file = format!("blocks /node/log/{}", SegmentName(1));
    let blocks = Command::new("debugfs").args(["-R", &file, disk.device()]).output().unwrap();
    let text = String::from_utf8_lossy(&blocks.stdout).into_owned();
    let blocks: Vec<u64> = text.split_whitespace().filter_map(|b| b.parse().ok()).collect();
    assert_eq!(blocks.len() * 4096, small().limits.segment_bytes, "{text}");
    let held = || std::fs::metadata(&disk.image).unwrap().blocks();
    let before = held();
    for block in &blocks[from as usize..] {
        let (offset, image) = ((block * 4096).to_string(), disk.image.to_str().unwrap());
        let args = ["--punch-hole", "--offset", &offset, "--length", "4096", image];
        let output = Command::new("fallocate").args(args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(held() < before, "no hole was made");
}

#[test]
fn after_a_writeback_error_of_a_real_kernel_nothing_is_acknowledged_that_is_not_on_the_card() {
    let home = scratch();
    let Some(below) = Tmpfs::mount(&home.path().join("below"), 24 << 20) else { return };
    let Some(disk) = Ext4::make(&below.at, 16 << 20) else { return };
    let dir = DataDir::new(disk.at.join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut node = open(&dir).unwrap();
    write(&mut node, 1, 3, 300).unwrap();
    let (mut certain, mut next) = (3, 4);
    disk.sync().unwrap();
    // The card has a place for everything that ext4 itself needs, and none for the log's next pages.
    let allocated = Command::new("fallocate").args(["--length", "16M"]).arg(&disk.image).output().unwrap();
    assert!(allocated.status.success(), "{}", said(&allocated));
    let newest = recover(&dir, name("clinic_a"), 64, MAX_BODY_BYTES).unwrap().newest.unwrap();
    assert_eq!(newest.segment, 1);
    punch(&disk, newest.to_page);
    let lost = Ballast::fill(&below.at, 0);
    let e = write(&mut node, next, 3, 300).expect_err("a write that the card has no room for");
    assert_eq!(e.code, Code::Storage, "{e}");
    // The kernel has forgotten it by now. We have not, not even with room on the card.
    for _ in 0..2 {
        assert_eq!(node.commit().unwrap_err().code, Code::Storage);
    }
    drop(lost);
    assert_eq!(node.commit().unwrap_err().code, Code::Storage);
    assert_eq!(write(&mut node, next, 3, 300).unwrap_err().code, Code::Storage);
    assert_eq!(node.frontier().map(|f| f.top).sum::<u64>(), certain);
    drop(node);

    // The next start finds the group in the page cache. It may promise it only once it is on the card.
    let again = Ballast::fill(&below.at, 0);
    let seen = held(&dir).unwrap();
    assert!(seen.clean && (certain..=certain + 3).contains(&seen.count), "{seen:?}");
    println!("the page cache shows {} events, {certain} were acknowledged", seen.count);
    if seen.count > certain {
        let e = open(&dir).expect_err("a start that cannot make its newest group durable");
        assert!(matches!(e.code, Code::Storage | Code::Io), "{e}");
    }
    drop(again);
    let node = open(&dir).unwrap();
    let promised: u64 = node.frontier().map(|f| f.top).sum();
    assert_eq!(promised, seen.count);
    disk.cut_power().unwrap();
    drop(node);
    disk.power_on().unwrap();
    let found = held(&dir).unwrap();
    assert!(found.clean && found.count == promised, "{promised} were promised: {found:?}");
    (certain, next) = (found.count, found.count + 1);
    let mut node = open(&dir).unwrap();
    write(&mut node, next, 3, 300).unwrap();
    assert_eq!(held(&dir).unwrap().count, certain + 3);
}
