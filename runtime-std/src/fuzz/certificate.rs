//! Certificates and requests: what strangers may hand to a node or its CA.

use rcgen::CertificateSigningRequestParams;
use ropeway_core::id::NodeName;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::identity::{CHAIN_MAX_BYTES, CertIdentity, DeploymentId, uri};
use crate::sign::{parse_csr, requested};
use crate::tls::peer_identity;

/// The first byte chooses: a certificate, a request in DER or in PEM.
pub fn certificate(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    match choice % 3 {
        0 => check_certificate(rest),
        1 => {
            let der = CertificateSigningRequestDer::from(rest);
            if let Ok((name, key)) = CertificateSigningRequestParams::from_der(&der)
                .map_err(|_| "not a request")
                .and_then(|csr| requested(&csr).map(|name| (name, csr.public_key)))
            {
                check_name(&name);
                assert_eq!(rcgen::PublicKeyData::der_bytes(&key).len(), 32);
            }
        }
        _ => {
            if let Ok((name, _)) = parse_csr(rest) {
                check_name(&name);
            }
        }
    }
}

fn check_certificate(der: &[u8]) {
    let chain = [CertificateDer::from(der)];
    let parsed = CertIdentity::parse(der);
    assert_eq!(parsed.as_ref().ok(), CertIdentity::of_chain(&chain).as_ref().ok());
    assert!(peer_identity(&chain, DeploymentId([0x5a; 8])).is_err(), "a strange deployment is refused");
    let Ok(cert) = parsed else { return };
    assert!(der.len() <= CHAIN_MAX_BYTES);
    check_name(&cert.peer.name);
    let text = uri(Some(cert.deployment), &cert.peer.name);
    assert!(der.windows(text.len()).any(|w| w == text.as_bytes()), "the name stands in the certificate as it is told");
    let cut = &der[..der.len() - 1];
    assert!(CertIdentity::parse(cut).is_err(), "a cut certificate is none");
}

fn check_name(name: &NodeName) {
    assert_eq!(NodeName::new(name.as_str()).as_ref(), Ok(name));
}
