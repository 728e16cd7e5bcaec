//! Who a node is: what its certificate says, and what a data directory can prove.
//!
//! A certificate names a node by exactly one URI, `rw:DEPLOYMENT/NAME`, and tells its role by its
//! purposes: with server authentication it is a hub, without it a clinic.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::{PeerIdentity, Role};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::dir::{DataDir, hex, read_bounded, read_secret, unhex};
use crate::error::{Error, Result};

/// Longest certificate chain that is looked at, in bytes of DER.
pub const CHAIN_MAX_BYTES: usize = 4096;
/// Longest PEM file that is read.
pub(crate) const PEM_MAX_BYTES: usize = 16 * 1024;

/// Which deployment a node belongs to: one CA's nodes. Random, so that no two are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(pub [u8; 8]);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for DeploymentId {
    type Err = Code;
    /// 16 lower-case hexadecimal digits; one deployment has one spelling.
    fn from_str(s: &str) -> std::result::Result<Self, Code> {
        let mut id = [0; 8];
        if !unhex(s.as_bytes(), &mut id) || s != hex(&id) {
            return Err(Code::BadArgument);
        }
        Ok(Self(id))
    }
}

/// The URI of a node: in a certificate with its deployment, in a request without.
pub(crate) fn uri(deployment: Option<DeploymentId>, name: &NodeName) -> String {
    match deployment {
        Some(d) => format!("rw:{d}/{name}"),
        None => format!("rw:/{name}"),
    }
}

/// What a certificate says of its owner. It is true only if the certificate was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertIdentity {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Name and role.
    pub peer: PeerIdentity,
    /// First second of validity, since 1970.
    pub not_before_s: u64,
    /// Last second of validity, since 1970.
    pub not_after_s: u64,
}

impl CertIdentity {
    /// Reads a certificate (DER). Does not verify who signed it.
    ///
    /// # Errors
    /// [`Code::BadCertificate`] if it is anything but a node's: longer than [`CHAIN_MAX_BYTES`], a
    /// CA, without exactly one URI of our form, or with other purposes.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::new(Code::BadCertificate, what);
        if der.len() > CHAIN_MAX_BYTES {
            return Err(bad("longer than 4096 bytes"));
        }
        let cert = match X509Certificate::from_der(der) {
            Ok(([], cert)) => cert,
            _ => return Err(bad("not an X.509 certificate")),
        };
        if cert.is_ca() {
            return Err(bad("it is a CA's certificate, not a node's"));
        }
        let (deployment, name) = {
            let san = cert.subject_alternative_name().map_err(|_| bad("the alternative name cannot be read"))?;
            let names = san.map(|s| s.value.general_names.as_slice()).unwrap_or_default();
            let [GeneralName::URI(uri)] = names else {
                return Err(bad("it does not carry exactly one name, a URI"));
            };
            parse_uri(uri).ok_or_else(|| bad("its URI is not rw:DEPLOYMENT/NAME"))?
        };
        let purposes = cert.extended_key_usage().map_err(|_| bad("the purposes cannot be read"))?;
        let purposes = purposes.map(|p| p.value).ok_or_else(|| bad("it has no purposes"))?;
        let others = purposes.any
            || purposes.code_signing
            || purposes.email_protection
            || purposes.time_stamping
            || purposes.ocsp_signing
            || !purposes.other.is_empty();
        if others || !purposes.client_auth {
            return Err(bad("its purposes are not those of a node"));
        }
        let role = if purposes.server_auth { Role::Hub } else { Role::Clinic };
        let second = |t: i64| u64::try_from(t).map_err(|_| bad("its dates lie before 1970"));
        Ok(Self {
            deployment,
            peer: PeerIdentity { name, role },
            not_before_s: second(cert.validity().not_before.timestamp())?,
            not_after_s: second(cert.validity().not_after.timestamp())?,
        })
    }

    /// The same, of a chain as a handshake yields it.
    ///
    /// # Errors
    /// [`Code::NoCertificate`] if it is empty, else as [`CertIdentity::parse`].
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self> {
        match chain {
            [] => Err(Error::new(Code::NoCertificate, "the peer showed none")),
            [cert] => Self::parse(cert),
            // The CA signs nodes directly, so nobody needs to send more.
            _ => Err(Error::new(Code::BadCertificate, "more than one certificate in the chain")),
        }
    }
}

fn parse_uri(uri: &str) -> Option<(DeploymentId, NodeName)> {
    let (deployment, name) = uri.strip_prefix("rw:")?.split_once('/')?;
    Some((deployment.parse().ok()?, NodeName::new(name).ok()?))
}

/// This node, as its directory can prove it: name, certificate, key, and the CA it trusts.
#[derive(Clone)]
pub struct NodeIdentity {
    /// Its certificate's contents.
    pub cert: CertIdentity,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) ca: CertificateDer<'static>,
}

impl NodeIdentity {
    /// Reads and checks a directory's certificate, key and CA.
    ///
    /// # Errors
    /// [`Code::NotSigned`] while `node.crt` or `ca.crt` is not there; [`Code::BadCertificate`] if
    /// the certificate names another node or deployment or does not fit the key;
    /// [`Code::UntrustedCertificate`] if that CA did not sign it; [`Code::KeyMissing`],
    /// [`Code::KeyExposed`], [`Code::KeyBad`]; [`Code::NotInitialised`]; [`Code::Io`].
    pub fn load(dir: &DataDir) -> Result<Self> {
        let node = dir.node()?;
        let (crt, ca_crt, key_file) = (dir.node_crt(), dir.ca_crt(), dir.node_key());
        let der = read_signed(&crt)?;
        let ca = read_signed(&ca_crt)?;
        let bad = |what: String| Error::at(Code::BadCertificate, &crt, what);
        let cert = CertIdentity::parse(&der).map_err(|e| bad(e.context))?;
        if cert.peer.name != node.name {
            return Err(bad(format!("it names {}, this node is {}", cert.peer.name, node.name)));
        }
        if node.deployment.is_some_and(|d| d != cert.deployment) {
            return Err(bad(format!("it names deployment {}, node.json another", cert.deployment)));
        }
        if node.role == Role::Hub && cert.peer.role != Role::Hub {
            return Err(bad("it is a clinic's, this node is a hub".into()));
        }
        verify_signed_by(&der, &ca).map_err(|what| Error::at(Code::UntrustedCertificate, &crt, what))?;
        let key = certified_key(der, &key_file, &crt)?;
        Ok(Self { cert, key, ca })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> NodeName {
        self.cert.peer.name
    }

    /// What its certificate lets it be.
    #[must_use]
    pub fn role(&self) -> Role {
        self.cert.peer.role
    }

    /// The deployment it belongs to.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.cert.deployment
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity").field("cert", &self.cert).finish_non_exhaustive()
    }
}

fn read_signed(path: &Path) -> Result<CertificateDer<'static>> {
    match read_cert(path) {
        Err(e) if not_found(&e) => Err(Error::at(Code::NotSigned, path, "there is no such file")),
        other => other,
    }
}

/// Whether an error means that a file is not there.
pub(crate) fn not_found(e: &Error) -> bool {
    let io = e.source.as_ref().and_then(|s| s.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Reads the one certificate of a PEM file.
pub(crate) fn read_cert(path: &Path) -> Result<CertificateDer<'static>> {
    parse_cert(&read_bounded(path, PEM_MAX_BYTES)?).map_err(|e| e.in_file(path))
}

/// The one certificate (DER) of a PEM text. What is in it is not looked at.
pub(crate) fn parse_cert(pem: &[u8]) -> Result<CertificateDer<'static>> {
    let mut certs = CertificateDer::pem_slice_iter(pem);
    match (certs.next(), certs.next()) {
        (Some(Ok(cert)), None) => Ok(cert),
        _ => Err(Error::new(Code::BadCertificate, "not one certificate in PEM form")),
    }
}

/// Whether a certificate is for this public key (DER, SubjectPublicKeyInfo).
pub(crate) fn has_public_key(cert: &[u8], spki: &[u8]) -> bool {
    X509Certificate::from_der(cert).is_ok_and(|(_, cert)| cert.public_key().raw == spki)
}

/// Says why `leaf` was not signed by `ca`.
fn verify_signed_by(leaf: &[u8], ca: &[u8]) -> std::result::Result<(), &'static str> {
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(leaf), X509Certificate::from_der(ca)) else {
        return Err("ca.crt beside it is not a certificate");
    };
    if !ca.is_ca() {
        return Err("ca.crt beside it is not a CA's certificate");
    }
    leaf.verify_signature(Some(ca.public_key())).map_err(|_| "it was not signed by the ca.crt beside it")
}

fn certified_key(cert: CertificateDer<'static>, key_file: &Path, crt: &Path) -> Result<Arc<CertifiedKey>> {
    let key = parse_tls_key(&read_secret(key_file, PEM_MAX_BYTES)?).map_err(|e| e.in_file(key_file))?;
    let certified = CertifiedKey::new(vec![cert], key);
    certified.keys_match().map_err(|_| Error::at(Code::BadCertificate, crt, "it does not fit tls/node.key"))?;
    Ok(Arc::new(certified))
}

/// The private key of a PEM text, as TLS uses it.
pub(crate) fn parse_tls_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>> {
    let der = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|e| Error::new(Code::KeyBad, "not a private key in PEM form").with_source(e))?;
    // The provider wipes the DER when it has made its own form of it.
    crate::tls::provider()
        .key_provider
        .load_private_key(der)
        .map_err(|e| Error::new(Code::KeyBad, "not a private key").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_a_node_uri_is_taken() {
        let (d, n) = parse_uri("rw:0123456789abcdef/clinic_a").unwrap();
        assert_eq!(uri(Some(d), &n), "rw:0123456789abcdef/clinic_a");
        for bad in [
            "",
            "rw:/clinic_a",
            "rw:0123456789ABCDEF/clinic_a",
            "rw:0123456789abcde/clinic_a",
            "rw:0123456789abcdef/",
            "rw:0123456789abcdef/a/b",
            "rw:0123456789abcdef",
            "RW:0123456789abcdef/clinic_a",
            "http://x/clinic_a",
        ] {
            assert_eq!(parse_uri(bad), None, "{bad}");
        }
    }

    #[test]
    fn garbage_is_no_certificate() {
        for der in [&[][..], b"hello", &[0x30; CHAIN_MAX_BYTES + 1]] {
            assert_eq!(CertIdentity::parse(der).unwrap_err().code, Code::BadCertificate);
        }
        assert_eq!(CertIdentity::of_chain(&[]).unwrap_err().code, Code::NoCertificate);
    }
}
