use super::*;
use crate::dir::DataDir;
use crate::keygen::init_node;
use crate::replica::{Options, Replica};
use crate::store::DirFiles;
use ropeway_core::id::{Lane, NodeName};
use ropeway_core::limits::Limits;
use std::os::unix::fs::FileExt;

fn node() -> (tempfile::TempDir, DataDir) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path().join("a"));
    init_node(&dir, NodeName::new("clinic_a").unwrap()).unwrap();
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
    let mut replica = Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap();
    for i in 0..600u32 {
        replica.append(Lane::Normal, 0, &vec![i as u8; 3000]).unwrap();
        replica.commit().unwrap();
    }
    replica.maintain(std::time::Duration::from_secs(60));
    (tmp, dir)
}

/// Scrubs until a round is over; the segments that look bad, and how far it was at each segment's end.
fn round(dir: &DataDir, progress: Progress, end: (u64, u64)) -> (Vec<(u64, bool)>, Vec<Progress>) {
    let mut scrub = Scrub::new(DirFiles::new(dir), progress);
    let (mut suspects, mut through) = (Vec::new(), Vec::new());
    for step in 1.. {
        let (done, suspect) = scrub.step(end, 64 << 10, 1000 + step);
        suspects.extend(suspect);
        match done {
            Scrubbed::Through(p) if p.read == 0 => return (suspects, through),
            Scrubbed::Through(p) => through.push(p),
            _ => assert!(step < 10_000),
        }
    }
    unreachable!()
}

#[test]
fn every_segment_is_read_in_small_pieces_and_a_restart_goes_on() {
    let (_tmp, dir) = node();
    let last = DirFiles::new(&dir).list().unwrap().into_iter().max().unwrap();
    let (suspects, through) = round(&dir, Progress::default(), (last, 0));
    assert_eq!((suspects.len(), through.last().unwrap().read), (0, last));
    let half = through[0];
    assert_eq!((half.next, half.read, half.segments), (2, 1, last));
    half.save(&dir);
    let (_, rest) = round(&dir, Progress::load(&dir).unwrap(), (last, 0));
    assert_eq!(rest.len() as u64, last - 1);
    std::fs::write(dir.root().join("scrub.json"), "nonsense").unwrap();
    assert_eq!(Progress::load(&dir), None);

    let sealed = dir.log().join("seg-00000001.sealed");
    let file = std::fs::OpenOptions::new().write(true).open(sealed).unwrap();
    file.write_all_at(b"rot", 300).unwrap();
    assert_eq!(round(&dir, Progress::default(), (last, 0)).0, [(1, true)]);
}

#[test]
fn a_rate_is_a_word_or_a_number() {
    let parse = |s: &str| s.parse::<ScrubRate>().ok();
    assert_eq!((parse("monthly"), parse("off")), (Some(ScrubRate::Monthly), Some(ScrubRate::Off)));
    assert_eq!((parse("500"), parse("2M")), (Some(ScrubRate::BytesPerS(500)), Some(ScrubRate::BytesPerS(2 << 20))));
    assert_eq!((parse("0"), parse("fast"), parse("-1k")), (None, None, None));
}
