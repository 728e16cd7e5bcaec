//! The keyring: the data keys of a log, wrapped by a key-encryption key (docs/KEYS.md).
//!
//! A directory that was made before there were keyrings has none: then the one raw key in
//! `keys/log.key` is data key 1. [`rekey`] makes a keyring of it.

mod file;
mod rekey;
mod slot;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ropeway_core::code::Code;
use ropeway_core::log::DataKey;
use zeroize::Zeroizing;

pub use rekey::{NewKek, RekeyOptions, Rekeyed, rekey};
pub use source::{PASSPHRASE_MIN_BYTES, PassphraseParams, Source};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use file::parse_file;
pub(crate) use slot::Slot;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use slot::{parse_slot, seal_slot, with_right_crc};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use source::parse_key_file;
pub(crate) use source::{Kek, key_file_text};

use crate::dir::{DataDir, LogKey};
use crate::error::{Error, Result};

/// Most data keys in a keyring (docs/KEYS.md#slot-1).
pub const KEYS_MAX: usize = 160;
/// Number of the first data key.
pub const FIRST_KEY_ID: u32 = 1;

/// One data key.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// Its number, as it stands in epoch headers (docs/LOG.md#header-1).
    pub id: u32,
    /// When it was made, in seconds since 1970 by this machine's clock; 0 if that is not known.
    pub made_s: u64,
    pub(crate) key: LogKey,
}

/// The data keys of a directory, unlocked. Its secrets are wiped when it is dropped.
#[derive(Clone, Debug)]
pub struct Keyring {
    pub(crate) generation: u64,
    pub(crate) source: Source,
    pub(crate) kek_made_s: u64,
    pub(crate) current: u32,
    pub(crate) keys: Vec<KeyEntry>,
    /// The other slot holds something else: a rekey did not come to its end.
    pub(crate) unfinished: bool,
}

impl Keyring {
    /// A new keyring with one data key, not yet in any file.
    ///
    /// # Errors
    /// [`Code::Io`] if the system has no randomness to give.
    pub(crate) fn new(source: Source, now_s: u64) -> Result<Self> {
        Ok(Self::of(source, now_s, KeyEntry { id: FIRST_KEY_ID, made_s: now_s, key: LogKey::random()? }))
    }

    /// The keys of a directory without a keyring.
    pub(crate) fn legacy(key: LogKey) -> Self {
        let source = Source::File(PathBuf::from(source::DEFAULT_KEY_FILE));
        let mut ring = Self::of(source, 0, KeyEntry { id: FIRST_KEY_ID, made_s: 0, key });
        ring.generation = 0;
        ring
    }

    fn of(source: Source, kek_made_s: u64, entry: KeyEntry) -> Self {
        // Room for all at once: growing would leave copies of secrets in freed memory.
        let mut keys = Vec::with_capacity(KEYS_MAX);
        let current = entry.id;
        keys.push(entry);
        Self { generation: 1, source, kek_made_s, current, keys, unfinished: false }
    }

    /// How often it was written; 0 if there is no keyring file yet.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the key-encryption key comes from. Without a keyring file: where the data key is.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// When the key-encryption key was made or chosen, in seconds since 1970; 0 if not known.
    #[must_use]
    pub fn kek_made_s(&self) -> u64 {
        self.kek_made_s
    }

    /// Number of the data key that new epochs are written under.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.current
    }

    /// All data keys, by ascending number.
    #[must_use]
    pub fn entries(&self) -> &[KeyEntry] {
        &self.keys
    }

    /// Whether a rekey was interrupted before its end. Nothing is lost; the old key-encryption key may
    /// still open the older slot until a rekey ends.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// All data keys with their numbers, as scanner and reader want them.
    #[must_use]
    pub fn data_keys(&self) -> Vec<(u32, DataKey)> {
        let mut keys = Vec::with_capacity(self.keys.len());
        keys.extend(self.keys.iter().map(|k| (k.id, DataKey::new(*k.key.as_bytes()))));
        keys
    }

    /// The data key for new epochs, as a node's setup wants it.
    ///
    /// # Errors
    /// [`Code::KeyMissing`] cannot happen with a keyring that was read.
    pub fn current_key(&self) -> Result<(u32, DataKey)> {
        let entry = self.keys.iter().find(|k| k.id == self.current);
        let entry = entry.ok_or_else(|| Error::new(Code::KeyMissing, format!("data key {}", self.current)))?;
        Ok((entry.id, DataKey::new(*entry.key.as_bytes())))
    }
}

/// A passphrase. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes it over; a line end at its end is left out, everything else counts.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        let end = text.trim_end_matches(['\r', '\n']).len();
        if end == text.len() {
            return Self(text);
        }
        Self(Zeroizing::new(text[..end].to_owned()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Asks a person or a file for the passphrase of a directory.
pub type Ask = Arc<dyn Fn(&DataDir) -> Result<Passphrase> + Send + Sync>;

/// How a [`DataDir`] comes to its passphrase, and the key made of it: that takes a second on a small
/// device, so it is done once.
#[derive(Default)]
pub(crate) struct Secrets {
    ask: Option<Ask>,
    derived: Mutex<Option<(PassphraseParams, Kek)>>,
}

impl Secrets {
    pub(crate) fn asking(ask: Ask) -> Self {
        Self { ask: Some(ask), derived: Mutex::default() }
    }

    fn derived(&self, params: &PassphraseParams) -> Option<Kek> {
        let kept = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(p, _)| p == params).map(|(_, kek)| kek.clone())
    }

    fn keep(&self, params: PassphraseParams, kek: &Kek) {
        *self.derived.lock().unwrap_or_else(PoisonError::into_inner) = Some((params, kek.clone()));
    }
}

/// What a directory's keys are opened with.
pub(crate) struct Unlocked {
    pub(crate) ring: Keyring,
    /// `None` without a keyring file.
    pub(crate) kek: Option<Kek>,
}

/// Opens the keys of a directory. Changes nothing.
pub(crate) fn unlock(dir: &DataDir) -> Result<Unlocked> {
    let path = dir.keyring_file();
    let Some(slots) = file::read(&path)? else {
        let ring = Keyring::legacy(source::legacy_key(dir)?);
        return Ok(Unlocked { ring, kek: None });
    };
    let (slot, unfinished) = slots.newest();
    match unlock_slot(dir, &path, slot, unfinished) {
        // Whoever looks without the lock may have met a rekey between the keyring and its key file.
        Err(e) if e.code == Code::WrongKey => match file::read(&path)? {
            Some(now) if now.newest().0 != slot => unlock_slot(dir, &path, now.newest().0, now.newest().1),
            _ => Err(e),
        },
        other => other,
    }
}

/// The key of a node that has no keyring, from a file of any name.
///
/// # Errors
/// As of reading a key file; [`Code::KeyBad`] if the file only opens a keyring.
pub(crate) fn bare_key(path: &Path) -> Result<Keyring> {
    let mut bare = source::read_key_file(path)?.into_iter().filter(|l| l.bare);
    match (bare.next(), bare.next()) {
        (Some(line), None) => Ok(Keyring::legacy(LogKey::of(line.key))),
        _ => Err(Error::at(Code::KeyBad, path, "it opens a keyring: name the folder that holds both")),
    }
}

fn unlock_slot(dir: &DataDir, path: &Path, slot: &Slot, unfinished: bool) -> Result<Unlocked> {
    let altered = |code| match code {
        Code::KeyBad => Error::at(code, path, "the right key does not open it: it was altered"),
        code => Error::at(code, path, "that is not its passphrase"),
    };
    let (kek, mut ring) = match slot.source() {
        Source::Passphrase(params) => match dir.secrets().derived(params).map(|kek| (slot.open(&kek), kek)) {
            Some((Ok(ring), kek)) => (kek, ring),
            _ => {
                let kek = source::ask(dir)?.derive(params)?;
                let ring = slot.open(&kek).map_err(altered)?;
                dir.secrets().keep(*params, &kek);
                (kek, ring)
            }
        },
        from => {
            let (at, keks) = source::read_keks(dir, from)?;
            let opened = keks.into_iter().map(|kek| (slot.open(&kek), kek));
            match opened.into_iter().find(|(ring, _)| !matches!(ring, Err(Code::WrongKey))) {
                Some((ring, kek)) => (kek, ring.map_err(altered)?),
                None => return Err(Error::at(Code::WrongKey, &at, format!("it does not open {}", path.display()))),
            }
        }
    };
    ring.unfinished = unfinished;
    Ok(Unlocked { ring, kek: Some(kek) })
}

/// Writes the keyring of a new node, under the key that lies in `keys/log.key`; draws that if there is
/// none. What is there is kept.
pub(crate) fn create(dir: &DataDir, now_s: u64) -> Result<()> {
    let path = dir.keyring_file();
    if file::read(&path)?.is_some() {
        return unlock(dir).map(drop);
    }
    let source = Source::File(PathBuf::from(source::DEFAULT_KEY_FILE));
    let kek = match source::read_keks(dir, &source) {
        Ok((_, keks)) => keks.into_iter().next().ok_or(Code::KeyBad)?,
        Err(e) if e.code == Code::KeyMissing => {
            let kek = Kek::random()?;
            source::write_key_file(&dir.log_key(), &[&kek])?;
            kek
        }
        Err(e) => return Err(e),
    };
    file::create(&path, &Keyring::new(source, now_s)?, &kek).map(drop)
}

/// The machine's clock in seconds since 1970.
pub(crate) fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
