//! Judging the other side's certificate during the handshake.

use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_core::policy::{PeerIdentity, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::clock::unix;
use crate::error::{Error, Result};
use crate::identity::{CHAIN_MAX_BYTES, CertIdentity, DeploymentId, NodeIdentity};

type TlsResult<T> = std::result::Result<T, rustls::Error>;

/// Who the peer is, by a chain that was verified.
///
/// # Errors
/// [`Code::NoCertificate`], [`Code::BadCertificate`], or [`Code::Deployment`] if it belongs to
/// another deployment than `ours`.
pub fn peer_identity(chain: &[CertificateDer<'_>], ours: DeploymentId) -> Result<PeerIdentity> {
    let cert = CertIdentity::of_chain(chain)?;
    check_deployment(&cert, ours)?;
    Ok(cert.peer)
}

fn check_deployment(cert: &CertIdentity, ours: DeploymentId) -> Result<()> {
    if cert.deployment == ours {
        return Ok(());
    }
    Err(Error::new(Code::Deployment, format!("{} belongs to {}, not to {ours}", cert.peer.name, cert.deployment)))
}

/// Lets one of our errors travel through rustls, which hands it back at the end of the handshake.
fn refused(e: Error) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(e))).into()
}

/// What every chain must be before anything costly is done with it.
fn check_chain(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> TlsResult<()> {
    if !others.is_empty() || leaf.len() > CHAIN_MAX_BYTES {
        return Err(refused(Error::new(Code::BadCertificate, "the chain is longer than a node's")));
    }
    Ok(())
}

/// All CAs bear the same short name, so a stranger's certificate fails at the signature.
fn stranger(e: rustls::Error) -> rustls::Error {
    match e {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

pub(super) fn roots(id: &NodeIdentity) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(id.ca.clone())
        .map_err(|e| Error::new(Code::UntrustedCertificate, "tls/ca.crt cannot be used").with_source(e))?;
    Ok(Arc::new(roots))
}

/// The dialling side's judge: the peer must be a hub of our deployment. Names and addresses do not
/// matter, the CA does.
#[derive(Debug)]
pub(super) struct HubVerifier {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) deployment: DeploymentId,
    pub(super) floor_s: u64,
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> TlsResult<ServerCertVerified> {
        check_chain(leaf, others)?;
        let identity = CertIdentity::parse(leaf);
        // See the module `clock` for why the wall clock is not asked.
        let now_s = identity.as_ref().map_or(0, |i| i.not_before_s).max(self.floor_s);
        let cert = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, &[], unix(now_s), self.algorithms.all).map_err(
            |e| match e {
                rustls::Error::InvalidCertificate(
                    CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
                ) => refused(Error::new(Code::NotAHub, "its certificate is not for serving")),
                other => stranger(other),
            },
        )?;
        let identity = identity.map_err(refused)?;
        check_deployment(&identity, self.deployment).map_err(refused)?;
        if identity.peer.role != Role::Hub {
            return Err(refused(Error::new(Code::NotAHub, format!("it is {}", identity.peer.name))));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The serving side's judge: the peer must be a node of our deployment, its dates must hold.
#[derive(Debug)]
pub(super) struct NodeVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    deployment: DeploymentId,
}

impl NodeVerifier {
    pub(super) fn new(id: &NodeIdentity) -> Result<Arc<Self>> {
        let webpki = WebPkiClientVerifier::builder_with_provider(roots(id)?, super::provider())
            // The CA's name would cost bytes and tell nothing: there is one.
            .clear_root_hint_subjects()
            .build()
            .map_err(|e| Error::new(Code::UntrustedCertificate, "tls/ca.crt cannot be used").with_source(e))?;
        Ok(Arc::new(Self { webpki, deployment: id.deployment() }))
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> TlsResult<ClientCertVerified> {
        check_chain(leaf, others)?;
        let verified = self.webpki.verify_client_cert(leaf, &[], now).map_err(stranger)?;
        let identity = CertIdentity::parse(leaf).map_err(refused)?;
        check_deployment(&identity, self.deployment).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
