//! The data key, and what is derived from it.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Context of the key that seals an epoch's frames (docs/LOG.md#key-1).
const EPOCH_CONTEXT: &str = "ropeway 2026 log epoch key v1";
/// Context of the key of a sealed segment or a checkpoint (docs/LOG.md#sealed-4).
const SEALED_CONTEXT: &str = "ropeway 2026 log sealed key v1";
/// Context of the key commitment (docs/LOG.md#key-2).
const COMMITMENT_CONTEXT: &str = "ropeway 2026 log key commitment v1";

/// The secret under which a log is written. Erased from memory when dropped; it has no way to be
/// printed, compared or copied.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

impl DataKey {
    /// Wraps 32 random bytes. The caller erases its own copy.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of an epoch; `head` is what its header holds before the commitment.
    pub(super) fn epoch_key(&self, head: &[u8]) -> Zeroizing<[u8; 32]> {
        self.derive(EPOCH_CONTEXT, head)
    }

    /// The key of a sealed file; `head` is what its header holds before the commitment.
    pub(super) fn sealed_key(&self, head: &[u8]) -> Zeroizing<[u8; 32]> {
        self.derive(SEALED_CONTEXT, head)
    }

    /// Tells a wrong key from damage without opening a frame (docs/LOG.md#key-2).
    pub(super) fn commitment(&self, salt: &[u8; 32]) -> [u8; 16] {
        let full = self.derive(COMMITMENT_CONTEXT, salt);
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }

    /// A key for something beside the log that lies in the same directory. `context` is its own and
    /// nobody else's; `tail` tells one use of it from another.
    #[must_use]
    pub fn other_key(&self, context: &'static str, tail: &[u8]) -> Zeroizing<[u8; 32]> {
        self.derive(context, tail)
    }

    fn derive(&self, context: &str, tail: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut h = blake3::Hasher::new_derive_key(context);
        h.update(&self.0);
        h.update(tail);
        let mut out = h.finalize();
        let key = Zeroizing::new(*out.as_bytes());
        out.zeroize();
        h.zeroize();
        key
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_key_shows_nothing_of_itself() {
        assert_eq!(alloc::format!("{:?}", DataKey::new([0x5a; 32])), "DataKey");
    }

    #[test]
    fn the_commitment_depends_on_key_and_salt_and_is_no_part_of_the_epoch_key() {
        let (a, b) = (DataKey::new([1; 32]), DataKey::new([2; 32]));
        assert_ne!(a.commitment(&[3; 32]), b.commitment(&[3; 32]));
        assert_ne!(a.commitment(&[3; 32]), a.commitment(&[4; 32]));
        assert_ne!(a.commitment(&[3; 32])[..], a.epoch_key(&[3; 32])[..16]);
    }
}
