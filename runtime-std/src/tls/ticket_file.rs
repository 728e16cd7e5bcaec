//! How sessions that may be resumed lie in a file: a magic number, a salt, and the sealed entries.
//!
//! Each file has a key of its own, derived from the salt, which depends on the content: also on a
//! machine whose random source repeats, no two contents are sealed under one key.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use ropeway_core::code::Code;
use ropeway_core::log::DataKey;
use zeroize::Zeroizing;

use super::tickets::{CONTENT_MAX_BYTES, Kept, Name};
use crate::error::{Error, Result};
use crate::identity::NodeIdentity;

/// Longest file; the newest entries that fit in it are written.
pub(super) const FILE_MAX_BYTES: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"RWTICK01";
const CONTEXT: &str = "ropeway 2026 tls tickets key v1";
const SALT_CONTEXT: &str = "ropeway 2026 tls tickets salt v1";
const FILE_CONTEXT: &str = "ropeway 2026 tls tickets file key v1";
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// Time, name and length of the content.
const ENTRY_HEAD_BYTES: usize = 8 + 32 + 2;

/// The key from which each file's is derived: for this log and these certificates only.
pub(super) fn key(key: &DataKey, id: &NodeIdentity) -> Zeroizing<[u8; 32]> {
    let mut certificates = blake3::Hasher::new();
    for cert in id.key.cert.iter().chain([&id.ca]) {
        certificates.update(&(cert.len() as u64).to_le_bytes()).update(cert);
    }
    key.other_key(CONTEXT, certificates.finalize().as_bytes())
}

/// The entries, oldest first in the file; given newest first.
pub(super) fn plain<'a>(newest: impl Iterator<Item = (&'a Name, &'a Kept)>) -> Zeroizing<Vec<u8>> {
    let room = FILE_MAX_BYTES - MAGIC.len() - SALT_BYTES - TAG_BYTES;
    let mut bytes = 0;
    let mut chosen: Vec<_> = newest
        .take_while(|(_, kept)| {
            bytes += ENTRY_HEAD_BYTES + kept.content.len();
            bytes <= room
        })
        .collect();
    chosen.reverse();
    // Reserved at once: growing would leave copies of secrets behind in freed memory.
    let mut plain = Zeroizing::new(Vec::with_capacity(bytes.min(room)));
    for (name, kept) in chosen {
        plain.extend_from_slice(&kept.made_s.to_le_bytes());
        plain.extend_from_slice(name);
        plain.extend_from_slice(&(kept.content.len() as u16).to_le_bytes());
        plain.extend_from_slice(&kept.content);
    }
    plain
}

/// The file's bytes.
pub(super) fn seal(key: &[u8; 32], random: &[u8; 32], mut plain: Zeroizing<Vec<u8>>) -> Result<Vec<u8>> {
    let salt =
        *blake3::Hasher::new_derive_key(SALT_CONTEXT).update(key).update(random).update(&plain).finalize().as_bytes();
    let sealed = cipher(key, &salt).encrypt_in_place_detached(&Nonce::default(), MAGIC, &mut plain);
    let tag = sealed.map_err(|_| Error::new(Code::TooLarge, "the tickets"))?;
    let mut file = Vec::with_capacity(MAGIC.len() + SALT_BYTES + plain.len() + TAG_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&salt);
    file.extend_from_slice(&plain);
    file.extend_from_slice(&tag);
    Ok(file)
}

/// The entries of a file.
///
/// # Errors
/// [`Code::Config`] if it was not sealed under this key, or was altered since.
pub(super) fn open(key: &[u8; 32], mut file: Vec<u8>) -> Result<Vec<(Name, Kept)>> {
    let bad = || Error::new(Code::Config, "not the tickets of this hub, or damaged");
    if !file.starts_with(MAGIC) || file.len() < MAGIC.len() + SALT_BYTES + TAG_BYTES {
        return Err(bad());
    }
    let tag = *Tag::from_slice(&file.split_off(file.len() - TAG_BYTES));
    let mut plain = Zeroizing::new(file.split_off(MAGIC.len() + SALT_BYTES));
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&file[MAGIC.len()..]);
    cipher(key, &salt).decrypt_in_place_detached(&Nonce::default(), MAGIC, &mut plain, &tag).map_err(|_| bad())?;
    let (mut all, mut rest) = (Vec::new(), plain.as_slice());
    while let Some((head, tail)) = rest.split_first_chunk::<ENTRY_HEAD_BYTES>() {
        let (made_s, name, len) = split(head);
        let content = tail.get(..len).filter(|c| c.len() <= CONTENT_MAX_BYTES).ok_or_else(bad)?;
        all.push((name, Kept { made_s, content: Zeroizing::new(content.to_vec()) }));
        rest = &tail[len..];
    }
    if rest.is_empty() { Ok(all) } else { Err(bad()) }
}

fn split(head: &[u8; ENTRY_HEAD_BYTES]) -> (u64, Name, usize) {
    let (mut made_s, mut name, mut len) = ([0; 8], [0; 32], [0; 2]);
    made_s.copy_from_slice(&head[..8]);
    name.copy_from_slice(&head[8..40]);
    len.copy_from_slice(&head[40..]);
    (u64::from_le_bytes(made_s), name, u16::from_le_bytes(len).into())
}

fn cipher(key: &[u8; 32], salt: &[u8; SALT_BYTES]) -> ChaCha20Poly1305 {
    let mut hasher = blake3::Hasher::new_derive_key(FILE_CONTEXT);
    hasher.update(key).update(salt);
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    ChaCha20Poly1305::new(Key::from_slice(&*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(n: u8) -> Vec<(Name, Kept)> {
        let kept = |i| Kept { made_s: 1000 + u64::from(i), content: Zeroizing::new(vec![i; usize::from(i)]) };
        (0..n).map(|i| ([i; 32], kept(i))).collect()
    }

    fn file(all: &[(Name, Kept)], random: u8) -> Vec<u8> {
        seal(&[1; 32], &[random; 32], plain(all.iter().rev().map(|(n, k)| (n, k)))).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_again_oldest_first() {
        let all = entries(20);
        let read = open(&[1; 32], file(&all, 7)).unwrap();
        assert_eq!(read.len(), 20);
        for ((n, k), (name, kept)) in read.iter().zip(&all) {
            assert_eq!((n, k.made_s, &k.content), (name, kept.made_s, &kept.content));
        }
        assert!(open(&[1; 32], file(&[], 7)).unwrap().is_empty());
    }

    #[test]
    fn another_key_and_any_damage_are_refused() {
        let good = file(&entries(3), 7);
        assert_eq!(open(&[2; 32], good.clone()).err().map(|e| e.code), Some(Code::Config));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(open(&[1; 32], bad).is_err(), "byte {at}");
            assert!(open(&[1; 32], good[..at].to_vec()).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn no_secret_lies_in_plain_and_a_repeated_draw_repeats_no_key() {
        let (one, two) = (file(&entries(3), 7), file(&entries(4), 7));
        assert_ne!(one[8..40], two[8..40], "another content has another salt");
        let content = [9; 64];
        let kept = Kept { made_s: 0, content: Zeroizing::new(content.to_vec()) };
        assert!(!file(&[([1; 32], kept)], 7).windows(16).any(|w| w == &content[..16]));
    }
}
