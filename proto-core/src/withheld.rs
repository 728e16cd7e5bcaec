//! What is known of an event that is not here: it stands in the event's place, in the log and on the wire
//! (docs/LOG.md#withheld-1).

use crate::code::Code;
use crate::event::Chain;
use crate::varint::{Full, Reader, Writer};

/// Most bytes of what stands in the place of an event.
pub const WITHHELD_MAX_BYTES: usize = 1 + 32 + 10 + 3;

const NOTHING: u8 = 0;
const HASH: u8 = 1;
const CHAIN: u8 = 2;

/// By what the chain hash goes on over the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// By nothing: it goes on as over an event whose hash is 32 zeros. A later place of the same stretch says
    /// where the chain comes out.
    Nothing,
    /// The event's hash (docs/PROTOCOL.md#chain-1).
    Hash([u8; 32]),
    /// The chain hash up to the event.
    Chain(Chain),
}

/// Stands in the place of an event that is not here. It is the payload of an
/// [`Event`](crate::event::Event) with the flag [`WITHHELD`](crate::event::flags::WITHHELD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// By what the chain goes on.
    pub known: Known,
    /// Bytes of the event's payload; 0 if nobody knows.
    pub bytes: u64,
    /// Number of a [`Code`]: why it is not here.
    pub code: u16,
}

impl Withheld {
    /// Writes it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        match self.known {
            Known::Nothing => w.u8(NOTHING)?,
            Known::Hash(hash) => {
                w.u8(HASH)?;
                w.put(&hash)?;
            }
            Known::Chain(chain) => {
                w.u8(CHAIN)?;
                w.put(&chain.0)?;
            }
        }
        w.varint(self.bytes)?;
        w.varint(u64::from(self.code))
    }

    /// Writes it into `out`; the bytes that it took.
    pub(crate) fn put<'o>(&self, out: &'o mut [u8; WITHHELD_MAX_BYTES]) -> &'o [u8] {
        let mut w = Writer::new(out);
        // It always fits.
        let _ = self.emit(&mut w);
        let n = w.len();
        &out[..n]
    }

    /// Reads it; it must be all of `bytes`.
    ///
    /// # Errors
    /// [`Code::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Code> {
        let mut r = Reader::new(bytes);
        let known = match r.u8()? {
            NOTHING => Known::Nothing,
            HASH => Known::Hash(r.array()?),
            CHAIN => Known::Chain(Chain(r.array()?)),
            _ => return Err(Code::Malformed),
        };
        let (bytes, code) = (r.varint()?, r.varint_max(u64::from(u16::MAX))? as u16);
        if r.is_empty() { Ok(Self { known, bytes, code }) } else { Err(Code::Malformed) }
    }

    /// Why, if this version knows the code.
    #[must_use]
    pub fn reason(&self) -> Code {
        Code::from_u16(self.code).unwrap_or(Code::Withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, flags};
    use crate::hlc::Hlc;

    const EACH: [Known; 3] = [Known::Nothing, Known::Hash([7; 32]), Known::Chain(Chain([8; 32]))];

    #[test]
    fn every_form_comes_back_and_no_other_is_read() {
        for known in EACH {
            let place = Withheld { known, bytes: u64::MAX, code: u16::MAX };
            let mut out = [0; WITHHELD_MAX_BYTES];
            let bytes = place.put(&mut out);
            assert_eq!(Withheld::parse(bytes), Ok(place));
            for cut in 0..bytes.len() {
                assert_eq!(Withheld::parse(&bytes[..cut]), Err(Code::Malformed), "{cut}");
            }
            let longer = [bytes, &[0]].concat();
            assert_eq!(Withheld::parse(&longer), Err(Code::Malformed));
        }
        assert_eq!(Withheld::parse(&[3, 0, 0]), Err(Code::Malformed));
    }

    #[test]
    fn the_chain_goes_on_over_a_place_as_over_the_event() {
        let event = Event { hlc: Hlc::new(5, 1), kind: 2, flags: flags::UNSYNCED, payload: b"x" };
        let before = Chain([9; 32]);
        let over = |known| {
            let mut out = [0; WITHHELD_MAX_BYTES];
            let payload = Withheld { known, bytes: 1, code: 311 }.put(&mut out);
            before.then(&Event { flags: event.flags | flags::WITHHELD, payload, ..event })
        };
        assert_eq!(over(Known::Hash(event.hash())), before.then(&event));
        assert_eq!(over(Known::Chain(before.then(&event))), before.then(&event));
        assert_ne!(over(Known::Hash([0; 32])), before.then(&event));
        assert_eq!(over(Known::Hash([0; 32])), over(Known::Nothing));
    }
}
