//! The keyring and the files that open it.

use zeroize::Zeroizing;

use crate::keyring::{Kek, key_file_text, parse_file, parse_key_file, parse_slot, seal_slot, with_right_crc};

/// The key under which the seeds were sealed.
fn kek() -> Kek {
    Kek::of(Zeroizing::new([0x22; 32]))
}

/// The first byte chooses: a slot, its checksum set right; a whole keyring file; a key file.
pub fn keyring(data: &[u8]) {
    let Some((&choice, content)) = data.split_first() else { return };
    match choice % 3 {
        0 => check_slot(&with_right_crc(content)),
        1 => check_file(content),
        _ => check_key_file(content),
    }
}

/// What opens is the same bytes when it is sealed again.
fn check_slot(bytes: &[u8]) {
    let Ok(slot) = parse_slot(bytes) else { return };
    let Ok(ring) = slot.open(&kek()) else { return };
    assert!(ring.current_key().is_ok(), "there is a key to write under");
    assert_eq!(ring.data_keys().len(), ring.entries().len());
    let again = seal_slot(&ring, &kek(), &slot.nonce()).expect("it was sealed before");
    assert!(again == bytes, "one keyring has one spelling");
}

fn check_file(bytes: &[u8]) {
    let Ok(slots) = parse_file(bytes) else { return };
    let (slot, _) = slots.newest();
    assert!(!slot.source().to_string().is_empty());
}

fn check_key_file(text: &[u8]) {
    let Ok(lines) = parse_key_file(text) else { return };
    let keks: Vec<Kek> = lines.into_iter().map(|l| Kek::of(l.key)).collect();
    let ours = key_file_text(&keks.iter().collect::<Vec<_>>());
    let again = parse_key_file(ours.as_bytes()).expect("our own");
    assert!(again.iter().all(|l| !l.bare) && again.len() == keks.len());
    let text = key_file_text(&again.into_iter().map(|l| Kek::of(l.key)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert!(*text == *ours);
}
