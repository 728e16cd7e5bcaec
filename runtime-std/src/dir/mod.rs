//! The data directory: where everything of one node lies.
//!
//! ```text
//! node.json            name, role, deployment; written last by keygen: with it there is a node
//! keys/log.key         key-encryption key, 0600          keys/keyring   data keys, wrapped by it, 0600
//! tls/node.key         private key (PKCS#8 PEM, 0600)    tls/node.csr   request for a certificate
//! tls/node.crt         this node's certificate           tls/ca.crt     the CA it trusts
//! tls/sample.ndjson    what codecs know before the first event; given by the operator, the same at hub and clinics
//! tls/ca.key           hubs only, 0600                   tls/issued.ndjson   what the CA has signed
//! log/                 segments                          quarantine/    what was set aside
//! restored.json        if the log came from a snapshot: which one, and when
//! log.restoring/       a log on its way from a snapshot  keys.restoring/  its keys
//! retain.json          what may be removed from the log  backup.json    up to where a backup exists; hubs only
//! asked.json           which withheld events are asked for once more (crate::fetch)
//! traffic.json         bytes of the wire on the last days (crate::budget)
//! lock                 held by the process that works here; holds its process id
//! ```

mod file;
mod lock;
mod node;
mod secret;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ropeway_core::code::Code;

pub use file::{Access, read_bounded, write_atomic};
pub(crate) use file::{folder_of, forget_temporary, is_temporary, read_open, sync_dir};
pub use lock::DirLock;
pub use node::NodeFile;
pub(crate) use node::role_str as node_role_str;
pub use secret::{LogKey, read_secret};
pub(crate) use secret::{hex, hex_into, unhex};

use crate::error::{Error, IoContext, Result};
use crate::identity::DeploymentId;
use crate::keyring::{Ask, Keyring, Secrets};

/// A data directory by its path. Holds no file open and no lock. Copies share the passphrase that was
/// asked for.
#[derive(Clone)]
pub struct DataDir {
    root: PathBuf,
    secrets: Arc<Secrets>,
}

impl PartialEq for DataDir {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Eq for DataDir {}

impl std::fmt::Debug for DataDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataDir").field("root", &self.root).finish_non_exhaustive()
    }
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident $rel:literal;)*) => {
        impl DataDir {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { self.root.join($rel) })*
        }
    };
}

paths! {
    /// Who lives here.
    node_json "node.json";
    /// The key that opens the keyring, unless it comes from elsewhere; without a keyring, the key of
    /// the log.
    log_key "keys/log.key";
    /// The data keys of the log, wrapped.
    keyring_file "keys/keyring";
    /// Folder of the TLS files.
    tls "tls";
    /// Certificate of the CA.
    ca_crt "tls/ca.crt";
    /// Private key of the CA; hubs only.
    ca_key "tls/ca.key";
    /// Certificate of this node.
    node_crt "tls/node.crt";
    /// Private key of this node.
    node_key "tls/node.key";
    /// Request for a certificate.
    node_csr "tls/node.csr";
    /// What codecs know before the first event, if the operator gave it.
    sample "tls/sample.ndjson";
    /// Sessions that clinics may resume, sealed; hubs only.
    tickets "tls/tickets";
    /// What this CA has signed, one JSON object a line.
    issued "tls/issued.ndjson";
    /// Folder of the log's segments.
    log "log";
    /// Folder of what was set aside.
    quarantine "quarantine";
    /// Where a restore puts the log together before it moves it to its place.
    restoring "log.restoring";
    /// Where it puts the keys together.
    keys_restoring "keys.restoring";
    /// That the log came from a snapshot, and when: part of the machine's fingerprint.
    restored "restored.json";
    /// What may be removed from the log.
    retain_json "retain.json";
    /// Up to where a backup exists; hubs only.
    backup_json "backup.json";
    /// Which withheld events are asked for once more.
    asked_json "asked.json";
    /// The file that a working process locks.
    lock "lock";
}

/// Everything that keygen may have left behind; anything else is not ours to touch.
const OURS: [&str; 6] = ["node.json", "keys", "tls", "log", "quarantine", "lock"];

impl DataDir {
    /// Names a directory; looks at nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), secrets: Arc::default() }
    }

    /// The directory that holds a node.
    ///
    /// # Errors
    /// [`Code::NotInitialised`] if there is none; [`Code::Config`], [`Code::FormatNewer`] or
    /// [`Code::Io`] if its `node.json` cannot be used.
    pub fn open(root: impl Into<PathBuf>) -> Result<(Self, NodeFile)> {
        let dir = Self::new(root);
        let node = dir.node()?;
        Ok((dir, node))
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `node.json`.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub fn node(&self) -> Result<NodeFile> {
        NodeFile::read(self)
    }

    /// Writes the deployment that a clinic's certificate names into `node.json`, once; from then on
    /// a certificate of another deployment is refused. Call it under the [`DirLock`].
    ///
    /// # Errors
    /// [`Code::Deployment`] if another one is written there; [`Code::Io`] and those of
    /// [`DataDir::open`].
    pub fn record_deployment(&self, deployment: DeploymentId) -> Result<NodeFile> {
        let mut node = self.node()?;
        match node.deployment {
            Some(known) if known == deployment => {}
            Some(known) => {
                let what = format!("it belongs to deployment {known}, the certificate to {deployment}");
                return Err(Error::at(Code::Deployment, &self.node_json(), what));
            }
            None => {
                node.deployment = Some(deployment);
                node.write(self)?;
            }
        }
        Ok(node)
    }

    /// The same directory, with somebody to ask for its passphrase if its keyring has one. The answer is
    /// used until the passphrase changes; without this, such a directory does not open.
    #[must_use]
    pub fn with_passphrase(self, ask: Ask) -> Self {
        Self { secrets: Arc::new(Secrets::asking(ask)), ..self }
    }

    /// Another directory, with the same one to ask for its passphrase.
    pub(crate) fn at(&self, root: impl Into<PathBuf>) -> Self {
        Self { secrets: Arc::clone(&self.secrets), ..Self::new(root) }
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Unlocks the data keys. Changes nothing.
    ///
    /// # Errors
    /// [`Code::KeyMissing`], [`Code::KeyBad`] or [`Code::KeyExposed`] if a file is not there, damaged, or
    /// open to others; [`Code::WrongKey`] if key or passphrase do not open the keyring;
    /// [`Code::FormatNewer`]; [`Code::Io`]; and those of whoever is asked for the passphrase.
    pub fn keyring(&self) -> Result<Keyring> {
        crate::keyring::unlock(self).map(|unlocked| unlocked.ring)
    }

    /// Removes what interrupted writes have left under other names: it takes room, and a key may stand in
    /// it. What cannot be removed is in nobody's way. Call it under the [`DirLock`].
    pub(crate) fn tidy(&self) {
        // Beside certificates a CA may be writing just now: it takes no lock here.
        let tls = |name: &str| name.ends_with(".key.tmp");
        remove_files(&self.tls(), &tls);
        for folder in [self.root.clone(), self.root.join("keys"), self.log(), self.quarantine()] {
            remove_files(&folder, &is_temporary);
        }
        for folder in [self.restoring(), self.keys_restoring()] {
            match fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => log::warn!("removing {}: {e}", folder.display()),
                _ => {}
            }
        }
    }

    /// Whether `node.json` exists in any form.
    pub(crate) fn is_initialised(&self) -> Result<bool> {
        exists(&self.node_json())
    }

    /// Makes the folders (0700). Refuses a directory that holds files of others, because its
    /// permissions would be changed.
    pub(crate) fn create(&self) -> Result<()> {
        match fs::read_dir(&self.root) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.at("listing", &self.root)?.file_name();
                    let name = name.to_string_lossy();
                    if !OURS.contains(&name.as_ref()) && !file::is_temporary(&name) {
                        let what = format!("the directory holds something else already ({name})");
                        return Err(Error::at(Code::BadArgument, &self.root, what));
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("listing", &self.root),
        }
        for folder in [self.root.clone(), self.root.join("keys"), self.tls(), self.log(), self.quarantine()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).at("creating", &folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).at("closing to others", &folder)?;
        }
        file::sync_dir(&self.root)
    }
}

/// Removes the plain files of a folder whose name is `wanted`, durably.
fn remove_files(folder: &Path, wanted: &dyn Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut removed = false;
    for entry in entries.flatten().filter(|e| e.file_name().to_str().is_some_and(wanted)) {
        match fs::remove_file(entry.path()) {
            Ok(()) => removed = true,
            Err(e) => log::warn!("removing {}: {e}", entry.path().display()),
        }
    }
    if removed && let Err(e) = file::sync_dir(folder) {
        log::warn!("{e}");
    }
}

/// Whether there is a file, where "cannot tell" is an error and not a no.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().at("looking for", path)
}
