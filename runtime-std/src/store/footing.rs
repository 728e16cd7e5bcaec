//! What damage in a sealed file has cost: index, footer and trailer say nothing that the frames before
//! them do not, so rot there loses no event (docs/LOG.md#sealed-13).

use ropeway_core::code::Code;

use super::dense::Part;

type CodeResult<T> = std::result::Result<T, Code>;

/// Follows a scan of a sealed segment and tells damage from rot in what only leads to the events.
#[derive(Debug, Default)]
pub(super) struct Footing {
    groups: u32,
    /// An index frame was read: all groups stand before it.
    indexed: bool,
    /// Where the footer stands.
    pub(super) seal_at: Option<u64>,
    /// Damage of which it is not known yet what stood there.
    waiting: Vec<(u64, u64, Code)>,
}

impl Footing {
    /// Hands a part on, once it is known what it means.
    pub(super) fn pass(&mut self, part: Part<'_>, each: &mut impl FnMut(Part<'_>) -> CodeResult<()>) -> CodeResult<()> {
        match &part {
            Part::Damaged { from, to, code: Code::Corrupt } if self.indexed => {
                return each(Part::Footing { from: *from, to: *to });
            }
            Part::Damaged { from, to, code } => {
                self.waiting.push((*from, *to, *code));
                return Ok(());
            }
            Part::Group { .. } => {
                self.groups += 1;
                self.tell(false, each)?;
            }
            Part::Index { .. } => self.indexed = true,
            Part::Seal { offset, summary, .. } => {
                self.seal_at = Some(*offset);
                self.tell(summary.frames == self.groups, each)?;
            }
            _ => {}
        }
        each(part)
    }

    /// At the end: what is still waiting was lost. Whether all groups were there, `sealed`: the footer was.
    pub(super) fn end(&mut self, sealed: bool, each: &mut impl FnMut(Part<'_>) -> CodeResult<()>) -> CodeResult<bool> {
        self.tell(false, each)?;
        Ok(sealed || self.indexed)
    }

    fn tell(&mut self, harmless: bool, each: &mut impl FnMut(Part<'_>) -> CodeResult<()>) -> CodeResult<()> {
        for (from, to, code) in std::mem::take(&mut self.waiting) {
            let harmless = harmless && code == Code::Corrupt;
            each(if harmless { Part::Footing { from, to } } else { Part::Damaged { from, to, code } })?;
        }
        Ok(())
    }
}
