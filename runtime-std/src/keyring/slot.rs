//! One slot of the keyring file (docs/KEYS.md#slot-1): codec, sealing, opening.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use crc::{CRC_32_ISCSI, Crc};
use ropeway_core::code::Code;
use zeroize::Zeroizing;

use super::source::{Kek, PassphraseParams, Source};
use super::{KEYS_MAX, KeyEntry, Keyring};
use crate::dir::LogKey;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 8192;
/// Longest path of a key file.
pub(super) const PATH_MAX_BYTES: usize = 512;

const MAGIC: &[u8; 8] = b"\x89RPK\r\n\x1a\n";
const VERSION: u16 = 1;
const SUITE: u8 = 1;
const HEADER_BYTES: usize = 128;
const CRC_AT: usize = 124;
const TAG_BYTES: usize = 16;
/// Number, time and key of one data key.
const ENTRY_BYTES: usize = 44;
const CHECK_CONTEXT: &str = "ropeway 2026 keyring key check v1";
const WRAP_CONTEXT: &str = "ropeway 2026 keyring wrap key v1";
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A slot that was read and not yet opened.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(super) generation: u64,
    source: Source,
    kek_made_s: u64,
    current: u32,
    count: usize,
    nonce: [u8; 24],
    check: [u8; 16],
    /// The whole slot.
    bytes: Vec<u8>,
}

fn crc(slot: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&slot[..CRC_AT]);
    digest.update(&slot[HEADER_BYTES..]);
    digest.finalize()
}

/// The same bytes, cut or filled up to a slot, under a right checksum.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn with_right_crc(bytes: &[u8]) -> Vec<u8> {
    let mut slot = bytes.to_vec();
    slot.resize(SLOT_BYTES, 0);
    let right = crc(&slot).to_le_bytes();
    slot[CRC_AT..HEADER_BYTES].copy_from_slice(&right);
    slot
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from(u16_at(b, at)) | u32::from(u16_at(b, at + 2)) << 16
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

fn array<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[at..at + N]);
    out
}

/// Reads a slot: [`Code::FormatNewer`] if a newer version wrote it, [`Code::KeyBad`] if it is damaged
/// or was never written.
pub(crate) fn parse_slot(b: &[u8]) -> Result<Slot, Code> {
    if b.len() != SLOT_BYTES || !b.starts_with(MAGIC) || crc(b) != u32_at(b, CRC_AT) {
        return Err(Code::KeyBad);
    }
    let reserved = u16_at(b, 10) != 0 || u16_at(b, 54) != 0 || b[112..CRC_AT].iter().any(|b| *b != 0);
    if u16_at(b, 8) != VERSION || u32_at(b, 12) != 0 || b[25] != SUITE || reserved {
        return Err(Code::FormatNewer);
    }
    let (count, path_len) = (usize::from(u16_at(b, 26)), usize::from(u16_at(b, 52)));
    let params =
        PassphraseParams { memory_kib: u32_at(b, 40), passes: u32_at(b, 44), lanes: u32_at(b, 48), salt: array(b, 56) };
    if !(1..=KEYS_MAX).contains(&count) || path_len > PATH_MAX_BYTES {
        return Err(Code::KeyBad);
    }
    let none = PassphraseParams { memory_kib: 0, passes: 0, lanes: 0, salt: [0; 16] };
    let path = &b[HEADER_BYTES..HEADER_BYTES + path_len];
    let source = match b[24] {
        1 if params == none && path_len > 0 && !path.contains(&0) => {
            Source::File(PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))
        }
        2 if params.is_sensible() && path_len == 0 => Source::Passphrase(params),
        3 if params == none && path_len == 0 => Source::Credential,
        0 | 4.. => return Err(Code::FormatNewer),
        _ => return Err(Code::KeyBad),
    };
    let slot = Slot {
        generation: u64_at(b, 16),
        source,
        kek_made_s: u64_at(b, 32),
        current: u32_at(b, 28),
        count,
        nonce: array(b, 72),
        check: array(b, 96),
        bytes: b.to_vec(),
    };
    let rest_is_zero = b[slot.sealed().end + TAG_BYTES..].iter().all(|b| *b == 0);
    if slot.generation == 0 || slot.current == 0 || !rest_is_zero {
        return Err(Code::KeyBad);
    }
    Ok(slot)
}

impl Slot {
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    fn sealed(&self) -> std::ops::Range<usize> {
        sealed_at(path_of(&self.source).len(), self.count)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn nonce(&self) -> [u8; 24] {
        self.nonce
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The keyring in it: [`Code::WrongKey`] if it is wrapped by another key, [`Code::KeyBad`] if it is
    /// this key and the slot was altered.
    pub(crate) fn open(&self, kek: &Kek) -> Result<Keyring, Code> {
        if check(kek, &self.nonce) != self.check {
            return Err(Code::WrongKey);
        }
        let sealed = self.sealed();
        let mut plain = Zeroizing::new(self.bytes[sealed.clone()].to_vec());
        let tag = Tag::clone_from_slice(&self.bytes[sealed.end..sealed.end + TAG_BYTES]);
        let cipher = cipher(kek);
        let aad = aad(&self.bytes, sealed.start);
        let opened = cipher.decrypt_in_place_detached(XNonce::from_slice(&self.nonce), &aad, &mut plain, &tag);
        opened.map_err(|_| Code::KeyBad)?;
        let mut keys: Vec<KeyEntry> = Vec::with_capacity(KEYS_MAX);
        for entry in plain.chunks_exact(ENTRY_BYTES) {
            let id = u32_at(entry, 0);
            if id <= keys.last().map_or(0, |k| k.id) {
                return Err(Code::KeyBad);
            }
            let mut key = Zeroizing::new([0; 32]);
            key.copy_from_slice(&entry[12..]);
            keys.push(KeyEntry { id, made_s: u64_at(entry, 4), key: LogKey::of(key) });
        }
        if keys.iter().all(|k| k.id != self.current) {
            return Err(Code::KeyBad);
        }
        Ok(Keyring {
            generation: self.generation,
            source: self.source.clone(),
            kek_made_s: self.kek_made_s,
            current: self.current,
            keys,
            unfinished: false,
        })
    }
}

fn path_of(source: &Source) -> &[u8] {
    match source {
        Source::File(path) => path.as_os_str().as_bytes(),
        Source::Passphrase(_) | Source::Credential => &[],
    }
}

/// Where the wrapped keys stand, without their tag.
fn sealed_at(path_len: usize, count: usize) -> std::ops::Range<usize> {
    let start = HEADER_BYTES + path_len;
    start..start + count * ENTRY_BYTES
}

/// Header without checksum, and the path.
fn aad(slot: &[u8], sealed_from: usize) -> Vec<u8> {
    let mut aad = slot[..CRC_AT].to_vec();
    aad.extend_from_slice(&slot[HEADER_BYTES..sealed_from]);
    aad
}

fn check(kek: &Kek, nonce: &[u8; 24]) -> [u8; 16] {
    array(&*kek.derive(CHECK_CONTEXT, nonce), 0)
}

fn cipher(kek: &Kek) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*kek.derive(WRAP_CONTEXT, &[])).into())
}

/// Writes a keyring into a slot. No nonce is ever used twice.
///
/// # Errors
/// [`Code::Limit`] if there are too many keys; [`Code::BadArgument`] if the path is too long.
pub(crate) fn seal_slot(ring: &Keyring, kek: &Kek, nonce: &[u8; 24]) -> Result<Vec<u8>, Code> {
    let path = path_of(&ring.source);
    if ring.keys.is_empty() || ring.keys.len() > KEYS_MAX {
        return Err(Code::Limit);
    }
    if path.len() > PATH_MAX_BYTES || path.contains(&0) || path.is_empty() && matches!(ring.source, Source::File(_)) {
        return Err(Code::BadArgument);
    }
    let mut b = vec![0; SLOT_BYTES];
    b[..8].copy_from_slice(MAGIC);
    b[8..10].copy_from_slice(&VERSION.to_le_bytes());
    b[16..24].copy_from_slice(&ring.generation.to_le_bytes());
    b[24] = match ring.source {
        Source::File(_) => 1,
        Source::Passphrase(_) => 2,
        Source::Credential => 3,
    };
    b[25] = SUITE;
    b[26..28].copy_from_slice(&(ring.keys.len() as u16).to_le_bytes());
    b[28..32].copy_from_slice(&ring.current.to_le_bytes());
    b[32..40].copy_from_slice(&ring.kek_made_s.to_le_bytes());
    if let Source::Passphrase(p) = &ring.source {
        b[40..44].copy_from_slice(&p.memory_kib.to_le_bytes());
        b[44..48].copy_from_slice(&p.passes.to_le_bytes());
        b[48..52].copy_from_slice(&p.lanes.to_le_bytes());
        b[56..72].copy_from_slice(&p.salt);
    }
    b[52..54].copy_from_slice(&(path.len() as u16).to_le_bytes());
    b[72..96].copy_from_slice(nonce);
    b[96..112].copy_from_slice(&check(kek, nonce));
    b[HEADER_BYTES..HEADER_BYTES + path.len()].copy_from_slice(path);
    let sealed = sealed_at(path.len(), ring.keys.len());
    for (entry, k) in b[sealed.clone()].chunks_exact_mut(ENTRY_BYTES).zip(&ring.keys) {
        entry[..4].copy_from_slice(&k.id.to_le_bytes());
        entry[4..12].copy_from_slice(&k.made_s.to_le_bytes());
        entry[12..].copy_from_slice(k.key.as_bytes());
    }
    let aad = aad(&b, sealed.start);
    let tag = cipher(kek)
        .encrypt_in_place_detached(XNonce::from_slice(nonce), &aad, &mut b[sealed.clone()])
        .map_err(|_| Code::TooLarge)?;
    b[sealed.end..sealed.end + TAG_BYTES].copy_from_slice(&tag);
    let sum = crc(&b).to_le_bytes();
    b[CRC_AT..HEADER_BYTES].copy_from_slice(&sum);
    Ok(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::{hex, unhex};

    fn kek() -> Kek {
        Kek::of(Zeroizing::new([0x22; 32]))
    }

    fn entry(id: u32, made_s: u64, fill: u8) -> KeyEntry {
        KeyEntry { id, made_s, key: LogKey::of(Zeroizing::new([fill; 32])) }
    }

    fn ring(source: Source) -> Keyring {
        Keyring {
            generation: 7,
            source,
            kek_made_s: 1_800_000_000,
            current: 3,
            keys: vec![entry(1, 0, 0x11), entry(3, 1_799_999_999, 0x33)],
            unfinished: false,
        }
    }

    fn sources() -> [Source; 3] {
        let params = PassphraseParams { salt: [0x44; 16], ..PassphraseParams::default() };
        [Source::File("keys/log.key".into()), Source::Passphrase(params), Source::Credential]
    }

    const NONCE: [u8; 24] = [0x55; 24];

    #[test]
    fn what_is_sealed_is_opened_and_only_under_its_key() {
        for source in sources() {
            let bytes = seal_slot(&ring(source.clone()), &kek(), &NONCE).unwrap();
            let slot = parse_slot(&bytes).unwrap();
            let got = slot.open(&kek()).unwrap();
            assert_eq!((got.generation, &got.source, got.current), (7, &source, 3));
            let keys: Vec<_> = got.keys.iter().map(|k| (k.id, k.made_s, k.key.as_bytes()[0])).collect();
            assert_eq!(keys, [(1, 0, 0x11), (3, 1_799_999_999, 0x33)]);
            assert_eq!(slot.open(&Kek::of(Zeroizing::new([0x23; 32]))).unwrap_err(), Code::WrongKey);
            assert!(!format!("{got:?}").contains("51, 51"), "{got:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_also_under_a_right_checksum() {
        let bytes = seal_slot(&ring(Source::Credential), &kek(), &NONCE).unwrap();
        let used = 128 + 2 * ENTRY_BYTES + TAG_BYTES;
        for bit in (0..(used + 8) * 8).chain([SLOT_BYTES * 8 - 1]) {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_slot(&bad).is_err(), "bit {bit}");
            if !(CRC_AT * 8..HEADER_BYTES * 8).contains(&bit) {
                let opened = parse_slot(&with_right_crc(&bad)).and_then(|s| s.open(&kek()));
                assert!(opened.is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let bytes = seal_slot(&ring(Source::Credential), &kek(), &NONCE).unwrap();
        for (at, code) in [(8, Code::FormatNewer), (12, Code::FormatNewer), (25, Code::FormatNewer), (24, Code::KeyBad)]
        {
            let mut other = bytes.clone();
            other[at] = 2;
            assert_eq!(parse_slot(&other).err(), Some(Code::KeyBad), "{at}: the checksum comes first");
            assert_eq!(parse_slot(&with_right_crc(&other)).err(), Some(code), "{at}");
        }
        assert_eq!(parse_slot(&[0; SLOT_BYTES]).err(), Some(Code::KeyBad));
        assert_eq!(parse_slot(&bytes[1..]).err(), Some(Code::KeyBad));
    }

    #[test]
    fn a_hostile_file_asks_for_no_gigabytes() {
        let params = PassphraseParams::default();
        let rows = [
            PassphraseParams { memory_kib: 4 << 20, ..params },
            PassphraseParams { memory_kib: 1, ..params },
            PassphraseParams { passes: 1000, ..params },
            PassphraseParams { passes: 0, ..params },
            PassphraseParams { lanes: 255, ..params },
        ];
        for p in rows {
            let bytes = seal_slot(&ring(Source::Passphrase(p)), &kek(), &NONCE).unwrap();
            assert_eq!(parse_slot(&bytes).err(), Some(Code::KeyBad), "{p:?}");
        }
    }

    #[test]
    fn the_golden_slots_are_what_is_written_and_read() {
        let names = ["file", "passphrase", "credential"];
        for (name, source) in names.into_iter().zip(sources()) {
            let path = format!("{}/testdata/keyring/{name}.hex", env!("CARGO_MANIFEST_DIR"));
            let bytes = seal_slot(&ring(source), &kek(), &NONCE).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
            let text: String = bytes[..used].chunks(32).map(|line| hex(line) + "\n").collect();
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap();
            assert_eq!(golden, text, "{name}");
            let digits = golden.replace('\n', "");
            let mut read = vec![0; digits.len() / 2];
            assert!(unhex(digits.as_bytes(), &mut read));
            read.resize(SLOT_BYTES, 0);
            assert_eq!(parse_slot(&read).unwrap().open(&kek()).unwrap().current, 3);
        }
    }
}
