//! `sign`: the hub's CA turns a request into a certificate.
//!
//! What was signed is appended to `tls/issued.ndjson` before the certificate is written, so a name
//! is never given to two keys by accident.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateSigningRequestParams, Issuer, PublicKeyData, SanType};
use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cert::{self, Request};
use crate::dir::node_role_str as role_str;
use crate::dir::{Access, DataDir, exists, folder_of, hex, read_bounded, read_open, write_atomic};
use crate::error::{Error, IoContext, Result};
use crate::identity::{DeploymentId, PEM_MAX_BYTES, not_found, read_cert};
use crate::keygen::read_key;
use crate::sample::Sample;
use crate::tls::Clock;

/// Longest list of certificates that is read: some 300,000 of them.
const ISSUED_MAX_BYTES: usize = 64 * 1024 * 1024;

/// How to sign.
#[derive(Clone, Copy, Debug)]
pub struct SignOptions {
    /// What the node may be. [`Role::Hub`] is for hubs that other nodes dial.
    pub role: Role,
    /// Sign a new key for a name that has one: the device was replaced.
    pub replace: bool,
    /// When it is.
    pub clock: Clock,
}

impl Default for SignOptions {
    fn default() -> Self {
        Self { role: Role::Clinic, replace: false, clock: Clock::System }
    }
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The node that the certificate names.
    pub node: NodeName,
    /// Its role.
    pub role: Role,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Last second of validity, since 1970.
    pub not_after_s: u64,
    /// The certificate: `node.crt` beside the request.
    pub cert_path: PathBuf,
    /// The CA's certificate: `ca.crt` beside the request.
    pub ca_path: PathBuf,
    /// The hub's base sample, if it has one: `sample.ndjson` beside the request.
    pub sample_path: Option<PathBuf>,
}

/// Signs the request at `csr_path` with the CA of `ca_dir`; writes `node.crt`, `ca.crt` and, if the hub has one, its
/// base sample beside the request. Works while a hub serves from `ca_dir`. Signing the same key again is a renewal.
///
/// # Errors
/// [`Code::NotACa`]; [`Code::BadCsr`]; [`Code::NameTaken`] if another key has that name and
/// `replace` was not given; [`Code::KeyExposed`] or [`Code::KeyBad`] of the CA's key; [`Code::Io`].
pub fn sign(csr_path: &Path, ca_dir: &DataDir, options: &SignOptions) -> Result<Signed> {
    let ca = Ca::open(ca_dir)?;
    let (name, public_key) = read_csr(csr_path)?;
    let beside = folder_of(csr_path);
    let (cert_path, ca_path) = (beside.join("node.crt"), beside.join("ca.crt"));
    if same_folder(beside, &ca_dir.tls()) {
        let what = "it lies in the CA's own directory, whose certificate would be overwritten";
        return Err(Error::at(Code::BadArgument, csr_path, what));
    }

    let mut list = IssuedFile::open(ca_dir.issued())?;
    let key_hex = hex(public_key.der_bytes());
    let taken = list.records.iter().rev().find(|r| r.name == name.as_str());
    if taken.is_some_and(|r| r.key != key_hex) && !options.replace {
        return Err(Error::at(Code::NameTaken, csr_path, format!("{name} has another key")));
    }
    // The CA's own certificate is number 1.
    let serial = list.records.len() as u64 + 2;
    let request = Request { deployment: ca.deployment, name, role: options.role, serial, now_s: options.clock.now_s() };
    let crt = cert::issue(&ca.issuer, &public_key, &request)?;
    list.append(&Issued::new(&request, public_key.der_bytes()))?;
    write_atomic(&cert_path, crt.pem().as_bytes(), Access::Public)?;
    write_atomic(&ca_path, ca.pem.as_slice(), Access::Public)?;
    let sample_path = Sample::of(ca_dir)?.map(|sample| {
        let path = beside.join("sample.ndjson");
        sample.write(&path).map(|()| path)
    });
    let sample_path = sample_path.transpose()?;
    let not_after_s = request.validity_s().1;
    Ok(Signed {
        node: name,
        role: options.role,
        deployment: ca.deployment,
        not_after_s,
        cert_path,
        ca_path,
        sample_path,
    })
}

struct Ca {
    deployment: DeploymentId,
    issuer: Issuer<'static, rcgen::KeyPair>,
    pem: Vec<u8>,
}

impl Ca {
    fn open(dir: &DataDir) -> Result<Self> {
        let not_a_ca = |what: &str| Error::at(Code::NotACa, dir.root(), what);
        let node = match dir.node() {
            Err(e) if e.code == Code::NotInitialised => return Err(not_a_ca("there is no node.json")),
            other => other?,
        };
        let Some(deployment) = node.deployment else {
            return Err(not_a_ca("the node there is a clinic"));
        };
        if !exists(&dir.ca_key())? {
            return Err(not_a_ca("there is no tls/ca.key"));
        }
        let key = read_key(&dir.ca_key())?;
        let pem = read_bounded(&dir.ca_crt(), PEM_MAX_BYTES)?;
        let cert = read_cert(&dir.ca_crt())?;
        let public = key.subject_public_key_info();
        let issuer =
            Issuer::from_ca_cert_der(&cert, key).map_err(|e| not_a_ca("tls/ca.crt is no CA's").with_source(e))?;
        if !crate::identity::has_public_key(&cert, &public) {
            return Err(not_a_ca("tls/ca.key does not fit tls/ca.crt"));
        }
        Ok(Self { deployment, issuer, pem })
    }
}

/// Checks a request: its signature proves that the sender holds the key.
fn read_csr(path: &Path) -> Result<(NodeName, rcgen::PublicKey)> {
    let pem = match read_bounded(path, PEM_MAX_BYTES) {
        Err(e) if e.code == Code::Config => return Err(Error::new(Code::BadCsr, e.context)),
        other => other?,
    };
    parse_csr(&pem).map_err(|e| e.in_file(path))
}

/// Reads a request in PEM form.
pub(crate) fn parse_csr(pem: &[u8]) -> Result<(NodeName, rcgen::PublicKey)> {
    let bad = |what: &str| Error::new(Code::BadCsr, what);
    let pem = std::str::from_utf8(pem).map_err(|_| bad("not PEM"))?;
    let csr = CertificateSigningRequestParams::from_pem(pem).map_err(|e| bad("not a request").with_source(e))?;
    let name = requested(&csr).map_err(bad)?;
    Ok((name, csr.public_key))
}

/// The name that a request asks for, if it asks for nothing else.
pub(crate) fn requested(csr: &CertificateSigningRequestParams) -> std::result::Result<NodeName, &'static str> {
    let [SanType::URI(uri)] = csr.params.subject_alt_names.as_slice() else {
        return Err("it does not ask for exactly one name, a URI");
    };
    let name = uri.as_str().strip_prefix("rw:/").ok_or("its URI is not rw:/NAME")?;
    let name = NodeName::new(name).map_err(|_| "its URI does not hold a node name")?;
    if csr.public_key.algorithm() != &rcgen::PKCS_ED25519 || csr.public_key.der_bytes().len() != 32 {
        return Err("its key is not Ed25519");
    }
    Ok(name)
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// One line of `tls/issued.ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The node.
    pub name: String,
    /// `clinic` or `hub`.
    pub role: String,
    /// Its public key, 64 hexadecimal digits.
    pub key: String,
    /// Serial number of the certificate.
    pub serial: u64,
    /// First second of validity, since 1970.
    pub not_before_s: u64,
    /// Last second of validity, since 1970.
    pub not_after_s: u64,
}

impl Issued {
    pub(crate) fn new(request: &Request, public_key: &[u8]) -> Self {
        let (not_before_s, not_after_s) = request.validity_s();
        let (name, role) = (request.name.to_string(), role_str(request.role).to_owned());
        Self { name, role, key: hex(public_key), serial: request.serial, not_before_s, not_after_s }
    }

    pub(crate) fn line(&self) -> Result<String> {
        let mut line = serde_json::to_string(self).map_err(|e| Error::new(Code::Io, "a record").with_source(e))?;
        line.push('\n');
        Ok(line)
    }

    /// Everything that a CA has signed, oldest first; empty if there is no list.
    ///
    /// # Errors
    /// [`Code::Config`] naming the line that cannot be read; [`Code::Io`].
    pub fn read(path: &Path) -> Result<Vec<Issued>> {
        match read_bounded(path, ISSUED_MAX_BYTES) {
            Err(e) if not_found(&e) => Ok(Vec::new()),
            other => parse_list(&other?).map(|(records, _)| records).map_err(|e| e.in_file(path)),
        }
    }
}

/// The records, and how many bytes they take: less than there are if the last write was torn.
pub(crate) fn parse_list(bytes: &[u8]) -> Result<(Vec<Issued>, usize)> {
    let mut records = Vec::new();
    let mut whole = 0;
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        // A line without its end was not durable, so no certificate was written for it.
        let Some(line_json) = line.strip_suffix(b"\n") else { break };
        let record = serde_json::from_slice(line_json)
            .map_err(|e| Error::new(Code::Config, format!("line {}", i + 1)).with_source(e))?;
        records.push(record);
        whole += line.len();
    }
    Ok((records, whole))
}

/// The list, open for appending and locked against another `sign`.
struct IssuedFile {
    path: PathBuf,
    file: File,
    records: Vec<Issued>,
}

impl IssuedFile {
    fn open(path: PathBuf) -> Result<Self> {
        let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = open.at("opening", &path)?;
        // Signing takes milliseconds: waiting is kinder than refusing.
        flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from).at("locking", &path)?;
        let bytes = read_open(&file, &path, ISSUED_MAX_BYTES)?;
        let (records, whole) = parse_list(&bytes).map_err(|e| e.in_file(&path))?;
        if whole < bytes.len() {
            file.set_len(whole as u64).at("writing", &path)?;
        }
        Ok(Self { path, file, records })
    }

    fn append(&mut self, record: &Issued) -> Result<()> {
        let line = record.line()?;
        let write = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        write.at("writing", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NodeIdentity;
    use crate::keygen::{init_hub, init_node};
    use std::fs;

    const OPTIONS: SignOptions = SignOptions { role: Role::Clinic, replace: false, clock: Clock::Fixed(1_800_000_000) };

    fn name(s: &str) -> NodeName {
        NodeName::new(s).unwrap()
    }

    fn hub_and_clinic(tmp: &Path) -> (DataDir, DataDir) {
        let (hub, clinic) = (DataDir::new(tmp.join("hub")), DataDir::new(tmp.join("clinic_a")));
        init_hub(&hub, name("hub"), OPTIONS.clock).unwrap();
        init_node(&clinic, name("clinic_a")).unwrap();
        (hub, clinic)
    }

    #[test]
    fn the_hubs_sample_goes_to_the_clinic_with_its_certificate() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let sample = Sample::new(b"{\"event\":\"visit\"}\n".to_vec()).unwrap();
        sample.install(&hub).unwrap();
        let signed = sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap();
        assert_eq!(signed.sample_path, Some(clinic.sample()));
        assert_eq!(Sample::of(&clinic).unwrap(), Some(sample));
    }

    #[test]
    fn a_signed_clinic_has_an_identity_and_may_be_signed_again() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let signed = sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap();
        assert_eq!((signed.node, signed.cert_path), (name("clinic_a"), clinic.node_crt()));
        assert_eq!((signed.sample_path, Sample::of(&clinic).unwrap()), (None, None));
        let id = NodeIdentity::load(&clinic).unwrap();
        assert_eq!((id.name(), id.role()), (name("clinic_a"), Role::Clinic));
        assert_eq!(id.deployment(), hub.node().unwrap().deployment.unwrap());
        assert_eq!(id.cert.not_after_s, signed.not_after_s);
        assert_eq!(id.cert.not_before_s, 1_800_000_000 - 86_400);

        let as_hub = SignOptions { role: Role::Hub, ..OPTIONS };
        sign(&clinic.node_csr(), &hub, &as_hub).unwrap();
        assert_eq!(NodeIdentity::load(&clinic).unwrap().role(), Role::Hub);
        let serials: Vec<_> = Issued::read(&hub.issued()).unwrap().iter().map(|i| i.serial).collect();
        assert_eq!(serials, [2, 3, 4]);
    }

    #[test]
    fn another_key_for_a_name_needs_replace() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap();
        let list = fs::read(hub.issued()).unwrap();
        let second = DataDir::new(tmp.path().join("second"));
        init_node(&second, name("clinic_a")).unwrap();
        assert_eq!(sign(&second.node_csr(), &hub, &OPTIONS).unwrap_err().code, Code::NameTaken);
        let posing = DataDir::new(tmp.path().join("posing"));
        init_node(&posing, name("hub")).unwrap();
        assert_eq!(sign(&posing.node_csr(), &hub, &OPTIONS).unwrap_err().code, Code::NameTaken);
        assert_eq!(NodeIdentity::load(&second).unwrap_err().code, Code::NotSigned);
        assert_eq!(fs::read(hub.issued()).unwrap(), list);

        sign(&second.node_csr(), &hub, &SignOptions { replace: true, ..OPTIONS }).unwrap();
        // Now the first device is the stranger.
        assert_eq!(sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap_err().code, Code::NameTaken);
    }

    #[test]
    fn only_a_sound_request_is_signed() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let csr = tmp.path().join("node.csr");
        assert_eq!(sign(&csr, &hub, &OPTIONS).unwrap_err().code, Code::Io);
        let good = fs::read_to_string(clinic.node_csr()).unwrap();
        // One digit of the base64 body changed: the signature is wrong, or the form is.
        let at = good.len() / 2;
        let flipped = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let altered = format!("{}{flipped}{}", &good[..at], &good[at + 1..]);
        let key = cert::new_key().unwrap();
        let request = |sans: Vec<SanType>| {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = sans;
            params.serialize_request(&key).unwrap().pem().unwrap()
        };
        let uri = |s: &str| SanType::URI(s.try_into().unwrap());
        let p256 = {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = vec![uri("rw:/x")];
            params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap()
        };
        let cases = [
            String::new(),
            "garbage".into(),
            altered,
            "A".repeat(PEM_MAX_BYTES + 1),
            fs::read_to_string(hub.ca_crt()).unwrap(),
            request(vec![]),
            request(vec![uri("rw:/a"), uri("rw:/b")]),
            request(vec![SanType::DnsName("a".try_into().unwrap())]),
            request(vec![uri("rw:/../a")]),
            request(vec![uri("rw:0123456789abcdef/a")]),
            p256,
        ];
        for (i, text) in cases.iter().enumerate() {
            fs::write(&csr, text).unwrap();
            assert_eq!(sign(&csr, &hub, &OPTIONS).unwrap_err().code, Code::BadCsr, "case {i}");
        }
        assert!(!tmp.path().join("node.crt").exists());
        fs::write(&csr, request(vec![uri("rw:/a")])).unwrap();
        sign(&csr, &hub, &OPTIONS).unwrap();
    }

    #[test]
    fn only_a_ca_signs_and_never_over_its_own_certificate() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let empty = DataDir::new(tmp.path());
        for dir in [&empty, &clinic] {
            assert_eq!(sign(&clinic.node_csr(), dir, &OPTIONS).unwrap_err().code, Code::NotACa);
        }
        fs::copy(clinic.node_csr(), hub.node_csr()).unwrap();
        assert_eq!(sign(&hub.node_csr(), &hub, &OPTIONS).unwrap_err().code, Code::BadArgument);
        NodeIdentity::load(&hub).unwrap();
        fs::copy(clinic.node_key(), hub.ca_key()).unwrap();
        assert_eq!(sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap_err().code, Code::NotACa);
    }

    #[test]
    fn a_torn_last_line_of_the_list_is_dropped_and_a_bad_one_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let whole = fs::read_to_string(hub.issued()).unwrap();
        fs::write(hub.issued(), format!("{whole}{{\"name\":\"cl")).unwrap();
        sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap();
        assert_eq!(Issued::read(&hub.issued()).unwrap().len(), 2);
        fs::write(hub.issued(), format!("{whole}nonsense\n")).unwrap();
        let e = sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap_err();
        assert!(e.code == Code::Config && e.context.ends_with("line 2"), "{e}");
    }

    #[test]
    fn a_directory_whose_files_do_not_fit_together_has_no_identity() {
        let tmp = tempfile::tempdir().unwrap();
        let (hub, clinic) = hub_and_clinic(tmp.path());
        let other = DataDir::new(tmp.path().join("clinic_b"));
        init_node(&other, name("clinic_b")).unwrap();
        sign(&clinic.node_csr(), &hub, &OPTIONS).unwrap();
        sign(&other.node_csr(), &hub, &OPTIONS).unwrap();
        let refused = |code| assert_eq!(NodeIdentity::load(&clinic).unwrap_err().code, code);

        let (crt, key) = (fs::read(clinic.node_crt()).unwrap(), fs::read(clinic.node_key()).unwrap());
        fs::copy(other.node_crt(), clinic.node_crt()).unwrap();
        refused(Code::BadCertificate);
        fs::write(clinic.node_crt(), &crt).unwrap();
        fs::copy(other.node_key(), clinic.node_key()).unwrap();
        refused(Code::BadCertificate);
        fs::write(clinic.node_key(), "garbage").unwrap();
        refused(Code::KeyBad);
        fs::write(clinic.node_key(), key).unwrap();
        let strangers = DataDir::new(tmp.path().join("strangers"));
        init_hub(&strangers, name("hub"), OPTIONS.clock).unwrap();
        fs::copy(strangers.ca_crt(), clinic.ca_crt()).unwrap();
        refused(Code::UntrustedCertificate);
        fs::remove_file(clinic.ca_crt()).unwrap();
        refused(Code::NotSigned);
    }
}
