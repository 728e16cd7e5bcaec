//! A run as a picture: what was durable at the hub and when, what went wrong where, and what the
//! links carried.

mod panels;
mod pen;
mod scale;

use plotters::prelude::*;

use crate::timeline::Timeline;
use panels::Picture;

/// Why a run could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run cannot be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(e: DrawingAreaErrorKind<E>) -> Self {
        PlotError(e.to_string())
    }
}

/// Draws a run as SVG: above, the events of each clinic that are durable at the hub, over time; in
/// the middle a strip for each node with its cuts, crashes, dark times and other faults; below, what
/// all links carried against what they can. The same timeline gives the same bytes.
///
/// # Errors
/// [`PlotError`] if the drawing library fails.
pub fn plot(timeline: &Timeline, title: &str, subtitle: &str) -> Result<String, PlotError> {
    let picture = Picture::of(timeline);
    let mut svg = String::new();
    {
        let sheet = SVGBackend::with_string(&mut svg, picture.size()).into_drawing_area();
        sheet.fill(&WHITE)?;
        picture.draw(&sheet, title, subtitle)?;
        sheet.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::timeline::Moment;

    fn story(clinics: usize, events: u64, length_ms: u64) -> Timeline {
        let mut t = Timeline { rate: (2875, 2875), events, settled_ms: length_ms / 2, ..Timeline::default() };
        t.names.push("hub".into());
        t.names.extend((0..clinics).map(|c| format!("clinic_{c:03}")));
        for n in 0..events {
            let (ms, c) = (length_ms * (n + 1) / events, 1 + n as usize % clinics);
            t.durable.push((ms, c, n / clinics as u64 + 1));
            t.wire.push((ms / 100 * 100, c, 250, 40));
        }
        for c in 1..=clinics {
            t.moments.push((length_ms / 3, c, Moment::Cut));
            t.moments.push((length_ms / 4, c, Moment::Dark(length_ms)));
        }
        t.moments.push((length_ms / 5, 0, Moment::Crash));
        t.moments.push((length_ms / 4, 0, Moment::Start));
        t.moments.push((length_ms / 4, 0, Moment::Fault(Fault::Freeze)));
        t
    }

    /// Every tag is closed, in the right order; what stands in them is escaped.
    fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            for (at, _) in text.match_indices('&') {
                assert!(["&lt;", "&gt;", "&amp;", "&quot;", "&apos;"].iter().any(|e| text[at..].starts_with(e)));
            }
        }
        assert!(open.is_empty() && svg.starts_with("<svg "), "{open:?}");
    }

    #[test]
    fn a_picture_is_well_formed_names_each_clinic_and_is_always_the_same() {
        for (clinics, events, length_ms) in [(1, 1, 3_000), (5, 5_000, 700_000), (20, 20_000, 40 * 86_400_000)] {
            let t = story(clinics, events, length_ms);
            let svg = plot(&t, "a < b & \"c\"", "d").expect("a picture");
            assert_well_formed(&svg);
            for name in &t.names {
                assert!(svg.contains(name.as_str()), "{name} is missing");
            }
            assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
            assert_eq!(plot(&t, "a < b & \"c\"", "d"), Ok(svg));
        }
    }

    #[test]
    fn many_events_are_thinned() {
        let svg = plot(&story(3, 100_000, 86_400_000), "t", "s").expect("a picture");
        assert!(svg.len() < 1_000_000, "{} bytes", svg.len());
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        assert_well_formed(&plot(&Timeline::default(), "", "").expect("a picture"));
        let odd = Timeline {
            durable: vec![(5, 7, 1)],
            moments: vec![(u64::MAX, 9, Moment::Crash), (3, 1, Moment::Dark(u64::MAX))],
            wire: vec![(u64::MAX, 3, u64::MAX, 1)],
            ..Timeline::default()
        };
        assert_well_formed(&plot(&odd, "", "").expect("a picture"));
    }
}
