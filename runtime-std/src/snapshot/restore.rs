//! A data directory from a snapshot.
//!
//! The log appears at once: it is copied beside its place, checked, and moved there by one rename. A
//! crash before that leaves a node with an empty log, and restoring can be begun again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use serde::Serialize;
use zeroize::Zeroizing;

use super::copy::{copy, hash, make_folder};
use super::{Keys, Manifest, head, look, plain_files};
use crate::cert;
use crate::dir::{
    Access, DataDir, DirLock, NodeFile, exists, folder_of, hex, read_bounded, read_secret, sync_dir, write_atomic,
};
use crate::error::{Error, IoContext, Result};
use crate::identity::{NodeIdentity, PEM_MAX_BYTES};
use crate::keygen::init_node;
use crate::pass::Pass;
use crate::store::{DirFiles, Files, keys};

/// Folder of the keys.
const KEYS: &str = "keys";
/// Longest file of keys.
const KEY_MAX_BYTES: usize = 1 << 20;
/// Longest record of certificates that is taken over.
const ISSUED_MAX_BYTES: usize = 64 << 20;

/// What a snapshot does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Where the log's keys are, if the snapshot was taken without: a data directory, its `keys` folder,
    /// or, of a node that has no keyring, the one file `log.key`.
    pub keys: Option<PathBuf>,
    /// The folder that holds the node's certificate and key (and a hub's CA): a data directory or its
    /// `tls` folder. Without it a new key pair is made, to be signed again.
    pub identity: Option<PathBuf>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The node that lives in the directory now.
    pub node: NodeFile,
    /// What it was made from.
    pub manifest: Manifest,
    /// Whether it has a certificate that fits.
    pub signed: bool,
    /// A key that lay in the directory and opens nothing was kept under this name.
    pub key_kept_as: Option<PathBuf>,
}

/// Makes the data directory `dir` from the snapshot in `snapshot`. Two ways:
///
/// - `dir` is empty or not there: the same node again, by the snapshot's name.
/// - `dir` holds a node with an empty log (from keygen): that node begins with the snapshot's log. Its
///   name may be another one, as for a second hub.
///
/// Either way the node goes on in an incarnation that nobody has used.
///
/// # Errors
/// [`Code::BadSnapshot`] if the snapshot is incomplete or has changed; [`Code::AlreadyInitialised`] if
/// `dir` holds a log; [`Code::KeyMissing`], [`Code::WrongKey`]; [`Code::Deployment`] if the node
/// belongs to another one; [`Code::BadCertificate`] and its kin if the identity does not fit.
/// Everything that can be checked is checked before anything is written.
pub fn restore(
    snapshot: &Path,
    dir: &DataDir,
    options: &RestoreOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<Restored> {
    let manifest = Manifest::read(snapshot)?;
    check_files(snapshot, &manifest, &mut progress)?;
    let there = existing(dir)?;
    if let Some(node) = &there {
        let (ours, theirs) = (node.deployment.map(|d| d.to_string()), manifest.deployment.as_ref());
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != *theirs
        {
            let what = format!("it belongs to deployment {ours}, the snapshot to {theirs}");
            return Err(Error::at(Code::Deployment, dir.root(), what));
        }
        if options.identity.is_some() {
            let what = "it has an identity already; leave --identity out, or name a new directory";
            return Err(Error::at(Code::BadArgument, dir.root(), what));
        }
    }
    let source = KeySource::choose(snapshot, dir, options)?;
    check_log(snapshot, &manifest, &source.load(snapshot)?, &mut progress)?;
    if let Some(from) = &options.identity {
        check_identity(from, &manifest)?;
    }

    let made = there.is_none();
    let (node, _lock) = match there {
        Some(node) => (node, DirLock::acquire(dir)?),
        None => make(dir, &manifest, options)?,
    };
    if existing(dir)?.is_none() {
        return Err(Error::at(Code::NotInitialised, dir.root(), "it has changed meanwhile"));
    }
    let mut key_kept_as = put_key(dir, &source)?;
    if made && let Some(path) = key_kept_as.take() {
        // It was drawn a moment ago.
        fs::remove_dir_all(&path).at("removing", &path)?;
    }
    put_mark(dir, &manifest)?;
    put_log(snapshot, dir, &manifest, &mut progress)?;
    let signed = NodeIdentity::load(dir).is_ok();
    Ok(Restored { node, manifest, signed, key_kept_as })
}

/// The files are those of the manifest.
fn check_files(snapshot: &Path, manifest: &Manifest, progress: &mut impl FnMut(u64, u64)) -> Result<()> {
    let (mut done, total) = (0, manifest.bytes());
    for f in &manifest.files {
        let path = f.under(snapshot);
        if !exists(&path)? {
            return Err(Error::at(Code::BadSnapshot, &path, "the file is missing"));
        }
        let found = hash(&path, |n| {
            done += n;
            progress(done, total);
        })?;
        if found != (f.bytes, f.blake3.clone()) {
            return Err(Error::at(Code::BadSnapshot, &path, "the file has changed since the snapshot"));
        }
    }
    Ok(())
}

/// The node that is there, if any. Refuses what restoring would destroy.
fn existing(dir: &DataDir) -> Result<Option<NodeFile>> {
    let log = dir.log();
    match fs::read_dir(&log) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let what = "it holds a log already; restoring never goes over one";
                return Err(Error::at(Code::AlreadyInitialised, dir.root(), what));
            }
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(e) => return Err(e).at("listing", &log),
    }
    match dir.node() {
        Ok(node) => Ok(Some(node)),
        Err(e) if e.code == Code::NotInitialised => Ok(None),
        Err(e) => Err(e),
    }
}

/// Where keys come from.
#[derive(Debug)]
enum KeySource {
    /// The `keys` folder of this directory, be it a node's, a snapshot's or a backup's.
    Folder(DataDir),
    /// A file with the data key itself, of a node that has no keyring.
    File(PathBuf),
}

impl KeySource {
    /// The one named, else the snapshot's, else what lies in the directory.
    fn choose(snapshot: &Path, dir: &DataDir, options: &RestoreOptions) -> Result<Self> {
        // A key file that lies beside its keyring is one of a folder.
        let folder = |path: &PathBuf| match folder_of(path).join("keyring").exists() && !path.is_dir() {
            true => folder_of(path).to_owned(),
            false => path.clone(),
        };
        let Some(path) = &options.keys.as_ref().map(folder) else {
            let within = exists(&snapshot.join(KEYS))?;
            return Ok(Self::Folder(if within { dir.at(snapshot) } else { dir.clone() }));
        };
        if !path.is_dir() {
            return Ok(Self::File(path.clone()));
        }
        if path.join(KEYS).is_dir() {
            return Ok(Self::Folder(dir.at(path)));
        }
        let named = path.file_name().is_some_and(|n| n == KEYS);
        let above = named.then(|| folder_of(path));
        above.map(|p| Self::Folder(dir.at(p))).ok_or_else(|| {
            Error::at(Code::BadArgument, path, "it is neither a key file, a folder `keys`, nor one that holds such")
        })
    }

    fn load(&self, snapshot: &Path) -> Result<Keys> {
        let key = match self {
            Self::File(path) => {
                return crate::keyring::bare_key(path).map(|ring| Arc::from(ring.data_keys()));
            }
            Self::Folder(dir) => keys(dir),
        };
        match key {
            Ok(keys) => Ok(Arc::from(keys)),
            Err(e) if e.code == Code::KeyMissing => {
                let what = "the log's key is not in it, nor where it is to be restored: say with --keys where it is";
                Err(Error::at(Code::KeyMissing, snapshot, what).with_source(e))
            }
            Err(e) => Err(e),
        }
    }

    /// Name and content of each file.
    fn files(&self) -> Result<Vec<(String, Zeroizing<Vec<u8>>)>> {
        let (folder, names) = match self {
            Self::File(path) => return Ok(vec![("log.key".to_owned(), read_secret(path, KEY_MAX_BYTES)?)]),
            Self::Folder(dir) => (dir.root().join(KEYS), plain_files(&dir.root().join(KEYS))?),
        };
        names.into_iter().map(|name| read_secret(&folder.join(&name), KEY_MAX_BYTES).map(|b| (name, b))).collect()
    }
}

/// The log opens with this key and holds what the manifest says.
fn check_log(snapshot: &Path, m: &Manifest, keys: &Keys, progress: &mut impl FnMut(u64, u64)) -> Result<()> {
    let name = NodeName::new(&m.node)?;
    let looked = look(Pass::over(DirFiles::new(&DataDir::new(snapshot)), Arc::clone(keys), name), progress)?;
    let heads: Vec<_> = looked.heads.iter().map(|(key, (seq, chain))| head(key, *seq, chain)).collect();
    if heads != m.heads || looked.events != m.events {
        let what = "the log in it does not end where the manifest says";
        return Err(Error::at(Code::BadSnapshot, snapshot, what));
    }
    Ok(())
}

/// Where the files of an identity lie: in a data directory they are in `tls`.
fn tls_folder(from: &Path) -> PathBuf {
    let inner = from.join("tls");
    if inner.is_dir() { inner } else { from.to_owned() }
}

fn check_identity(from: &Path, manifest: &Manifest) -> Result<()> {
    let folder = tls_folder(from);
    read_secret(&folder.join("node.key"), PEM_MAX_BYTES)?;
    let crt = folder.join("node.crt");
    if exists(&crt)? {
        let cert =
            crate::identity::CertIdentity::parse(&crate::identity::read_cert(&crt)?).map_err(|e| e.in_file(&crt))?;
        if cert.peer.name.as_str() != manifest.node {
            let what = format!("it names {}, the snapshot is of {}", cert.peer.name, manifest.node);
            return Err(Error::at(Code::BadCertificate, &crt, what));
        }
    }
    Ok(())
}

/// Makes the node of the snapshot in an empty directory.
fn make(dir: &DataDir, m: &Manifest, options: &RestoreOptions) -> Result<(NodeFile, DirLock)> {
    let name = NodeName::new(&m.node)?;
    let Some(from) = &options.identity else {
        // A new device: its key pair is its own, and somebody must sign it.
        let node = init_node(dir, name)?;
        return Ok((node, DirLock::acquire(dir)?));
    };
    dir.create()?;
    let lock = DirLock::acquire(dir)?;
    let folder = tls_folder(from);
    for (name, access, limit) in [
        ("node.key", Access::Secret, PEM_MAX_BYTES),
        ("ca.key", Access::Secret, PEM_MAX_BYTES),
        ("issued.ndjson", Access::Secret, ISSUED_MAX_BYTES),
        ("node.csr", Access::Public, PEM_MAX_BYTES),
        ("node.crt", Access::Public, PEM_MAX_BYTES),
        ("ca.crt", Access::Public, PEM_MAX_BYTES),
    ] {
        let path = folder.join(name);
        if exists(&path)? {
            let secret = access == Access::Secret && limit == PEM_MAX_BYTES;
            let bytes = if secret { read_secret(&path, limit)? } else { read_bounded(&path, limit)?.into() };
            write_atomic(&dir.tls().join(name), &bytes, access)?;
        }
    }
    let deployment = m.deployment.as_ref().map(|d| d.parse()).transpose()?;
    let role = if m.role == "hub" { Role::Hub } else { Role::Clinic };
    let node = NodeFile { name, role, deployment };
    node.write(dir)?;
    Ok((node, lock))
}

/// Puts the log's key in place. One that lies there and is another one is kept aside: keygen made it
/// for a log that was never begun.
fn put_key(dir: &DataDir, from: &KeySource) -> Result<Option<PathBuf>> {
    let folder = dir.root().join(KEYS);
    let files = from.files()?;
    let is_there = |(name, bytes): &(String, Zeroizing<Vec<u8>>)| {
        read_secret(&folder.join(name), KEY_MAX_BYTES).is_ok_and(|there| there == *bytes)
    };
    if files.iter().all(is_there) {
        return Ok(None);
    }
    // The folder appears whole: half of it, left by a kill, would be put aside by the next try, with a key
    // in it that opens everything.
    let beside = dir.keys_restoring();
    remove_folder(&beside)?;
    make_folder(&beside)?;
    for (name, bytes) in &files {
        write_atomic(&beside.join(name), bytes, Access::Secret)?;
    }
    let mut aside = None;
    if exists(&folder)? && !plain_files(&folder)?.is_empty() {
        aside = (1..).map(|n| dir.root().join(format!("keys.unused-{n}"))).find(|p| !p.exists());
        if let Some(to) = &aside {
            fs::rename(&folder, to).at("renaming", &folder)?;
        }
    }
    // What interrupted writes have left.
    remove_folder(&folder)?;
    fs::rename(&beside, &folder).at("renaming", &beside)?;
    sync_dir(dir.root())?;
    Ok(aside)
}

/// By this file the node notices that its log is a copy, whatever the file system numbers its folder
/// (docs/decisions/0006): its content is part of the machine's fingerprint.
#[derive(Serialize)]
struct Mark<'a> {
    version: u32,
    salt: String,
    from_node: &'a str,
    from_incarnation: Option<&'a str>,
    taken_ms: u64,
    restored_ms: u64,
}

fn put_mark(dir: &DataDir, m: &Manifest) -> Result<()> {
    let mut salt = [0; 16];
    cert::random(&mut salt)?;
    let mark = Mark {
        version: 1,
        salt: hex(&salt),
        from_node: &m.node,
        from_incarnation: m.incarnation.as_deref(),
        taken_ms: m.taken_ms,
        restored_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
    };
    let path = dir.restored();
    let mut bytes =
        serde_json::to_vec_pretty(&mark).map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
    bytes.push(b'\n');
    write_atomic(&path, &bytes, Access::Public)
}

/// With all that is in it; nothing if it is not there.
fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("removing", path),
        _ => Ok(()),
    }
}

fn put_log(snapshot: &Path, dir: &DataDir, m: &Manifest, progress: &mut impl FnMut(u64, u64)) -> Result<()> {
    let beside = dir.restoring();
    remove_folder(&beside)?;
    make_folder(&beside)?;
    let (mut done, total) = (0, m.bytes());
    for f in &m.files {
        let Some(("log", name)) = f.place() else { continue };
        let from = f.under(snapshot);
        let copied = copy(&from, &beside.join(name), f.bytes, f.full_bytes, |n| {
            done += n;
            progress(done, total);
        })?;
        if copied != (f.bytes, f.blake3.clone()) {
            return Err(Error::at(Code::BadSnapshot, &from, "the file has changed since it was checked"));
        }
    }
    sync_dir(&beside)?;
    // Over an empty folder, or nothing: never over a log.
    fs::rename(&beside, dir.log()).at("renaming", &beside)?;
    sync_dir(dir.root())?;
    DirFiles::new(dir).sync_list()
}
