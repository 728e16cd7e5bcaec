//! Unsigned LEB128, and the reader and writer over slices that every codec of the core uses.
//!
//! docs/PROTOCOL.md#num-1: at most 10 bytes, the shortest form only, so that one value has one
//! encoding and golden vectors stay golden.

use crate::code::Code;

/// Most bytes that a 64-bit varint takes.
pub const VARINT_MAX_BYTES: usize = 10;

/// Bytes that `v` takes as a varint.
#[must_use]
pub fn varint_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

/// Cursor over input bytes. Every verb fails with [`Code::Malformed`] at the end of the input and
/// leaves the cursor where it was.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Code::Malformed`] if fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Code> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Code::Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Code::Malformed`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Code> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Code::Malformed)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Code::Malformed`] at the end.
    pub fn u8(&mut self) -> Result<u8, Code> {
        self.array::<1>().map(|[b]| b)
    }

    /// Little-endian 16 bits.
    ///
    /// # Errors
    /// [`Code::Malformed`] at the end.
    pub fn u16(&mut self) -> Result<u16, Code> {
        self.array().map(u16::from_le_bytes)
    }

    /// Little-endian 32 bits.
    ///
    /// # Errors
    /// [`Code::Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Code> {
        self.array().map(u32::from_le_bytes)
    }

    /// Little-endian 64 bits.
    ///
    /// # Errors
    /// [`Code::Malformed`] at the end.
    pub fn u64(&mut self) -> Result<u64, Code> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint in its shortest form.
    ///
    /// # Errors
    /// [`Code::Malformed`] if it is cut, longer than needed or over 64 bits.
    pub fn varint(&mut self) -> Result<u64, Code> {
        let mut v = 0u64;
        for (i, &b) in self.rest.iter().take(VARINT_MAX_BYTES).enumerate() {
            let part = u64::from(b & 0x7f);
            if i == VARINT_MAX_BYTES - 1 && part > 1 {
                return Err(Code::Malformed);
            }
            v |= part << (7 * i);
            if b & 0x80 == 0 {
                if b == 0 && i > 0 {
                    return Err(Code::Malformed);
                }
                self.rest = &self.rest[i + 1..];
                return Ok(v);
            }
        }
        Err(Code::Malformed)
    }

    /// A varint that must not exceed `max`: the check comes before anyone allocates by it.
    ///
    /// # Errors
    /// [`Code::Malformed`] as [`Reader::varint`], or if it is larger.
    pub fn varint_max(&mut self, max: u64) -> Result<u64, Code> {
        self.varint().and_then(|v| if v <= max { Ok(v) } else { Err(Code::Malformed) })
    }
}

/// Cursor over output bytes. Writing past the end fails with [`Full`] and writes nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

/// The output slice has no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<'a> Writer<'a> {
    /// Writes from the start of `out`.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Full`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends one byte.
    ///
    /// # Errors
    /// [`Full`].
    pub fn u8(&mut self, v: u8) -> Result<(), Full> {
        self.put(&[v])
    }

    /// Appends a varint.
    ///
    /// # Errors
    /// [`Full`].
    pub fn varint(&mut self, mut v: u64) -> Result<(), Full> {
        if self.room() < varint_len(v) {
            return Err(Full);
        }
        while v >= 0x80 {
            self.out[self.len] = v as u8 | 0x80;
            self.len += 1;
            v >>= 7;
        }
        self.out[self.len] = v as u8;
        self.len += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_round_trips() {
        for shift in 0..64 {
            for v in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut buf = [0; VARINT_MAX_BYTES];
                let mut w = Writer::new(&mut buf);
                w.varint(v).unwrap();
                assert_eq!(w.len(), varint_len(v));
                let n = w.len();
                let mut r = Reader::new(&buf[..n]);
                assert_eq!(r.varint(), Ok(v));
                assert!(r.is_empty());
            }
        }
    }

    #[test]
    fn a_cut_padded_or_overlong_varint_is_refused_and_nothing_is_consumed() {
        for bad in
            [&[0x80][..], &[0x80, 0x00], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &[]]
        {
            let mut r = Reader::new(bad);
            assert_eq!(r.varint(), Err(Code::Malformed));
            assert_eq!(r.rest(), bad);
        }
    }

    #[test]
    fn a_full_writer_writes_nothing() {
        let mut buf = [0xaa; 2];
        let mut w = Writer::new(&mut buf);
        assert_eq!(w.varint(1 << 20), Err(Full));
        assert_eq!(w.put(&[1, 2, 3]), Err(Full));
        assert_eq!(buf, [0xaa; 2]);
    }
}
