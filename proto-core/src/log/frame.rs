//! Frames: one commit group each, sealed and opened in place.

use core::fmt;
use core::ops::Range;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};

use super::header::CRC;
use super::{DataKey, FRAME_HEAD_BYTES, FRAME_TAG_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES};
use crate::code::Code;
use crate::planted::{Bug, has, mark};

const LEN_BITS: u32 = 24;
const TYPE_BITS: u32 = 5;

/// What a frame holds (docs/LOG.md#frame-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// Records.
    Group = 1,
    /// Reserved: the end of a sealed segment.
    Seal = 2,
    /// Reserved: a signed head of a stream.
    Head = 3,
    /// Reserved.
    Checkpoint = 4,
    /// Reserved: events fetched again for a damaged range.
    Repair = 5,
}

impl FrameType {
    fn from_word(word: u32) -> Option<Self> {
        // The flags are above the type; this version knows none.
        match word >> LEN_BITS {
            1 => Some(Self::Group),
            2 => Some(Self::Seal),
            3 => Some(Self::Head),
            4 => Some(Self::Checkpoint),
            5 => Some(Self::Repair),
            _ => None,
        }
    }
}

/// Bytes that a frame with a body of `body_len` takes on disk, padding included.
#[must_use]
pub const fn padded_len(body_len: usize) -> usize {
    (FRAME_HEAD_BYTES + body_len + FRAME_TAG_BYTES).next_multiple_of(PAGE_BYTES)
}

/// Pages that a frame with a body of `body_len` takes.
#[must_use]
pub const fn frame_pages(body_len: usize) -> u64 {
    (padded_len(body_len) / PAGE_BYTES) as u64
}

/// What the first word of a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing was written here: 0 or all ones (docs/LOG.md#frame-2).
    End,
    /// Perhaps a frame with a body of so many bytes.
    Frame(usize),
    /// No frame of this format.
    Nonsense,
}

impl Word {
    pub(super) fn of(page: &[u8], max_body: usize) -> Self {
        // The end of the file counts as zeros (docs/LOG.md#scan-3).
        let mut head = [0; 4];
        head.iter_mut().zip(page).for_each(|(h, b)| *h = *b);
        let word = u32::from_le_bytes(head);
        if word == 0 || word == u32::MAX {
            return Word::End;
        }
        let (flags, kind, len) = split(word);
        if flags == 0 && (1..=5).contains(&kind) && len <= max_body { Word::Frame(len) } else { Word::Nonsense }
    }
}

fn split(word: u32) -> (u32, u32, usize) {
    let kind = (word >> LEN_BITS) & ((1 << TYPE_BITS) - 1);
    (word >> (LEN_BITS + TYPE_BITS), kind, (word & ((1 << LEN_BITS) - 1)) as usize)
}

/// A frame opened in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it holds.
    pub frame_type: FrameType,
    /// Where the body stands in the buffer.
    pub body: Range<usize>,
    /// Pages that the frame takes.
    pub pages: u64,
    /// The checksum was wrong although the tag is right: accept, note, write it anew some day.
    pub crc_rotten: bool,
    /// The authentication tag, which the next epoch's header links to.
    pub tag: [u8; FRAME_TAG_BYTES],
}

/// Why there is no frame to be had. The buffer is then as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// The page was never written.
    End,
    /// The word announces more bytes than the buffer holds: this many are needed, padding
    /// included.
    NeedMore(usize),
    /// Neither checksum nor tag are right, or the word is none: damaged, torn or of another epoch.
    Damaged,
    /// The checksum is right and the tag is not: altered on purpose.
    Tampered,
}

impl FrameFault {
    /// The code to report when the frame was expected to be there.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            FrameFault::Tampered => Code::Tampered,
            FrameFault::End | FrameFault::NeedMore(_) | FrameFault::Damaged => Code::Corrupt,
        }
    }
}

/// Seals and opens the frames of one epoch. Its key is erased when it is dropped.
#[derive(Clone)]
pub struct Cipher {
    aead: ChaCha20Poly1305,
    salt_prefix: [u8; 8],
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// The cipher of the epoch that `header` begins (docs/LOG.md#key-1).
    ///
    /// # Errors
    /// [`Code::WrongKey`] if the header was written under another key.
    pub fn new(header: &Header, key: &DataKey) -> Result<Self, Code> {
        if !header.is_under(key) {
            return Err(Code::WrongKey);
        }
        let epoch_key = header.with_keyed(|head| key.epoch_key(head));
        let mut salt_prefix = [0; 8];
        salt_prefix.copy_from_slice(&header.start.salt[..8]);
        Ok(Self { aead: ChaCha20Poly1305::new((&*epoch_key).into()), salt_prefix })
    }

    /// Seals the body that stands at `buf[FRAME_HEAD_BYTES..][..body_len]` as the frame of `page`,
    /// in place, and fills the rest of its last page with zeros. Returns the bytes to write and
    /// the tag. `page` must never have been sealed before under this epoch.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the body is over [`MAX_BODY_BYTES`] or the padded frame over `buf`;
    /// nothing is changed then.
    pub fn seal(
        &self,
        page: u64,
        frame_type: FrameType,
        buf: &mut [u8],
        body_len: usize,
    ) -> Result<(usize, [u8; FRAME_TAG_BYTES]), Code> {
        if body_len > MAX_BODY_BYTES {
            return Err(Code::TooLarge);
        }
        let padded = padded_len(body_len);
        let frame = buf.get_mut(..padded).ok_or(Code::TooLarge)?;
        let word = ((frame_type as u32) << LEN_BITS | body_len as u32).to_le_bytes();
        let (head, rest) = frame.split_at_mut(FRAME_HEAD_BYTES);
        let (body, rest) = rest.split_at_mut(body_len);
        let sealed = if has(Bug::PlaintextOnDisk) {
            self.aead.encrypt_in_place_detached(&nonce(page), body, &mut [])
        } else {
            self.aead.encrypt_in_place_detached(&nonce(page), &word, body)
        };
        let tag = sealed.map_err(|_| Code::TooLarge)?;
        rest[..FRAME_TAG_BYTES].copy_from_slice(&tag);
        rest[FRAME_TAG_BYTES..].fill(0);
        head[..4].copy_from_slice(&word);
        head[4..].copy_from_slice(&self.crc(page, word, body, &tag).to_le_bytes());
        Ok((padded, tag.into()))
    }

    /// Opens the frame of `page` in place. `buf` may be longer than the frame; the padding is not
    /// looked at (docs/LOG.md#frame-6).
    ///
    /// # Errors
    /// [`FrameFault`].
    pub fn open(&self, page: u64, buf: &mut [u8]) -> Result<Opened, FrameFault> {
        let len = match Word::of(buf, MAX_BODY_BYTES) {
            Word::End => return Err(FrameFault::End),
            Word::Nonsense => return Err(FrameFault::Damaged),
            Word::Frame(len) => len,
        };
        let end = FRAME_HEAD_BYTES + len;
        let Some(frame) = buf.get_mut(..end + FRAME_TAG_BYTES) else {
            return Err(FrameFault::NeedMore(padded_len(len)));
        };
        let (head, rest) = frame.split_at_mut(FRAME_HEAD_BYTES);
        let (body, tag) = rest.split_at_mut(len);
        let mut word = [0; 4];
        word.copy_from_slice(&head[..4]);
        let frame_type = FrameType::from_word(u32::from_le_bytes(word)).ok_or(FrameFault::Damaged)?;
        let crc_good = self.crc(page, word, body, tag).to_le_bytes() == head[4..];
        let tag = *Tag::from_slice(tag);
        // The tag is checked before a byte is decrypted, so a refusal leaves the buffer alone.
        let mut opened = if has(Bug::PlaintextOnDisk) {
            self.aead.decrypt_in_place_detached(&nonce(page), body, &mut [], &tag)
        } else {
            self.aead.decrypt_in_place_detached(&nonce(page), &word, body, &tag)
        };
        if opened.is_err() && (has(Bug::FrameUnchecked) || crc_good && has(Bug::TamperAccepted)) {
            // The cipher is a stream: to seal the sealed bytes is to open them.
            opened = self.aead.encrypt_in_place_detached(&nonce(page), &word, body).map(|_| ());
        }
        match opened {
            Ok(()) => {
                if !crc_good {
                    mark!("log.crc_rotten");
                }
                Ok(Opened {
                    frame_type,
                    body: FRAME_HEAD_BYTES..end,
                    pages: frame_pages(len),
                    crc_rotten: !crc_good,
                    tag: tag.into(),
                })
            }
            Err(_) if crc_good => {
                mark!("hostile.tampered_frame");
                Err(FrameFault::Tampered)
            }
            Err(_) => Err(FrameFault::Damaged),
        }
    }

    /// A cipher for the dense frames of a sealed file.
    pub(super) fn dense(key: &[u8; 32], salt: &[u8; 32]) -> Self {
        let mut salt_prefix = [0; 8];
        salt_prefix.copy_from_slice(&salt[..8]);
        Self { aead: ChaCha20Poly1305::new(key.into()), salt_prefix }
    }

    /// Encrypts `body` for `place` in place; the tag and the checksum.
    pub(super) fn seal_bytes(&self, place: u64, word: [u8; 4], body: &mut [u8]) -> Result<([u8; 16], u32), Code> {
        let tag = self.aead.encrypt_in_place_detached(&nonce(place), &word, body).map_err(|_| Code::TooLarge)?;
        Ok((tag.into(), self.crc(place, word, body, &tag)))
    }

    /// Decrypts `body` in place; true if the checksum is rotten. A refusal leaves it as it was.
    pub(super) fn open_bytes(
        &self,
        place: u64,
        word: [u8; 4],
        crc: &[u8],
        body: &mut [u8],
        tag: &[u8; FRAME_TAG_BYTES],
    ) -> Result<bool, FrameFault> {
        let crc_good = self.crc(place, word, body, tag).to_le_bytes() == crc;
        match self.aead.decrypt_in_place_detached(&nonce(place), &word, body, Tag::from_slice(tag)) {
            Ok(()) => Ok(!crc_good),
            Err(_) if crc_good => Err(FrameFault::Tampered),
            Err(_) => Err(FrameFault::Damaged),
        }
    }

    fn crc(&self, page: u64, word: [u8; 4], ciphertext: &[u8], tag: &[u8]) -> u32 {
        frame_crc(&self.salt_prefix, page, word, &[ciphertext, tag])
    }
}

/// The checksum of a frame at a place (docs/LOG.md#frame-1, sealed-5): `sealed` is the ciphertext and the tag, in one
/// piece or in two.
pub(super) fn frame_crc(salt_prefix: &[u8], place: u64, word: [u8; 4], sealed: &[&[u8]]) -> u32 {
    let mut crc = CRC.digest();
    crc.update(salt_prefix);
    crc.update(&place.to_le_bytes());
    crc.update(&word);
    sealed.iter().for_each(|piece| crc.update(piece));
    crc.finalize()
}

fn nonce(page: u64) -> Nonce {
    let mut n = [0; 12];
    if has(Bug::NonceRepeats) {
        return n.into();
    }
    n[..8].copy_from_slice(&page.to_le_bytes());
    n.into()
}

#[cfg(test)]
mod tests {
    use super::super::EpochStart;
    use super::*;
    use crate::hlc::Hlc;
    use alloc::vec;

    fn cipher(salt: u8) -> Cipher {
        let key = DataKey::new([1; 32]);
        let start = EpochStart { segment: 1, page: 0, salt: [salt; 32], key_id: 0, base_hlc: Hlc::ZERO, prev: [0; 16] };
        Cipher::new(&Header::new(&key, start), &key).unwrap()
    }

    #[test]
    fn bodies_of_every_size_around_a_page_round_trip_and_pad_with_zeros() {
        let c = cipher(1);
        for len in (0..3).chain(4060..4080).chain(8160..8170) {
            let mut buf = vec![0xee; 3 * PAGE_BYTES];
            buf[FRAME_HEAD_BYTES..][..len].fill(0x42);
            let (padded, tag) = c.seal(5, FrameType::Group, &mut buf, len).unwrap();
            assert_eq!(padded, padded_len(len));
            assert!(buf[FRAME_HEAD_BYTES + len + FRAME_TAG_BYTES..padded].iter().all(|b| *b == 0));
            let o = c.open(5, &mut buf[..padded]).unwrap();
            assert_eq!((o.pages, o.crc_rotten, o.tag), (frame_pages(len), false, tag));
            assert!(o.body.len() == len && buf[o.body].iter().all(|b| *b == 0x42));
        }
    }

    #[test]
    fn a_frame_opens_only_at_its_page_and_in_its_epoch() {
        let c = cipher(1);
        let mut buf = vec![0; PAGE_BYTES];
        c.seal(5, FrameType::Group, &mut buf, 10).unwrap();
        let before = buf.clone();
        assert_eq!(c.open(6, &mut buf), Err(FrameFault::Damaged));
        assert_eq!(cipher(2).open(5, &mut buf), Err(FrameFault::Damaged));
        assert_eq!(buf, before, "a refusal leaves the bytes alone");
    }

    #[test]
    fn checksum_and_tag_are_told_apart() {
        let c = cipher(1);
        let mut buf = vec![0; PAGE_BYTES];
        c.seal(5, FrameType::Group, &mut buf, 10).unwrap();
        let mut rotten = buf.clone();
        rotten[4] ^= 1;
        assert!(c.open(5, &mut rotten).unwrap().crc_rotten);
        buf[FRAME_HEAD_BYTES] ^= 1;
        let crc = c.crc(5, buf[..4].try_into().unwrap(), &buf[8..18], &buf[18..34]);
        buf[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(c.open(5, &mut buf), Err(FrameFault::Tampered));
    }

    #[test]
    fn lengths_beyond_the_buffer_or_the_format_are_refused() {
        let c = cipher(1);
        let mut buf = vec![0; PAGE_BYTES];
        assert_eq!(c.seal(0, FrameType::Group, &mut buf, PAGE_BYTES - 23), Err(Code::TooLarge));
        assert_eq!(c.seal(0, FrameType::Group, &mut buf, MAX_BODY_BYTES + 1), Err(Code::TooLarge));
        buf[..4].copy_from_slice(&(1 << 24 | 5000u32).to_le_bytes());
        assert_eq!(c.open(0, &mut buf), Err(FrameFault::NeedMore(2 * PAGE_BYTES)));
        buf[..4].copy_from_slice(&0x01ff_ffffu32.to_le_bytes());
        assert_eq!(c.open(0, &mut buf), Err(FrameFault::Damaged));
        for end in [0, u32::MAX] {
            buf[..4].copy_from_slice(&end.to_le_bytes());
            assert_eq!(c.open(0, &mut buf), Err(FrameFault::End));
        }
        assert_eq!(c.open(0, &mut []), Err(FrameFault::End));
    }

    #[test]
    fn a_wrong_key_makes_no_cipher() {
        let key = DataKey::new([1; 32]);
        let start = EpochStart { segment: 1, page: 0, salt: [9; 32], key_id: 0, base_hlc: Hlc::ZERO, prev: [0; 16] };
        let h = Header::new(&key, start);
        assert!(matches!(Cipher::new(&h, &DataKey::new([2; 32])), Err(Code::WrongKey)));
    }
}
