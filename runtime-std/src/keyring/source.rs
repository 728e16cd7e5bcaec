//! Where the key-encryption key comes from: a file, a passphrase, the service manager.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use ropeway_core::code::Code;
use zeroize::{Zeroize, Zeroizing};

use super::Passphrase;
use crate::dir::{Access, DataDir, LogKey, hex_into, read_bounded, read_secret, unhex, write_atomic};
use crate::error::{Error, Result};

/// The key file of a directory, if no other was chosen: relative to the directory.
pub(super) const DEFAULT_KEY_FILE: &str = "keys/log.key";
/// Name of the credential of the service manager.
pub(super) const CREDENTIAL: &str = "ropeway-key";
/// What stands behind a key-encryption key in its file, so that it is not taken for a data key.
const KEK_MARK: &str = " kek";
/// Lines of a key file: the new key and the old one, while one replaces the other.
const LINES_MAX: usize = 4;
const KEY_FILE_MAX_BYTES: usize = 1024;
/// The shortest new passphrase that is taken, in bytes.
pub const PASSPHRASE_MIN_BYTES: usize = 10;
/// The longest passphrase, in bytes.
const PASSPHRASE_MAX_BYTES: usize = 1024;

/// Where the key-encryption key comes from (docs/KEYS.md#source-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This file; a relative path begins at the data directory.
    File(PathBuf),
    /// A passphrase, by Argon2id.
    Passphrase(PassphraseParams),
    /// `$CREDENTIALS_DIRECTORY/ropeway-key`, as systemd and others lend it.
    Credential,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Passphrase(p) => {
                write!(f, "passphrase (Argon2id, {} MiB, {} passes)", p.memory_kib >> 10, p.passes)
            }
            Source::Credential => write!(f, "credential {CREDENTIAL} of the service manager"),
        }
    }
}

/// How a passphrase becomes a key: Argon2id, version 0x13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseParams {
    /// Memory in KiB, 8 MiB to 64 MiB.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 4.
    pub lanes: u32,
    /// Random, one for each choice of a passphrase.
    pub salt: [u8; 16],
}

impl Default for PassphraseParams {
    /// 19 MiB and two passes: a second or two on the smallest Pi.
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2, lanes: 1, salt: [0; 16] }
    }
}

impl PassphraseParams {
    /// The default with a fresh salt.
    pub(super) fn random() -> Result<Self> {
        let mut params = Self::default();
        crate::cert::random(&mut params.salt)?;
        Ok(params)
    }

    /// Whether a file may ask for this: memory and time are bounded (docs/KEYS.md#source-3).
    pub(crate) fn is_sensible(&self) -> bool {
        (8 << 10..=64 << 10).contains(&self.memory_kib)
            && (1..=16).contains(&self.passes)
            && (1..=4).contains(&self.lanes)
    }
}

/// A key-encryption key. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub(crate) struct Kek(Zeroizing<[u8; 32]>);

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

impl Kek {
    pub(crate) fn of(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn random() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        crate::cert::random(&mut *key)?;
        Ok(Self(key))
    }

    pub(super) fn is(&self, other: &Kek) -> bool {
        *self.0 == *other.0
    }

    pub(super) fn derive(&self, context: &str, tail: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut h = blake3::Hasher::new_derive_key(context);
        h.update(&*self.0);
        h.update(tail);
        let mut out = h.finalize();
        let key = Zeroizing::new(*out.as_bytes());
        out.zeroize();
        h.zeroize();
        key
    }
}

impl Passphrase {
    /// The key of this passphrase.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if it is empty or too long; [`Code::Limit`] if memory is missing.
    pub(super) fn derive(&self, params: &PassphraseParams) -> Result<Kek> {
        let phrase = self.as_bytes();
        if phrase.is_empty() || phrase.len() > PASSPHRASE_MAX_BYTES {
            let what = format!("a passphrase has 1 to {PASSPHRASE_MAX_BYTES} bytes");
            return Err(Error::new(Code::BadArgument, what));
        }
        let failed = |e: argon2::Error| Error::new(Code::Limit, format!("Argon2id: {e}"));
        let made = Params::new(params.memory_kib, params.passes, params.lanes, Some(32)).map_err(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        // Its last block gives the key away, so the memory is wiped as well.
        let mut blocks = Zeroizing::new(Vec::new());
        let count = made.block_count();
        if blocks.try_reserve_exact(count).is_err() {
            return Err(Error::new(Code::Limit, format!("Argon2id needs {} KiB of memory", params.memory_kib)));
        }
        blocks.resize(count, Block::default());
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, made);
        argon.hash_password_into_with_memory(phrase, &params.salt, &mut *key, blocks.as_mut_slice()).map_err(failed)?;
        Ok(Kek(key))
    }

    /// Whether it may be chosen anew.
    ///
    /// # Errors
    /// [`Code::BadArgument`].
    pub(super) fn check_new(&self) -> Result<()> {
        if (PASSPHRASE_MIN_BYTES..=PASSPHRASE_MAX_BYTES).contains(&self.as_bytes().len()) {
            return Ok(());
        }
        let what =
            format!("a new passphrase has {PASSPHRASE_MIN_BYTES} to {PASSPHRASE_MAX_BYTES} bytes; take several words");
        Err(Error::new(Code::BadArgument, what))
    }
}

/// Asks for the passphrase of a directory.
pub(super) fn ask(dir: &DataDir) -> Result<Passphrase> {
    match &dir.secrets().ask {
        Some(ask) => ask(dir),
        None => Err(Error::at(Code::KeyMissing, dir.root(), "it has a passphrase, and nobody was asked for it")),
    }
}

/// One line of a key file.
pub(crate) struct KeyLine {
    /// A data key of a directory without keyring, or a key-encryption key that somebody else made.
    pub(crate) bare: bool,
    /// The key.
    pub(crate) key: Zeroizing<[u8; 32]>,
}

/// Reads the content of a key file (docs/KEYS.md#source-2).
///
/// # Errors
/// [`Code::KeyBad`].
pub(crate) fn parse_key_file(text: &[u8]) -> Result<Vec<KeyLine>> {
    let mut keys = Vec::with_capacity(LINES_MAX);
    for line in text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()) {
        let (digits, bare) = match line.strip_suffix(KEK_MARK.as_bytes()) {
            Some(digits) => (digits, false),
            None => (line, true),
        };
        let mut key = Zeroizing::new([0; 32]);
        if keys.len() == LINES_MAX || !unhex(digits, &mut *key) {
            return Err(Error::new(Code::KeyBad, "not 64 hexadecimal digits"));
        }
        keys.push(KeyLine { bare, key });
    }
    if keys.is_empty() {
        return Err(Error::new(Code::KeyBad, "not 64 hexadecimal digits"));
    }
    Ok(keys)
}

/// A key file with these keys, the first one the newest.
pub(crate) fn key_file_text(keks: &[&Kek]) -> Zeroizing<String> {
    // Room for more lines: growing would leave a copy in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(LINES_MAX * (64 + KEK_MARK.len() + 1)));
    for kek in keks {
        hex_into(&mut text, &*kek.0);
        text.push_str(KEK_MARK);
        text.push('\n');
    }
    text
}

pub(super) fn write_key_file(path: &Path, keks: &[&Kek]) -> Result<()> {
    write_atomic(path, key_file_text(keks).as_bytes(), Access::Secret)
}

/// The path that a keyring's path means.
pub(super) fn resolve(dir: &DataDir, path: &Path) -> PathBuf {
    dir.root().join(path)
}

/// The keys of a key file, the first one the newest.
///
/// # Errors
/// [`Code::KeyMissing`], [`Code::KeyBad`], [`Code::KeyExposed`], [`Code::Io`].
pub(super) fn read_key_file(path: &Path) -> Result<Vec<KeyLine>> {
    parse_key_file(&read_secret(path, KEY_FILE_MAX_BYTES)?).map_err(|e| e.in_file(path))
}

/// The key-encryption keys that a source offers now, and what to call it in messages.
pub(super) fn read_keks(dir: &DataDir, source: &Source) -> Result<(PathBuf, Vec<Kek>)> {
    let (path, lines) = match source {
        Source::File(path) => {
            let path = resolve(dir, path);
            (path.clone(), read_key_file(&path)?)
        }
        Source::Credential => {
            let path = credential_path()?;
            let text = match read_bounded(&path, KEY_FILE_MAX_BYTES) {
                // Its folder is closed by the service manager, which may show the file's mode otherwise.
                Err(e) if crate::identity::not_found(&e) => {
                    return Err(Error::at(Code::KeyMissing, &path, "there is no such credential"));
                }
                other => Zeroizing::new(other?),
            };
            (path.clone(), parse_key_file(&text).map_err(|e| e.in_file(&path))?)
        }
        Source::Passphrase(_) => return Err(Error::new(Code::KeyMissing, "a passphrase is not read from a file")),
    };
    Ok((path, lines.into_iter().map(|l| Kek::of(l.key)).collect()))
}

fn credential_path() -> Result<PathBuf> {
    match std::env::var_os("CREDENTIALS_DIRECTORY").filter(|d| !d.is_empty()) {
        Some(folder) => Ok(PathBuf::from(folder).join(CREDENTIAL)),
        None => {
            let what = format!(
                "the key is the service manager's credential `{CREDENTIAL}`, and CREDENTIALS_DIRECTORY is not set"
            );
            Err(Error::new(Code::KeyMissing, what))
        }
    }
}

/// The data key of a directory without a keyring.
pub(super) fn legacy_key(dir: &DataDir) -> Result<LogKey> {
    let path = dir.log_key();
    let lines = match read_key_file(&path) {
        Err(e) if e.code == Code::KeyMissing && crate::dir::exists(&path)? => return Err(e),
        other => other?,
    };
    let mut bare = lines.into_iter().filter(|l| l.bare);
    match (bare.next(), bare.next()) {
        (Some(line), None) => Ok(LogKey::of(line.key)),
        (None, _) => {
            let what = format!("there is no such file; {} alone opens nothing", path.display());
            Err(Error::at(Code::KeyMissing, &dir.keyring_file(), what))
        }
        _ => Err(Error::at(Code::KeyBad, &path, "it holds more than one key")),
    }
}

/// Removes a key file durably; one that is gone already is no error.
pub(super) fn remove(path: &Path) -> Result<bool> {
    use crate::error::IoContext;
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.at("removing", path)?,
    }
    crate::dir::sync_dir(crate::dir::folder_of(path))?;
    Ok(true)
}
