use super::*;
use crate::dir::DataDir;
use crate::store::{Damage, DirFiles, Files};
use ropeway_core::code::Code;
use ropeway_core::log::RepairHead;

fn damage(segment: u64, from_page: u64, to_page: u64) -> Damage {
    Damage { code: Code::Corrupt, segment, from_page, to_page, sealed: false }
}

fn note(d: &Damage, repaired: bool) -> Note {
    let Damage { code, segment, from_page, to_page, sealed } = *d;
    let (cost_known, at_ms, digest) = (true, 5, [0; 32]);
    Note {
        head: RepairHead { repaired, sealed, cost_known, code, segment, from_page, to_page, at_ms, digest },
        lost: Vec::new(),
    }
}

#[test]
fn the_newest_note_speaks_for_all_that_it_covers_and_for_nothing_else() {
    let mut ledger = Ledger::default();
    let (small, wide) = (damage(3, 5, 6), damage(3, 4, 8));
    ledger.take(note(&small, false));
    assert_eq!(ledger.judge(std::slice::from_ref(&small))[0].fate, Fate::Open(Some(5)));
    assert_eq!(ledger.judge(std::slice::from_ref(&wide)).len(), 2, "what was added is new");
    ledger.take(note(&wide, false));
    assert_eq!(ledger.notes().len(), 1);
    ledger.take(note(&wide, true));
    assert_eq!(ledger.judge(&[small.clone(), wide]).iter().filter(|j| j.is_loss()).count(), 0);
    let sealed = Damage { sealed: true, ..small.clone() };
    assert!(ledger.judge(&[sealed])[0].is_loss(), "pages of another file");
    assert!(ledger.judge(&[damage(3, 7, 9)])[0].is_loss());
    // What is sealed away is told of all the same.
    assert_eq!(ledger.judge(&[])[0].fate, Fate::Repaired(5));
    ledger.take(note(&small, false));
    assert!(ledger.judge(&[small])[0].is_loss(), "damaged once more");
    assert_eq!(
        (ledger.hot_damage_at(3, 4, true), ledger.hot_damage_at(3, 8, false), ledger.hot_damage_at(2, 4, false)),
        (Some(8), None, None)
    );
}

#[test]
fn damaged_pages_are_copied_once_and_the_oldest_copies_make_room() {
    let home = tempfile::tempdir().unwrap();
    let dir = DataDir::new(home.path());
    std::fs::create_dir_all(dir.log()).unwrap();
    let mut files = DirFiles::new(&dir);
    files.provision(1, 16 << 20).unwrap();
    files.write_at(1, 4096, &[7; 4096]).unwrap();
    let set = |files: &mut DirFiles, d: &Damage| set_aside(&dir, files, std::slice::from_ref(d));
    let digest = set(&mut files, &damage(1, 1, 2))[0].1;
    assert_eq!(digest, *blake3::hash(&[7; 4096]).as_bytes());
    let copy = dir.quarantine().join("seg-00000001-pages-1-2.bin");
    assert_eq!(std::fs::read(&copy).unwrap(), [7; 4096]);
    // The first copy stays what it is, whatever becomes of the page.
    files.write_at(1, 4096, &[8; 4096]).unwrap();
    set(&mut files, &damage(1, 1, 2));
    assert_eq!(std::fs::read(&copy).unwrap(), [7; 4096]);
    assert_eq!(set(&mut files, &damage(9, 1, 2))[0].1, [0; 32], "nothing can be read");
    for n in 0..6 {
        set(&mut files, &damage(1, n, n + 4000));
    }
    let kept: u64 = std::fs::read_dir(dir.quarantine()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(kept <= QUARANTINE_MAX_BYTES && !copy.exists(), "{kept}");
}
