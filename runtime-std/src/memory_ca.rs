//! A CA without files, whose keys and names are inputs: the same inputs give the same certificates,
//! byte for byte. For simulators and tests; `keygen` and `sign` make the ones that are kept.

use std::sync::Arc;

use rcgen::{Issuer, KeyPair};
use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::cert::{self, Request};
use crate::error::{Error, Result};
use crate::identity::{CertIdentity, DeploymentId, NodeIdentity};

/// PKCS#8 around the 32 bytes of an Ed25519 private key (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A CA in memory.
pub struct MemoryCa {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    deployment: DeploymentId,
    now_s: u64,
    serial: u64,
}

impl std::fmt::Debug for MemoryCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryCa")
    }
}

impl MemoryCa {
    /// A CA with this private key, at this time (seconds since 1970).
    ///
    /// # Errors
    /// [`Code::KeyBad`], [`Code::NotACa`]: not for any 32 bytes that are known.
    pub fn new(key_seed: [u8; 32], deployment: DeploymentId, now_s: u64) -> Result<Self> {
        let key = key_pair(&key_seed)?;
        let der = cert::ca(&key, now_s)?.der().clone();
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| Error::new(Code::NotACa, "the CA in memory").with_source(e))?;
        // The CA's own certificate is number 1.
        Ok(Self { issuer, der, deployment, now_s, serial: 1 })
    }

    /// A node with this private key and a new certificate. Certificates are numbered in the order
    /// in which they are made.
    ///
    /// # Errors
    /// [`Code::KeyBad`], [`Code::NotACa`]: not for any 32 bytes that are known.
    pub fn identity(&mut self, name: NodeName, role: Role, key_seed: [u8; 32]) -> Result<NodeIdentity> {
        self.serial += 1;
        let request = Request { deployment: self.deployment, name, role, serial: self.serial, now_s: self.now_s };
        let leaf = cert::issue(&self.issuer, &key_pair(&key_seed)?, &request)?.der().clone();
        let cert = CertIdentity::parse(&leaf)?;
        let provider = crate::tls::provider();
        let key = provider.key_provider.load_private_key(PrivateKeyDer::from(pkcs8(&key_seed)));
        let key = key.map_err(|e| Error::new(Code::KeyBad, name.as_str()).with_source(e))?;
        Ok(NodeIdentity { cert, key: Arc::new(CertifiedKey::new(vec![leaf], key)), ca: self.der.clone() })
    }
}

fn pkcs8(seed: &[u8; 32]) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], seed].concat())
}

fn key_pair(seed: &[u8; 32]) -> Result<KeyPair> {
    KeyPair::try_from(&pkcs8(seed)).map_err(|e| Error::new(Code::KeyBad, "a key in memory").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seeds_give_the_same_certificates() {
        let make = |seed: u8| {
            let mut ca = MemoryCa::new([seed; 32], DeploymentId([7; 8]), 1_800_000_000).unwrap();
            let hub = ca.identity(NodeName::new("hub").unwrap(), Role::Hub, [2; 32]).unwrap();
            let clinic = ca.identity(NodeName::new("clinic").unwrap(), Role::Clinic, [3; 32]).unwrap();
            (hub, clinic)
        };
        let (hub, clinic) = make(1);
        assert_eq!((hub.role(), clinic.role()), (Role::Hub, Role::Clinic));
        hub.key.keys_match().unwrap();
        let (again, other) = (make(1).0, make(9).0);
        assert_eq!((&again.key.cert, &again.ca), (&hub.key.cert, &hub.ca));
        assert_ne!(other.key.cert, hub.key.cert);
    }
}
