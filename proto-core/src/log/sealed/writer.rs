//! Writing a sealed file from front to back.

use super::{DenseType, SealedCipher, SealedHeader, TRAILER_BYTES, Trailer, seal_digest};
use crate::code::Code;

use super::super::DataKey;

/// Context of the digest over a file's content (docs/LOG.md#sealed-9).
const CONTENT_CONTEXT: &str = "ropeway 2026 log sealed content v1";

/// Gives each frame its place, so that none is used twice under one salt, and digests what is written.
#[derive(Debug)]
pub struct SealedWriter {
    header: SealedHeader,
    cipher: SealedCipher,
    content: blake3::Hasher,
    at: u64,
    footer_at: Option<u64>,
    digest: [u8; 32],
}

impl SealedWriter {
    /// Begins a file; its first bytes are [`SealedHeader::emit`].
    ///
    /// # Errors
    /// [`Code::WrongKey`].
    pub fn new(header: SealedHeader, key: &DataKey) -> Result<Self, Code> {
        let mut content = blake3::Hasher::new_derive_key(CONTENT_CONTEXT);
        let head = header.emit();
        content.update(&head);
        let cipher = header.cipher(key)?;
        Ok(Self { header, cipher, content, at: head.len() as u64, footer_at: None, digest: [0; 32] })
    }

    /// Where the next frame begins: its bytes are to be written there.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Digest of everything so far, for [`Summary::content`](super::Summary::content).
    #[must_use]
    pub fn content(&self) -> [u8; 32] {
        *self.content.finalize().as_bytes()
    }

    /// Seals the packed body that stands at `buf[FRAME_HEAD_BYTES..][..packed_len]`; how many bytes
    /// of `buf` to write at [`SealedWriter::offset`] as it was before. After a SEAL there is no other.
    ///
    /// # Errors
    /// [`Code::TooLarge`]; [`Code::State`] after the SEAL.
    pub fn frame(&mut self, frame_type: DenseType, buf: &mut [u8], packed_len: usize) -> Result<usize, Code> {
        if self.footer_at.is_some() {
            return Err(Code::State);
        }
        let len = self.cipher.seal(self.at, frame_type, buf, packed_len)?;
        let frame = buf.get(..len).unwrap_or_default();
        if frame_type == DenseType::Seal {
            self.footer_at = Some(self.at);
            self.digest = seal_digest(&self.header, frame);
        }
        self.content.update(frame);
        self.at += len as u64;
        Ok(len)
    }

    /// The last bytes of the file, to write at [`SealedWriter::offset`], and the seal's digest.
    ///
    /// # Errors
    /// [`Code::State`] before the SEAL.
    pub fn finish(&self) -> Result<([u8; TRAILER_BYTES], [u8; 32]), Code> {
        let footer_at = self.footer_at.ok_or(Code::State)?;
        Ok((Trailer { header: self.header, footer_at }.emit(), self.digest))
    }
}
