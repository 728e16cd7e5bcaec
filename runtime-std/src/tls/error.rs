//! From rustls' errors to ours.

use ropeway_core::code::Code;
use rustls::{AlertDescription, CertificateError};

use crate::error::Error;

/// The code for an error of the TLS layer, of either side.
#[must_use]
pub fn error_code(e: &rustls::Error) -> Code {
    match e {
        rustls::Error::NoCertificatesPresented => Code::NoCertificate,
        rustls::Error::InvalidCertificate(e) => certificate_code(e),
        rustls::Error::AlertReceived(alert) => alert_code(*alert),
        _ => Code::Tls,
    }
}

fn certificate_code(e: &CertificateError) -> Code {
    use CertificateError as E;
    match e {
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            Code::CertificateExpired
        }
        E::UnknownIssuer
        | E::BadSignature
        | E::Revoked
        | E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Code::UntrustedCertificate,
        E::Other(_) => ours(e).map_or(Code::BadCertificate, |e| e.code),
        _ => Code::BadCertificate,
    }
}

/// Our own error, if the verifier gave one.
fn ours(e: &CertificateError) -> Option<&Error> {
    match e {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

/// What the peer holds against us.
fn alert_code(alert: AlertDescription) -> Code {
    use AlertDescription as A;
    match alert {
        A::CertificateExpired => Code::CertificateExpired,
        A::UnknownCA | A::CertificateRevoked => Code::UntrustedCertificate,
        A::CertificateRequired | A::NoCertificate => Code::NoCertificate,
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => Code::BadCertificate,
        _ => Code::Tls,
    }
}

/// The error to report, saying which side refused.
#[must_use]
pub fn tls_error(e: rustls::Error) -> Error {
    let code = error_code(&e);
    match &e {
        rustls::Error::AlertReceived(alert) => {
            let what = format!("the peer refused this node ({alert:?})");
            Error::new(code, what).with_source(e)
        }
        rustls::Error::InvalidCertificate(c) => match ours(c) {
            Some(ours) => Error::new(code, format!("the peer's certificate: {}", ours.context)),
            None => Error::new(code, "the peer's certificate was refused").with_source(e),
        },
        _ => Error::new(code, "the handshake or the stream").with_source(e),
    }
}
