//! TLS 1.3, mutual, as few bytes as it can be: one cipher suite, one curve, one kind of signature,
//! no server name, one short ticket. rustls is used through [`Server`], [`Client`] and [`Conn`],
//! so that another version of it changes this folder only.

mod clock;
mod conn;
mod counted;
mod early;
mod error;
mod inputs;
mod ticket_file;
mod tickets;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_core::policy::Role;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::ServerConfig;
use rustls::sign::SingleCertAndKey;
use rustls::{SignatureScheme, version::TLS13};

use crate::error::{Error, Result};
use crate::identity::NodeIdentity;

pub use clock::{Clock, TIME_FLOOR_S};
pub use conn::{Client, Conn, Server};
pub use counted::Counted;
pub use error::{error_code, tls_error};
pub use inputs::Inputs;
pub use tickets::Tickets;
pub use verify::peer_identity;

/// Tickets that a client keeps: rustls counts eight per hub, and a node knows few hubs.
const CLIENT_TICKETS: usize = 32;

/// What each TLS record adds to the frames in it: its header, the kind of its content, its tag.
pub const RECORD_BYTES: usize = 5 + 1 + 16;
/// The longest record by default. The frames of a thin link are smaller, so each is one record. A
/// larger one is split, for half a percent: at 100 bytes a second, a record of 4 KiB shows the peer
/// after 41 seconds that something comes, and one of 16 KiB after three minutes, too late.
const RECORD_MAX_BYTES: usize = 4096;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct TlsOptions {
    /// Where a serving node takes the time from. A dialling node asks no clock.
    pub clock: Clock,
    /// How many sessions a serving node remembers for resumption, about 1 KiB each; 0 turns
    /// resumption off. With [`Tickets`] of its own they say how many.
    pub sessions: usize,
    /// Longest TLS record sent, in bytes without its encryption; `None` is the protocol's 16 KiB. A
    /// record adds [`RECORD_BYTES`], and nothing of it can be used before it is there as a whole.
    pub max_fragment_size: Option<usize>,
    /// Whether a client that resumes sends what it has to say with its first packet, and whether a server takes it:
    /// a round trip less, and a weaker promise (docs/decisions/0018-early-data-as-an-option.md). See
    /// [`Conn::speak_early`] and [`Conn::early_peer`].
    pub early_data: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { clock: Clock::System, sessions: 256, max_fragment_size: Some(RECORD_MAX_BYTES), early_data: false }
    }
}

/// ring with everything left out that two Ropeway nodes do not use. No process-wide default is
/// installed or needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    provider_with(&Inputs::default())
}

fn provider_with(inputs: &Inputs) -> Arc<CryptoProvider> {
    let all = ring::default_provider();
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![inputs.x25519],
        secure_random: inputs.secure_random,
        signature_verification_algorithms: only_ed25519(all.signature_verification_algorithms),
        ..all
    })
}

fn only_ed25519(all: WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
    match all.mapping.iter().position(|(scheme, _)| *scheme == SignatureScheme::ED25519) {
        Some(i) => WebPkiSupportedAlgorithms { all: all.mapping[i].1, mapping: &all.mapping[i..=i] },
        None => all,
    }
}

/// The configuration of a serving node: it asks for a certificate and takes only those of its CA.
///
/// # Errors
/// [`Code::NotAHub`] if its own certificate is not for serving; [`Code::UntrustedCertificate`] if
/// the CA's certificate cannot be used; [`Code::Tls`].
pub fn server_config(id: &NodeIdentity, options: &TlsOptions) -> Result<Arc<ServerConfig>> {
    server_config_with(id, options, &Inputs::default(), None)
}

/// `tickets` are those that others know too; without them it has its own.
fn server_config_with(
    id: &NodeIdentity,
    options: &TlsOptions,
    inputs: &Inputs,
    tickets: Option<Tickets>,
) -> Result<Arc<ServerConfig>> {
    if id.role() != Role::Hub {
        let what = format!("{} has a clinic's certificate and cannot serve", id.name());
        return Err(Error::new(Code::NotAHub, what));
    }
    unchecked_server_config(id, options, inputs, tickets)
}

fn unchecked_server_config(
    id: &NodeIdentity,
    options: &TlsOptions,
    inputs: &Inputs,
    tickets: Option<Tickets>,
) -> Result<Arc<ServerConfig>> {
    let time = Arc::new(clock::HubTime { clock: options.clock, floor_s: floor_s(id) });
    let mut config = ServerConfig::builder_with_details(provider_with(inputs), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(tls_error)?
        .with_client_cert_verifier(verify::NodeVerifier::new(id)?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&id.key))));
    // Remembered here and named by 32 bytes: a self-contained ticket would carry the certificate.
    config.send_tls13_tickets = usize::from(options.sessions > 0);
    config.session_storage = Arc::new(tickets.unwrap_or_else(|| Tickets::new(options.sessions, options.clock)));
    config.max_fragment_size = options.max_fragment_size;
    if options.early_data {
        config.max_early_data_size = early::SKIPPED_MAX_BYTES;
        // The answer to early data goes before the handshake has ended. rustls does so only with those who resume: it
        // knows them by their ticket.
        config.send_half_rtt_data = true;
    }
    Ok(Arc::new(config))
}

/// The configuration of a dialling node: it takes only hubs of its CA, at any address.
///
/// # Errors
/// [`Code::UntrustedCertificate`] if the CA's certificate cannot be used; [`Code::Tls`].
pub fn client_config(id: &NodeIdentity, options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    client_config_with(id, options, &Inputs::default())
}

fn client_config_with(id: &NodeIdentity, options: &TlsOptions, inputs: &Inputs) -> Result<Arc<ClientConfig>> {
    let provider = provider_with(inputs);
    let verifier = verify::HubVerifier {
        roots: verify::roots(id)?,
        algorithms: provider.signature_verification_algorithms,
        deployment: id.deployment(),
        floor_s: floor_s(id),
    };
    let mut config = ClientConfig::builder_with_details(provider, clock::SteadyTime::new(inputs.steady, floor_s(id)))
        .with_protocol_versions(&[&TLS13])
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&id.key))));
    config.enable_sni = false;
    config.resumption = Resumption::in_memory_sessions(CLIENT_TICKETS);
    config.max_fragment_size = options.max_fragment_size;
    config.enable_early_data = options.early_data;
    Ok(Arc::new(config))
}

/// The latest time that this node can prove has come without a clock.
fn floor_s(id: &NodeIdentity) -> u64 {
    TIME_FLOOR_S.max(id.cert.not_before_s)
}
