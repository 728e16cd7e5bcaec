//! Who wrote an event: node names, lanes, incarnations and the stream key made of them.

use core::fmt;
use core::str::FromStr;

use crate::code::Code;

/// Longest node name in bytes.
pub const NAME_MAX_BYTES: usize = 48;

/// The name of a node: 1 to 48 characters of `a-z A-Z 0-9 . _ -`, not starting with `.` or `-`.
///
/// The alphabet is safe as a file name, in a URI and in a terminal, so a name that came from a
/// certificate never needs escaping. Comparison is by bytes: `Clinic` and `clinic` differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    bytes: [u8; NAME_MAX_BYTES],
    len: u8,
}

impl NodeName {
    /// Checks `name` and copies it.
    ///
    /// # Errors
    /// [`Code::BadName`] if it is empty, too long or uses another alphabet.
    pub fn new(name: &str) -> Result<Self, Code> {
        Self::from_bytes(name.as_bytes())
    }

    /// As [`NodeName::new`], for bytes from a peer or a disk.
    ///
    /// # Errors
    /// [`Code::BadName`].
    pub fn from_bytes(name: &[u8]) -> Result<Self, Code> {
        let ok = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match name {
            [] | [b'.' | b'-', ..] => Err(Code::BadName),
            n if n.len() > NAME_MAX_BYTES || !n.iter().all(ok) => Err(Code::BadName),
            n => {
                let mut bytes = [0; NAME_MAX_BYTES];
                bytes[..n.len()].copy_from_slice(n);
                Ok(Self { bytes, len: n.len() as u8 })
            }
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The name as bytes (ASCII).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for NodeName {
    type Err = Code;
    fn from_str(s: &str) -> Result<Self, Code> {
        Self::new(s)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for NodeName {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.as_str());
    }
}

/// Priority class of a stream. Lower is more urgent; lanes never wait for one another's sequence
/// numbers because each has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Lane {
    /// Overtakes everything else within one frame.
    Urgent = 0,
    /// The default.
    #[default]
    Normal = 1,
    /// Attachments and other things that can wait.
    Bulk = 2,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Normal, Lane::Bulk];

    /// The lane with this number.
    ///
    /// # Errors
    /// [`Code::Malformed`] for a number that this version does not know.
    pub fn from_u8(n: u8) -> Result<Self, Code> {
        match n {
            0 => Ok(Lane::Urgent),
            1 => Ok(Lane::Normal),
            2 => Ok(Lane::Bulk),
            _ => Err(Code::Malformed),
        }
    }

    /// The name used on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Normal => "normal",
            Lane::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = Code;
    fn from_str(s: &str) -> Result<Self, Code> {
        Lane::ALL.into_iter().find(|l| l.as_str() == s).ok_or(Code::Malformed)
    }
}

/// Random number drawn when a log is created, restored, cloned or re-branched. Two copies of one
/// card that both write are told apart by it. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Incarnation(u64);

impl Incarnation {
    /// Wraps a random number; 0 is moved to 1 so that 0 can mean "none" in formats.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(if random == 0 { 1 } else { random })
    }

    /// The number itself.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One append-only sequence of events written by one node: `(node, incarnation, lane)`.
/// Sequence numbers start at 1 and have no holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StreamKey {
    /// The writer.
    pub node: NodeName,
    /// Which life of the writer's log.
    pub incarnation: Incarnation,
    /// Priority class.
    pub lane: Lane,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.incarnation, self.lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_file_name_and_in_a_terminal() {
        for good in ["a", "clinic_a", "PHC-GAS-03", "x.y", &"n".repeat(NAME_MAX_BYTES)] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-rf", "a/b", "a b", "é", "a\n", &"n".repeat(NAME_MAX_BYTES + 1)] {
            assert_eq!(NodeName::new(bad), Err(Code::BadName), "{bad:?}");
        }
    }

    #[test]
    fn an_incarnation_is_never_zero() {
        assert_eq!(Incarnation::new(0).as_u64(), 1);
        assert_eq!(Incarnation::new(7).as_u64(), 7);
    }
}
