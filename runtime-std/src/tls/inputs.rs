//! What TLS takes from the machine: randomness and time.

use std::time::Duration;

use rustls::crypto::{SecureRandom, SupportedKxGroup, ring};

use super::clock;

/// Randomness and time as inputs, for simulators and boards without a system source. Everything
/// else, from cipher suite to verifiers, is as it always is. The wall clock of a serving node is
/// [`TlsOptions::clock`](super::TlsOptions::clock).
///
/// Whoever knows these draws can read the connection: a simulator's are worthless for real ones.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Where nonces and names of sessions come from.
    pub secure_random: &'static dyn SecureRandom,
    /// The key exchange, X25519, with its own source of secrets.
    pub x25519: &'static dyn SupportedKxGroup,
    /// A clock that only goes forward, by which a client judges the age of its tickets.
    pub steady: fn() -> Duration,
}

impl Default for Inputs {
    /// The system's.
    fn default() -> Self {
        Self {
            secure_random: ring::default_provider().secure_random,
            x25519: ring::kx_group::X25519,
            steady: clock::since_start,
        }
    }
}
