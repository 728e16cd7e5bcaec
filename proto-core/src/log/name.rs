//! File names of segments.

use core::fmt;
use core::str::FromStr;

use crate::code::Code;

/// The file name of a segment: `seg-00000001.log` (docs/LOG.md#segment-4). Prints and parses;
/// needs no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName(pub u64);

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seg-{:08}.log", self.0)
    }
}

/// The file name of a sealed segment: `seg-00000001.sealed` (docs/LOG.md#sealed-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedName(pub u64);

impl fmt::Display for SealedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seg-{:08}.sealed", self.0)
    }
}

impl FromStr for SealedName {
    type Err = Code;

    /// As for [`SegmentName`].
    ///
    /// # Errors
    /// [`Code::BadArgument`] for any other name.
    fn from_str(name: &str) -> Result<Self, Code> {
        number(name, ".sealed").map(SealedName)
    }
}

impl FromStr for SegmentName {
    type Err = Code;

    /// The number in a file name. Only the one spelling that a number has is accepted, so two
    /// files can never claim one number.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for any other name.
    fn from_str(name: &str) -> Result<Self, Code> {
        number(name, ".log").map(SegmentName)
    }
}

fn number(name: &str, ending: &str) -> Result<u64, Code> {
    let digits = name.strip_prefix("seg-").and_then(|n| n.strip_suffix(ending)).ok_or(Code::BadArgument)?;
    let shape = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 8 || digits.len() > 8 && digits.as_bytes()[0] != b'0');
    digits.parse().ok().filter(|n| shape && *n > 0).ok_or(Code::BadArgument)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_number_and_its_file_name_lead_to_each_other() {
        for n in [1, 42, 99_999_999, 100_000_000, u64::MAX] {
            let name = SegmentName(n).to_string();
            assert_eq!(name.parse(), Ok(SegmentName(n)), "{name}");
        }
        assert_eq!(SegmentName(1).to_string(), "seg-00000001.log");
        assert_eq!(SealedName(1).to_string(), "seg-00000001.sealed");
        assert_eq!("seg-00000031.sealed".parse(), Ok(SealedName(31)));
        assert_eq!("seg-00000031.log".parse::<SealedName>(), Err(Code::BadArgument));
    }

    #[test]
    fn any_other_spelling_is_not_a_segment() {
        for bad in [
            "",
            "seg-1.log",
            "seg-00000000.log",
            "seg-000000001.log",
            "seg-+0000001.log",
            "seg-00000001.log~",
            "seg-00000001",
            "seg-99999999999999999999.log",
        ] {
            assert_eq!(bad.parse::<SegmentName>(), Err(Code::BadArgument), "{bad}");
        }
    }
}
