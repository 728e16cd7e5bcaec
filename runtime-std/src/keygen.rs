//! `keygen`: makes a node out of an empty directory.
//!
//! `node.json` is written last, and with it there is a node. After a crash before that, keygen can
//! be run again: keys that are there are kept, never overwritten, and the rest is made anew.

use std::fs;
use std::path::Path;

use rcgen::{Issuer, KeyPair, PKCS_ED25519};
use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::cert::{self, Request};
use crate::dir::{Access, DataDir, DirLock, NodeFile, exists, read_secret, write_atomic};
use crate::error::{Error, IoContext, Result};
use crate::identity::{DeploymentId, PEM_MAX_BYTES};
use crate::sign::Issued;
use crate::tls::Clock;

/// The name of a hub for which none was chosen.
pub const HUB_NAME: &str = "hub";

/// Makes a hub: CA, hub certificate, log key. `name` is usually [`HUB_NAME`].
///
/// # Errors
/// [`Code::AlreadyInitialised`] if there is a node, [`Code::BadArgument`] if there is something
/// else, [`Code::Config`] if there is a log but no `node.json`, and nothing was changed;
/// [`Code::Locked`], [`Code::Io`], [`Code::DiskFull`].
pub fn init_hub(dir: &DataDir, name: NodeName, clock: Clock) -> Result<NodeFile> {
    let _lock = begin(dir)?;
    if let Some(other) = Issued::read(&dir.issued())?.into_iter().find(|i| i.name != name.as_str()) {
        let what = format!("it signed {} but its node.json is gone: restore that from a backup", other.name);
        return Err(Error::at(Code::Config, dir.root(), what));
    }
    let ca_key = make_key(&dir.ca_key())?;
    let node_key = make_key(&dir.node_key())?;
    let ca = cert::ca(&ca_key, clock.now_s())?;
    let mut deployment = DeploymentId([0; 8]);
    cert::random(&mut deployment.0)?;
    let request = Request { deployment, name, role: Role::Hub, serial: 2, now_s: clock.now_s() };
    let issuer = Issuer::from_ca_cert_der(ca.der(), &ca_key)
        .map_err(|e| Error::at(Code::NotACa, &dir.ca_crt(), "cannot sign").with_source(e))?;
    let crt = cert::issue(&issuer, &node_key, &request)?;

    write_atomic(&dir.ca_crt(), ca.pem().as_bytes(), Access::Public)?;
    write_atomic(&dir.node_crt(), crt.pem().as_bytes(), Access::Public)?;
    // The CA's own name is taken, so that nobody else is signed under it.
    let record = Issued::new(&request, node_key.public_key_raw());
    write_atomic(&dir.issued(), record.line()?.as_bytes(), Access::Secret)?;
    finish(dir, NodeFile { name, role: Role::Hub, deployment: Some(deployment) })
}

/// Makes a clinic's node: key pair, request for a certificate, log key.
///
/// # Errors
/// As [`init_hub`].
pub fn init_node(dir: &DataDir, name: NodeName) -> Result<NodeFile> {
    let _lock = begin(dir)?;
    if exists(&dir.ca_key())? {
        let what = "a CA's key lies there: finish it with keygen --hub, or choose another directory";
        return Err(Error::at(Code::AlreadyInitialised, &dir.ca_key(), what));
    }
    let key = make_key(&dir.node_key())?;
    write_atomic(&dir.node_csr(), cert::csr(&name, &key)?.as_bytes(), Access::Public)?;
    finish(dir, NodeFile { name, role: Role::Clinic, deployment: None })
}

/// Checks that nothing can be lost, makes the folders and takes the lock.
fn begin(dir: &DataDir) -> Result<DirLock> {
    refuse_existing(dir)?;
    dir.create()?;
    let lock = DirLock::acquire(dir)?;
    // Another keygen may have ended between the first look and the lock.
    refuse_existing(dir)?;
    Ok(lock)
}

fn refuse_existing(dir: &DataDir) -> Result<()> {
    if dir.is_initialised()? {
        return Err(Error::at(Code::AlreadyInitialised, dir.root(), "it has a node.json"));
    }
    let log = dir.log();
    if exists(&log)? && fs::read_dir(&log).at("listing", &log)?.next().is_some() {
        let what = "it holds a log but no node.json: restore that from a backup";
        return Err(Error::at(Code::Config, dir.root(), what));
    }
    Ok(())
}

fn finish(dir: &DataDir, node: NodeFile) -> Result<NodeFile> {
    crate::keyring::create(dir, crate::keyring::now_s())?;
    node.write(dir)?;
    Ok(node)
}

/// The private key of a file; makes one if there is none.
fn make_key(path: &Path) -> Result<KeyPair> {
    if exists(path)? {
        return read_key(path);
    }
    let key = cert::new_key()?;
    write_atomic(path, cert::key_pem(&key).as_bytes(), Access::Secret)?;
    Ok(key)
}

/// Reads a private key that signs certificates or requests.
pub(crate) fn read_key(path: &Path) -> Result<KeyPair> {
    parse_key(&read_secret(path, PEM_MAX_BYTES)?).map_err(|e| e.in_file(path))
}

/// Reads a private key that signs certificates or requests from a PEM text.
pub(crate) fn parse_key(pem: &[u8]) -> Result<KeyPair> {
    // The same reader as that of TLS, so that a key which keygen keeps is one that a node can use.
    let key = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).ok(),
        _ => None,
    };
    key.ok_or_else(|| Error::new(Code::KeyBad, "not an Ed25519 private key in PEM form"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NodeIdentity;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const NOW: Clock = Clock::Fixed(1_800_000_000);

    fn name(s: &str) -> NodeName {
        NodeName::new(s).unwrap()
    }

    fn files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                if path.is_dir() {
                    assert_eq!(mode, 0o700, "{path:?}");
                    folders.push(path);
                } else {
                    all.insert(path.clone(), (mode, fs::read(&path).unwrap()));
                }
            }
        }
        all
    }

    #[test]
    fn a_hub_is_complete_and_a_second_keygen_changes_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("a/hub"));
        let node = init_hub(&dir, name(HUB_NAME), NOW).unwrap();
        let id = NodeIdentity::load(&dir).unwrap();
        assert_eq!((id.name(), id.role(), Some(id.deployment())), (node.name, Role::Hub, node.deployment));
        assert_eq!(dir.node().unwrap(), node);
        assert_eq!(dir.keyring().unwrap().current(), 1);
        let before = files(dir.root());
        for (path, (mode, _)) in &before {
            let secret = path.extension().is_some_and(|e| e == "key" || e == "ndjson")
                || path.ends_with("lock")
                || path.ends_with("keyring");
            assert_eq!(*mode, if secret { 0o600 } else { 0o644 }, "{path:?}");
        }
        assert_eq!(init_hub(&dir, name("x"), NOW).unwrap_err().code, Code::AlreadyInitialised);
        assert_eq!(init_node(&dir, name("x")).unwrap_err().code, Code::AlreadyInitialised);
        assert_eq!(files(dir.root()), before);
    }

    #[test]
    fn a_clinic_waits_for_its_certificate() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        assert_eq!(init_node(&dir, name("clinic_a")).unwrap().deployment, None);
        assert_eq!(NodeIdentity::load(&dir).unwrap_err().code, Code::NotSigned);
        assert_eq!(init_node(&dir, name("clinic_a")).unwrap_err().code, Code::AlreadyInitialised);
    }

    #[test]
    fn after_a_crash_at_any_file_keygen_runs_again_and_keeps_the_keys() {
        let tmp = tempfile::tempdir().unwrap();
        let whole = DataDir::new(tmp.path().join("whole"));
        init_hub(&whole, name("hub"), NOW).unwrap();
        let order = [
            "tls/ca.key",
            "tls/node.key",
            "tls/ca.crt",
            "tls/node.crt",
            "tls/issued.ndjson",
            "keys/log.key",
            "keys/keyring",
        ];
        for written in 0..=order.len() {
            let dir = DataDir::new(tmp.path().join(written.to_string()));
            dir.create().unwrap();
            for rel in &order[..written] {
                fs::copy(whole.root().join(rel), dir.root().join(rel)).unwrap();
            }
            fs::write(dir.root().join("node.json.tmp"), "torn").unwrap();
            init_hub(&dir, name("hub"), NOW).unwrap();
            NodeIdentity::load(&dir).unwrap();
            for rel in order[..written].iter().filter(|r| r.ends_with(".key")) {
                let read = |d: &DataDir| fs::read(d.root().join(rel)).unwrap();
                assert_eq!(read(&dir), read(&whole), "{rel}");
            }
        }
        let clinic = DataDir::new(tmp.path().join("clinic"));
        init_node(&clinic, name("c")).unwrap();
        let key = fs::read(clinic.node_key()).unwrap();
        fs::remove_file(clinic.node_json()).unwrap();
        init_node(&clinic, name("c")).unwrap();
        assert_eq!(fs::read(clinic.node_key()).unwrap(), key);
    }

    #[test]
    fn keygen_and_tls_read_the_same_keys() {
        let good = cert::key_pem(&cert::new_key().unwrap());
        let p256 = cert::key_pem(&KeyPair::generate().unwrap());
        let cases = [
            (good.to_string(), true),
            (format!("a note\n{}", *good), true),
            (format!("A{}", *good), false),
            (good.replace("PRIVATE KEY", "CERTIFICATE"), false),
            (good.replacen("PRIVATE KEY", "EC PRIVATE KEY", 2) + &good, false),
            (String::new(), false),
        ];
        for (text, ok) in cases {
            assert_eq!(parse_key(text.as_bytes()).is_ok(), ok, "{text}");
            assert_eq!(crate::identity::parse_tls_key(text.as_bytes()).is_ok(), ok, "{text}");
        }
        assert_eq!(parse_key(p256.as_bytes()).unwrap_err().code, Code::KeyBad, "TLS takes it, a node does not");
    }

    #[test]
    fn a_directory_with_something_to_lose_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let home = DataDir::new(tmp.path().join("home"));
        fs::create_dir(home.root()).unwrap();
        fs::write(home.root().join("letter.txt"), "").unwrap();
        assert_eq!(init_node(&home, name("x")).unwrap_err().code, Code::BadArgument);

        let hub = DataDir::new(tmp.path().join("hub"));
        init_hub(&hub, name("hub"), NOW).unwrap();
        fs::remove_file(hub.node_json()).unwrap();
        assert_eq!(init_node(&hub, name("x")).unwrap_err().code, Code::AlreadyInitialised);
        assert_eq!(init_hub(&hub, name("other"), NOW).unwrap_err().code, Code::Config);
        fs::write(hub.log().join("1.seg"), "").unwrap();
        assert_eq!(init_hub(&hub, name("hub"), NOW).unwrap_err().code, Code::Config);

        let held = DataDir::new(tmp.path().join("held"));
        held.create().unwrap();
        let _lock = DirLock::acquire(&held).unwrap();
        assert_eq!(init_node(&held, name("x")).unwrap_err().code, Code::Locked);
    }
}
