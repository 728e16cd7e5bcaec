//! Making certificates. They are as small as X.509 allows, because two of them cross a 2G link in
//! every full handshake: Ed25519, no subject, a short serial, one short URI, one list of purposes.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SigningKey,
};
use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::identity::{DeploymentId, uri};

const DAY_S: u64 = 24 * 60 * 60;
/// A clinic's certificate lives two years: it renews long before, and one that is lost dies.
const CLINIC_DAYS: u64 = 2 * 365;
/// A hub's lives ten: clinics have no clock to judge it by.
const HUB_DAYS: u64 = 10 * 365;
const CA_DAYS: u64 = 30 * 365;
/// Backdating, for clocks that run behind the signer's.
const BACKDATE_S: u64 = DAY_S;

/// What a certificate is to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) deployment: DeploymentId,
    pub(crate) name: NodeName,
    pub(crate) role: Role,
    pub(crate) serial: u64,
    /// Seconds since 1970 when it is signed.
    pub(crate) now_s: u64,
}

impl Request {
    /// First and last second of validity.
    pub(crate) fn validity_s(&self) -> (u64, u64) {
        let days = match self.role {
            Role::Clinic => CLINIC_DAYS,
            Role::Hub => HUB_DAYS,
        };
        (self.now_s.saturating_sub(BACKDATE_S), self.now_s.saturating_add(days * DAY_S))
    }
}

/// Fills `out` from the system's random source.
pub(crate) fn random(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out).map_err(|e| Error::new(Code::Io, "the system's random source").with_source(e.to_string()))
}

/// A new Ed25519 key pair.
pub(crate) fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(|e| Error::new(Code::Io, "making a key pair").with_source(e))
}

/// A private key as it stands in its file.
pub(crate) fn key_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

/// The CA's own certificate. It is never sent, only compared with, so it may be of usual size.
pub(crate) fn ca(key: &KeyPair, now_s: u64) -> Result<Certificate> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Every certificate repeats this name.
    params.distinguished_name.push(DnType::CommonName, "rw");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    set_validity(&mut params, (now_s.saturating_sub(BACKDATE_S), now_s.saturating_add(CA_DAYS * DAY_S)));
    params.self_signed(key).map_err(|e| Error::new(Code::NotACa, "making the CA certificate").with_source(e))
}

/// A node's certificate.
pub(crate) fn issue(
    issuer: &Issuer<'_, impl SigningKey>,
    public_key: &impl PublicKeyData,
    request: &Request,
) -> Result<Certificate> {
    let mut params = leaf(&uri(Some(request.deployment), &request.name))?;
    params.serial_number = Some(serial(request.serial));
    params.extended_key_usages = match request.role {
        Role::Clinic => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Hub => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    set_validity(&mut params, request.validity_s());
    params
        .signed_by(public_key, issuer)
        .map_err(|e| Error::new(Code::NotACa, format!("signing for {}", request.name)).with_source(e))
}

/// A request for a certificate in `name`, as PEM.
pub(crate) fn csr(name: &NodeName, key: &KeyPair) -> Result<String> {
    leaf(&uri(None, name))?
        .serialize_request(key)
        .and_then(|csr| csr.pem())
        .map_err(|e| Error::new(Code::BadCsr, format!("making the request of {name}")).with_source(e))
}

fn leaf(uri: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = uri.try_into().map_err(|e: rcgen::Error| Error::new(Code::BadName, uri).with_source(e))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, (from_s, to_s): (u64, u64)) {
    // X.509 ends with the year 9999; beyond it, a date would be no date.
    let date = |s: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(s.min(253_402_300_799));
    params.not_before = date(from_s);
    params.not_after = date(to_s);
}

fn serial(n: u64) -> SerialNumber {
    let bytes = n.to_be_bytes();
    let zeros = (n.leading_zeros() / 8).min(7) as usize;
    SerialNumber::from_slice(&bytes[zeros..])
}
