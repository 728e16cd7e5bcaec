//! `rekey`: another key-encryption key, another source of it, a new data key.
//!
//! The order of the steps keeps the directory open to the old or the new key at every moment: first
//! the new key is durable beside the old one, then the slots are written one after the other, and
//! only then the old key goes (docs/KEYS.md#rekey-1).

use std::path::PathBuf;

use ropeway_core::code::Code;

use super::source::{self, DEFAULT_KEY_FILE, PassphraseParams, Source};
use super::{KEYS_MAX, Kek, KeyEntry, Keyring, Passphrase, file, now_s, unlock};
use crate::dir::{DataDir, DirLock, LogKey};
use crate::error::{Error, Result};
use crate::store::{DirFiles, key_use};

/// What the next key-encryption key shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKek {
    /// Another one from where the present one comes from: a new key in the same file, a new passphrase,
    /// the first line of the credential.
    Same,
    /// A key file; `None` is `keys/log.key`. One that exists is used as it is, unless it is the present
    /// one; else it is made.
    File(Option<PathBuf>),
    /// A passphrase.
    Passphrase,
    /// A credential of the service manager.
    Credential,
}

/// What to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RekeyOptions {
    /// The key-encryption key; `None` leaves it as it is.
    pub kek: Option<NewKek>,
    /// Make a new data key, for everything that is written from now on.
    pub data: bool,
}

/// What was changed.
#[derive(Debug)]
pub struct Rekeyed {
    /// The keyring as it is now.
    pub ring: Keyring,
    /// Whether the key-encryption key was replaced.
    pub kek_replaced: bool,
    /// Number of the new data key.
    pub new_data_key: Option<u32>,
    /// The key file with the present key, if it was written.
    pub key_file: Option<PathBuf>,
    /// A key file that opens nothing any more and was removed.
    pub removed: Option<PathBuf>,
    /// A key file that opens nothing any more and is not ours to remove.
    pub left: Option<PathBuf>,
    /// Bytes written to the keyring file.
    pub bytes_written: u64,
}

/// Does it, on a directory on which nobody works. No byte of the log is changed. `ask_new` is asked for
/// the new passphrase, after the present key has proved right.
///
/// # Errors
/// [`Code::Locked`]; those of [`DataDir::keyring`]; [`Code::WrongKey`] if the log was written under other
/// keys; [`Code::BadArgument`] for a passphrase that is too short; [`Code::Limit`] if there are too many
/// data keys; [`Code::DiskFull`], [`Code::Io`]. After an error the directory opens with the old key, or, if
/// the keyring was already replaced, with the new one.
pub fn rekey(
    dir: &DataDir,
    options: &RekeyOptions,
    ask_new: &mut dyn FnMut() -> Result<Passphrase>,
) -> Result<Rekeyed> {
    rekey_by_steps(dir, options, ask_new, &mut |_| Ok(()))
}

/// The next key-encryption key.
struct Next {
    source: Source,
    kek: Kek,
    /// A key file of ours to write: with both keys before, with the new one alone after.
    write: Option<PathBuf>,
}

/// As [`rekey`]; `step` hears of each change of a file before it.
pub(super) fn rekey_by_steps(
    dir: &DataDir,
    options: &RekeyOptions,
    ask_new: &mut dyn FnMut() -> Result<Passphrase>,
    step: &mut dyn FnMut(&'static str) -> Result<()>,
) -> Result<Rekeyed> {
    dir.node()?;
    let _lock = DirLock::acquire(dir).map_err(|e| match e.code {
        Code::Locked => Error::new(e.code, format!("{}; end it first, it holds the old keys in memory", e.context)),
        _ => e,
    })?;
    let old = unlock(dir)?;
    let mut ring = old.ring.clone();
    let new_data_key = add_data_key(dir, &mut ring, options.data)?;
    // Without a keyring there is no such key yet, so that the first rekey always makes one.
    let wanted = match (&options.kek, &old.kek) {
        (None, None) => Some(NewKek::Same),
        (wanted, _) => wanted.clone(),
    };
    let next = wanted.map(|wanted| next_kek(dir, &old.ring, old.kek.as_ref(), &wanted, ask_new)).transpose()?;
    let kek = match (&next, &old.kek) {
        (Some(next), _) => {
            (ring.source, ring.kek_made_s) = (next.source.clone(), now_s());
            &next.kek
        }
        (None, Some(kek)) => kek,
        (None, None) => return Err(Code::KeyMissing.into()),
    };
    ring.generation += 1;

    if let Some((next, path)) = next.as_ref().and_then(|n| Some((n, n.write.as_ref()?))) {
        step("key file with both keys")?;
        write_both(dir, path, next, &old)?;
    }
    let path = dir.keyring_file();
    let bytes_written = match file::read(&path)? {
        Some(slots) => file::replace(&path, &slots, &ring, kek, step)?,
        None => {
            step("keyring")?;
            file::create(&path, &ring, kek)?
        }
    };
    if let Source::Passphrase(params) = &ring.source {
        dir.secrets().keep(*params, kek);
    }
    let (mut removed, mut left) = (None, None);
    if let Some(next) = &next {
        if let Some(path) = &next.write {
            step("key file with the new key")?;
            source::write_key_file(path, &[&next.kek])?;
        }
        (removed, left) = drop_old(dir, &old.ring.source, &next.source, step)?;
    }
    // An earlier one that was interrupted may have left a key in a file without a name.
    dir.tidy();
    ring.unfinished = false;
    let key_file = next.as_ref().and_then(|n| n.write.clone());
    Ok(Rekeyed { ring, kek_replaced: next.is_some(), new_data_key, key_file, removed, left, bytes_written })
}

/// Checks the keys against the log, and adds one if that is wanted.
fn add_data_key(dir: &DataDir, ring: &mut Keyring, wanted: bool) -> Result<Option<u32>> {
    let used = key_use(&mut DirFiles::new(dir), &ring.data_keys())?;
    if let Some((id, _)) = used.iter().find(|(_, u)| u.other_key) {
        return Err(Error::at(Code::WrongKey, &dir.log(), format!("it was not written under this data key {id}")));
    }
    if !wanted {
        return Ok(None);
    }
    if ring.keys.len() >= KEYS_MAX {
        return Err(Error::at(Code::Limit, &dir.keyring_file(), format!("it holds {KEYS_MAX} data keys already")));
    }
    // Also no number of a key that this keyring has lost.
    let known = ring.keys.iter().map(|k| k.id).chain(used.keys().copied()).max().unwrap_or(0);
    let id = known.checked_add(1).ok_or(Code::Limit)?;
    ring.keys.push(KeyEntry { id, made_s: now_s(), key: LogKey::random()? });
    ring.current = id;
    Ok(Some(id))
}

fn next_kek(
    dir: &DataDir,
    ring: &Keyring,
    present: Option<&Kek>,
    wanted: &NewKek,
    ask_new: &mut dyn FnMut() -> Result<Passphrase>,
) -> Result<Next> {
    let is_present = |kek: &Kek| present.is_some_and(|p| p.is(kek));
    match (wanted, &ring.source) {
        (NewKek::File(path), _) => {
            let path = path.as_ref().map_or_else(|| Ok(PathBuf::from(DEFAULT_KEY_FILE)), |p| stored(dir, p));
            next_in_file(dir, path?, &is_present)
        }
        (NewKek::Same, Source::File(path)) => next_in_file(dir, path.clone(), &is_present),
        (NewKek::Passphrase, _) | (NewKek::Same, Source::Passphrase(_)) => {
            let passphrase = ask_new()?;
            passphrase.check_new()?;
            let params = PassphraseParams::random()?;
            let kek = passphrase.derive(&params)?;
            Ok(Next { source: Source::Passphrase(params), kek, write: None })
        }
        (NewKek::Credential, _) | (NewKek::Same, Source::Credential) => {
            let (path, keks) = source::read_keks(dir, &Source::Credential)?;
            match keks.into_iter().next().filter(|kek| !is_present(kek)) {
                Some(kek) => Ok(Next { source: Source::Credential, kek, write: None }),
                None => {
                    let what = "it is still the present key; put the new one into its first line, the present one \
                                into the second";
                    Err(Error::at(Code::BadArgument, &path, what))
                }
            }
        }
    }
}

/// A path as the keyring keeps it: from the directory on if it lies within, so that the directory can be
/// moved.
fn stored(dir: &DataDir, path: &std::path::Path) -> Result<PathBuf> {
    let absolute = |p: &std::path::Path| std::path::absolute(p).map_err(|e| Error::io(format!("{}", p.display()), e));
    let (path, root) = (absolute(path)?, absolute(dir.root())?);
    Ok(path.strip_prefix(&root).map(PathBuf::from).unwrap_or(path))
}

fn next_in_file(dir: &DataDir, path: PathBuf, is_present: &dyn Fn(&Kek) -> bool) -> Result<Next> {
    let at = source::resolve(dir, &path);
    let source = Source::File(path);
    let ours = at == dir.log_key();
    match source::read_keks(dir, &source) {
        // Somebody has made it for us.
        Ok((_, mut keks)) if !ours && keks.first().is_some_and(|k| !is_present(k)) => {
            let kek = keks.swap_remove(0);
            Ok(Next { source, kek, write: None })
        }
        Err(e) if e.code != Code::KeyMissing => Err(e),
        _ => Ok(Next { source, kek: Kek::random()?, write: Some(at) }),
    }
}

/// Writes the new key in front of what opens the directory now.
fn write_both(dir: &DataDir, path: &std::path::Path, next: &Next, old: &super::Unlocked) -> Result<()> {
    let mut text = super::key_file_text(&[&next.kek]);
    match (&old.kek, &old.ring.source) {
        (Some(kek), Source::File(present)) if source::resolve(dir, present) == *path => {
            text = super::key_file_text(&[&next.kek, kek]);
        }
        // The raw key of a directory without keyring.
        (None, _) if *path == dir.log_key() => {
            if let Some(entry) = old.ring.keys.first() {
                crate::dir::hex_into(&mut text, entry.key.as_bytes());
                text.push('\n');
            }
        }
        _ => {}
    }
    crate::dir::write_atomic(path, text.as_bytes(), crate::dir::Access::Secret)
}

/// Removes the key file that opened the directory before, if it is ours.
fn drop_old(
    dir: &DataDir,
    old: &Source,
    new: &Source,
    step: &mut dyn FnMut(&'static str) -> Result<()>,
) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let path_of = |source: &Source| match source {
        Source::File(path) => Some(source::resolve(dir, path)),
        Source::Passphrase(_) | Source::Credential => None,
    };
    let (old, new, ours) = (path_of(old), path_of(new), dir.log_key());
    let mut removed = None;
    // Also what an interrupted rekey has left.
    if new.as_ref() != Some(&ours) {
        step("old key file")?;
        removed = source::remove(&ours)?.then(|| ours.clone());
    }
    let left = old.filter(|path| *path != ours && Some(path) != new.as_ref());
    if let Some(path) = &left {
        crate::dir::forget_temporary(path)?;
    }
    Ok((removed, left))
}
