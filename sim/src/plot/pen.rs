//! Colours, dashes, letters and marks.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::PlotError;

/// What is drawn on.
pub(super) type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A place on it.
pub(super) type Px = (i32, i32);

pub(super) const INK: RGBColor = RGBColor(38, 38, 38);
pub(super) const FAINT: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);
pub(super) const AXIS: RGBColor = RGBColor(150, 150, 150);
pub(super) const DARK_LINK: RGBColor = RGBColor(196, 196, 196);
pub(super) const NO_POWER: RGBColor = RGBColor(70, 70, 70);
pub(super) const UP: RGBColor = RGBColor(0, 114, 178);
pub(super) const DOWN: RGBColor = RGBColor(213, 94, 0);

/// The colours of Okabe and Ito, which colour-blind people can tell apart. Their yellow is left out:
/// it cannot be seen on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
/// Dash and gap, once the colours are used up.
const DASHES: [(i32, i32); 3] = [(0, 0), (9, 4), (2, 4)];

/// How the line of a host looks: colour, dash and gap (0: a whole line). The hub has none.
pub(super) fn look(host: usize) -> (RGBColor, (i32, i32)) {
    match host.checked_sub(1) {
        None => (INK, DASHES[0]),
        Some(n) => (COLOURS[n % COLOURS.len()], DASHES[n / COLOURS.len() % DASHES.len()]),
    }
}

/// Letters of this size.
pub(super) fn letters(size: i32, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from(("sans-serif", size).into_font()) }
}

/// Writes a line. `at` is its left, middle or right end at half its height.
pub(super) fn write(sheet: &Sheet<'_>, text: &str, at: Px, h: HPos, style: &TextStyle<'_>) -> Result<(), PlotError> {
    Ok(sheet.draw(&Text::new(text.to_owned(), at, style.clone().pos(Pos::new(h, VPos::Center))))?)
}

/// A line, whole or dashed.
pub(super) fn line(
    sheet: &Sheet<'_>,
    points: Vec<Px>,
    (dash, gap): (i32, i32),
    style: impl Into<ShapeStyle>,
) -> Result<(), PlotError> {
    let style = style.into();
    match dash {
        0 => sheet.draw(&PathElement::new(points, style))?,
        _ => sheet.draw(&DashedPathElement::new(points, dash, gap, style))?,
    }
    Ok(())
}

/// A bar between two corners.
pub(super) fn bar(sheet: &Sheet<'_>, from: Px, to: Px, colour: RGBColor) -> Result<(), PlotError> {
    // Whatever happened is at least one pixel wide.
    Ok(sheet.draw(&Rectangle::new([from, (to.0.max(from.0 + 1), to.1)], colour.filled()))?)
}

/// A cut: an upright tick.
pub(super) fn tick(sheet: &Sheet<'_>, (x, y): Px, half: i32, colour: RGBColor) -> Result<(), PlotError> {
    line(sheet, vec![(x, y - half), (x, y + half)], (0, 0), colour.stroke_width(2))
}

/// A crash: a cross on a white one, so that it stands out from any line.
pub(super) fn cross(sheet: &Sheet<'_>, (x, y): Px, half: i32, colour: RGBColor) -> Result<(), PlotError> {
    for (colour, width) in [(WHITE, 5), (colour, 2)] {
        for d in [-1, 1] {
            let ends = vec![(x - half, y - d * half), (x + half, y + d * half)];
            line(sheet, ends, (0, 0), colour.stroke_width(width))?;
        }
    }
    Ok(())
}

/// Another fault: a diamond.
pub(super) fn diamond(sheet: &Sheet<'_>, (x, y): Px, half: i32, colour: RGBColor) -> Result<(), PlotError> {
    let corners = vec![(x - half, y), (x, y - half), (x + half, y), (x, y + half)];
    sheet.draw(&Polygon::new(corners.clone(), WHITE.filled()))?;
    let around = corners.iter().chain(corners.first()).copied().collect();
    line(sheet, around, (0, 0), colour.stroke_width(1))
}

/// A text cut off where the place for it ends.
pub(super) fn cut_off(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect(),
    }
}
