//! The body of a dense frame: codec, length, data (docs/LOG.md#sealed-6).

use super::super::MAX_BODY_BYTES;
use crate::code::Code;
use crate::codec::{Codec, CodecId};

/// Codec and length before the data.
pub const PACK_HEAD_BYTES: usize = 5;

/// Packs `raw` into `out`, compressed if that makes it smaller; the length.
///
/// # Errors
/// [`Code::TooLarge`] if it does not fit or is larger than a body may be.
pub fn pack(raw: &[u8], codec: Option<&mut (dyn Codec + Send)>, out: &mut [u8]) -> Result<usize, Code> {
    let len = u32::try_from(raw.len()).ok().filter(|_| raw.len() <= MAX_BODY_BYTES).ok_or(Code::TooLarge)?;
    let (head, data) = out.split_at_mut_checked(PACK_HEAD_BYTES).ok_or(Code::TooLarge)?;
    head[1..].copy_from_slice(&len.to_le_bytes());
    if let Some(codec) = codec
        && let Some(n) = codec.compress(raw, data).filter(|n| *n < raw.len())
    {
        head[0] = codec.id().0;
        return Ok(PACK_HEAD_BYTES + n);
    }
    head[0] = CodecId::STORED.0;
    data.get_mut(..raw.len()).ok_or(Code::TooLarge)?.copy_from_slice(raw);
    Ok(PACK_HEAD_BYTES + raw.len())
}

/// How many bytes a packed body unpacks to: at most [`MAX_BODY_BYTES`].
///
/// # Errors
/// [`Code::Corrupt`].
pub fn unpacked_len(packed: &[u8]) -> Result<usize, Code> {
    let head = packed.first_chunk::<PACK_HEAD_BYTES>().ok_or(Code::Corrupt)?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if len <= MAX_BODY_BYTES { Ok(len) } else { Err(Code::Corrupt) }
}

/// Unpacks into `out`, which has [`unpacked_len`] bytes.
///
/// # Errors
/// [`Code::Corrupt`] if it does not decode to that; [`Code::FormatNewer`] for an unknown codec.
pub fn unpack(packed: &[u8], codec: Option<&mut (dyn Codec + Send)>, out: &mut [u8]) -> Result<(), Code> {
    let (head, data) = packed.split_at_checked(PACK_HEAD_BYTES).ok_or(Code::Corrupt)?;
    match (CodecId(head[0]), codec) {
        (CodecId::STORED, _) if data.len() == out.len() => out.copy_from_slice(data),
        (CodecId::STORED, _) => return Err(Code::Corrupt),
        (id, Some(codec)) if id == codec.id() => codec.decompress(data, out).map_err(|_| Code::Corrupt)?,
        _ => return Err(Code::FormatNewer),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bodies_round_trip_and_wrong_lengths_are_refused() {
        let mut out = [0; 64];
        let n = pack(b"records", None, &mut out).unwrap();
        assert_eq!((n, unpacked_len(&out[..n])), (12, Ok(7)));
        let mut raw = [0; 7];
        unpack(&out[..n], None, &mut raw).unwrap();
        assert_eq!(&raw, b"records");
        assert_eq!(unpack(&out[..n - 1], None, &mut raw), Err(Code::Corrupt));
        assert_eq!(pack(b"records", None, &mut out[..11]), Err(Code::TooLarge));
        out[0] = 9;
        assert_eq!(unpack(&out[..n], None, &mut raw), Err(Code::FormatNewer));
        out[1..5].fill(0xff);
        assert_eq!(unpacked_len(&out), Err(Code::Corrupt));
        assert_eq!(unpacked_len(&out[..4]), Err(Code::Corrupt));
    }
}
