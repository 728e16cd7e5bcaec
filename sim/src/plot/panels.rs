//! The three panels, one above the other over the same time, and what explains them at the right.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::PlotError;
use super::pen::{
    AXIS, DARK_LINK, DOWN, FAINT, GRID, INK, NO_POWER, Px, Sheet, UP, bar, cross, cut_off, diamond, letters, line,
    look, tick, write,
};
use super::scale::{Unit, bin_ms, label, rate_unit, steps, time_unit};
use crate::figures::{span, thousands};
use crate::timeline::{COPY, Moment, SLOT_MS, Timeline};

const WIDTH: i32 = 1280;
const LEFT: i32 = 126;
const RIGHT: i32 = 236;
const PLOT_WIDTH: i32 = WIDTH - LEFT - RIGHT;
const TOP: i32 = 84;
const MAIN_HEIGHT: i32 = 400;
const GAP: i32 = 16;
const WIRE_HEIGHT: i32 = 150;
const FOOT: i32 = 52;
/// More lines than these would leave the panel.
const LEGEND_LINES: usize = 21;
/// No run is longer, in milliseconds (a thousand years): times beyond it are nonsense.
const LONGEST_MS: u64 = 1000 * 365 * 86_400_000;

/// A run, laid out.
pub(super) struct Picture<'t> {
    t: &'t Timeline,
    /// Durable events of each host: (time, events).
    durable: Vec<Vec<(u64, u64)>>,
    end_ms: u64,
    unit: Unit,
    row: i32,
}

impl<'t> Picture<'t> {
    pub(super) fn of(t: &'t Timeline) -> Self {
        let mut durable = vec![Vec::new(); t.names.len()];
        for (ms, h, n) in &t.durable {
            if let Some(of_host) = durable.get_mut(*h) {
                of_host.push((*ms, *n));
            }
        }
        let last_ms = t.end_ms().min(LONGEST_MS);
        let end_ms = (last_ms + last_ms / 60).max(1000);
        let row = (420 / t.names.len().max(1) as i32).clamp(5, 18);
        Self { t, durable, end_ms, unit: time_unit(last_ms), row }
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (self.wire_top() + WIRE_HEIGHT + FOOT) as u32)
    }

    fn strip_top(&self) -> i32 {
        TOP + MAIN_HEIGHT + GAP
    }

    fn strip_height(&self) -> i32 {
        self.row * self.t.names.len().max(1) as i32
    }

    fn wire_top(&self) -> i32 {
        self.strip_top() + self.strip_height() + GAP
    }

    /// Where a time lies.
    fn x(&self, ms: u64) -> i32 {
        LEFT + (ms.min(self.end_ms) as f64 * f64::from(PLOT_WIDTH) / self.end_ms as f64).round() as i32
    }

    fn end(&self) -> f64 {
        self.end_ms as f64 / self.unit.of
    }

    pub(super) fn draw(&self, sheet: &Sheet<'_>, title: &str, subtitle: &str) -> Result<(), PlotError> {
        let bold = TextStyle::from(("sans-serif", 26, FontStyle::Bold).into_font()).color(&INK);
        write(sheet, &cut_off(title, 100), (24, 26), HPos::Left, &bold)?;
        write(sheet, &cut_off(subtitle, 175), (24, 52), HPos::Left, &letters(17, FAINT))?;
        self.main(sheet)?;
        self.strip(sheet)?;
        self.wire(sheet)?;
        self.settled(sheet)
    }

    /// Where the bad times are over.
    fn settled(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        if self.t.settled_ms == 0 || self.t.settled_ms > self.end_ms {
            return Ok(());
        }
        let x = self.x(self.t.settled_ms);
        let bottom = self.wire_top() + WIRE_HEIGHT;
        line(sheet, vec![(x, TOP - 2), (x, bottom)], (4, 4), FAINT.stroke_width(1))?;
        let (at, h) =
            if x > LEFT + PLOT_WIDTH / 2 { ((x + 4, TOP - 11), HPos::Right) } else { ((x - 4, TOP - 11), HPos::Left) };
        write(sheet, "bad times are over", at, h, &letters(14, FAINT))
    }

    fn main(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        let most = self.t.durable.iter().map(|d| d.2).max().unwrap_or(0).min(u64::MAX / 2);
        let area = sheet.clone().shrink((0, TOP), (WIDTH - RIGHT, MAIN_HEIGHT));
        let mut builder = ChartBuilder::on(&area);
        builder.set_label_area_size(LabelAreaPosition::Left, LEFT);
        let mut chart = builder.build_cartesian_2d(0.0..self.end(), 0..most + most / 16 + 1)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .x_labels(12)
            .y_labels(8)
            .y_label_formatter(&|n| thousands(*n))
            .axis_desc_style(letters(17, INK))
            .label_style(letters(16, INK))
            .draw()?;
        for (h, points) in self.with_line().rev().map(|h| (h, &self.durable[h])) {
            let (colour, dash) = look(h);
            let corners = steps(points.iter().copied(), self.end_ms, 2 * PLOT_WIDTH as u64);
            let pixels = corners.iter().map(|(ms, n)| (self.x(*ms), chart.backend_coord(&(0.0, *n)).1)).collect();
            line(sheet, pixels, dash, colour.stroke_width(2))?;
        }
        let height = |h: usize, ms: u64| {
            let points = self.durable.get(h).map_or(&[][..], Vec::as_slice);
            let n = points[..points.partition_point(|p| p.0 <= ms)].last().map_or(0, |p| p.1);
            chart.backend_coord(&(0.0, n)).1
        };
        let clinics = self.t.names.len() as i32;
        self.marks(4 + 2 * clinics, |what, h, ms, x| match what {
            Moment::Cut => tick(sheet, (x, height(h, ms)), 7, look(h).0),
            Moment::Crash if h == 0 => {
                line(sheet, vec![(x, TOP), (x, TOP + MAIN_HEIGHT)], (2, 3), INK.stroke_width(1))?;
                cross(sheet, (x, height(h, ms)), 5, INK)
            }
            Moment::Crash => cross(sheet, (x, height(h, ms)), 5, look(h).0),
            _ => Ok(()),
        })?;
        self.upright(sheet, "events durable at the hub", TOP + MAIN_HEIGHT / 2)?;
        self.names(sheet)
    }

    /// What a panel shows, beside its axis.
    fn upright(&self, sheet: &Sheet<'_>, text: &str, y: i32) -> Result<(), PlotError> {
        let style = letters(17, INK).transform(FontTransform::Rotate270);
        write(sheet, text, (20, y), HPos::Center, &style)
    }

    /// Hosts that have a line: a copied card counts as the clinic whose name it has.
    fn with_line(&self) -> impl DoubleEndedIterator<Item = usize> {
        (1..self.t.names.len()).filter(|h| !self.t.names[*h].ends_with(COPY) || !self.durable[*h].is_empty())
    }

    /// Draws what happened; of the same kind on the same host nothing closer than `apart` pixels.
    fn marks(
        &self,
        apart: i32,
        mut draw: impl FnMut(Moment, usize, u64, i32) -> Result<(), PlotError>,
    ) -> Result<(), PlotError> {
        for h in 0..self.t.names.len() {
            let mut last = [i32::MIN / 2; 3];
            for (ms, _, what) in self.t.moments.iter().filter(|m| m.1 == h && m.0 <= self.end_ms) {
                let kind = match what {
                    Moment::Cut => 0,
                    Moment::Crash => 1,
                    Moment::Fault(_) => 2,
                    Moment::Dark(_) | Moment::Start => continue,
                };
                let x = self.x(*ms);
                if x - last[kind] >= apart {
                    last[kind] = x;
                    draw(*what, h, *ms, x)?;
                }
            }
        }
        Ok(())
    }

    /// Which line is whose, and how many events of it have arrived.
    fn names(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        let (x, right) = (WIDTH - RIGHT + 22, WIDTH - 24);
        let all = self.with_line().count();
        let mut y = TOP + 8;
        for h in self.with_line().take(LEGEND_LINES) {
            let (colour, dash) = look(h);
            line(sheet, vec![(x, y), (x + 28, y)], dash, colour.stroke_width(2))?;
            write(sheet, &cut_off(&self.t.names[h], 18), (x + 38, y), HPos::Left, &letters(16, INK))?;
            let n = self.durable[h].last().map_or(0, |p| p.1);
            write(sheet, &thousands(n), (right, y), HPos::Right, &letters(16, FAINT))?;
            y += 18;
        }
        if all > LEGEND_LINES {
            let more = format!("and {} more", all - LEGEND_LINES);
            write(sheet, &more, (x + 38, y), HPos::Left, &letters(16, FAINT))?;
        }
        Ok(())
    }

    fn strip(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        let (row, top) = (self.row, self.strip_top());
        let middle = |h: usize| top + h as i32 * row + row / 2;
        let half = (row / 2 - 2).clamp(2, 6);
        let each = (11 + row) / row;
        for (h, name) in self.t.names.iter().enumerate() {
            let y = middle(h);
            let ground = if h.is_multiple_of(2) { RGBColor(246, 246, 246) } else { WHITE };
            bar(sheet, (LEFT, y - row / 2), (LEFT + PLOT_WIDTH, y - row / 2 + row), ground)?;
            for (from, to) in self.t.dark(h) {
                bar(sheet, (self.x(from), y - half), (self.x(to), y + half), DARK_LINK)?;
            }
            for (from, to) in self.t.off(h) {
                bar(sheet, (self.x(from), y - half / 2), (self.x(to), y - half / 2 + half.max(2)), NO_POWER)?;
            }
            if h.is_multiple_of(each as usize) {
                write(sheet, &cut_off(name, 17), (LEFT - 8, y), HPos::Right, &letters(14, INK))?;
            }
        }
        let (left, bottom) = ((LEFT, top), (LEFT + PLOT_WIDTH, top + self.strip_height()));
        sheet.draw(&Rectangle::new([left, bottom], GRID.stroke_width(1)))?;
        self.marks(2, |what, h, _, x| match what {
            Moment::Cut => tick(sheet, (x, middle(h)), half, look(h).0),
            _ => Ok(()),
        })?;
        self.marks(4, |what, h, _, x| match what {
            Moment::Fault(_) => diamond(sheet, (x, middle(h)), half.min(4), INK),
            _ => Ok(()),
        })?;
        self.marks(4, |what, h, _, x| match what {
            Moment::Crash => cross(sheet, (x, middle(h)), half.min(4), look(h).0),
            _ => Ok(()),
        })?;
        self.signs(sheet)
    }

    /// What the signs of the strip mean: those that are there.
    fn signs(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        let x = WIDTH - RIGHT + 22;
        // A strip of one clinic has less room than its signs need, the panel above has some.
        let mut y = self.strip_top() + 9 - (5 * 18 - self.strip_height()).max(0);
        let has = |wanted: fn(&Moment) -> bool| self.t.moments.iter().any(|m| wanted(&m.2));
        type Sign = fn(&Sheet<'_>, Px) -> Result<(), PlotError>;
        let signs: [(bool, Sign, &str); 5] = [
            (has(|m| *m == Moment::Cut), |s, at| tick(s, at, 6, UP), "connection cut"),
            (has(|m| *m == Moment::Crash), |s, at| cross(s, at, 4, INK), "power lost"),
            (has(|m| *m == Moment::Crash), |s, (x, y)| bar(s, (x - 14, y - 3), (x + 14, y + 3), NO_POWER), "no power"),
            (
                has(|m| matches!(m, Moment::Dark(_))),
                |s, (x, y)| bar(s, (x - 14, y - 6), (x + 14, y + 6), DARK_LINK),
                "link dead",
            ),
            (has(|m| matches!(m, Moment::Fault(_))), |s, at| diamond(s, at, 4, INK), "another fault"),
        ];
        for (_, sign, text) in signs.into_iter().filter(|s| s.0) {
            sign(sheet, (x + 14, y))?;
            write(sheet, text, (x + 38, y), HPos::Left, &letters(16, INK))?;
            y += 18;
        }
        Ok(())
    }

    fn wire(&self, sheet: &Sheet<'_>) -> Result<(), PlotError> {
        let t = self.t;
        let links = t.names.len().saturating_sub(1) as u64;
        let rates = [t.rate.0, t.rate.1].map(|r| r.saturating_mul(links));
        // A packet is put down where it ends: on a thin link shorter bars would be gaps and spikes.
        let thin = t.rate.0.min(t.rate.1) < 14_000;
        let bin = bin_ms(
            self.end_ms,
            320,
            match (thin, self.end_ms) {
                (false, _) => SLOT_MS,
                (true, 0..60_000) => 1_000,
                (true, _) => 2_000,
            },
        );
        let (up, down) = (self.traffic(bin, |w| w.2), self.traffic(bin, |w| w.3));
        let data = up.iter().chain(&down).copied().fold(1.0, f64::max);
        let lines = rates.map(|r| r > 0 && r as f64 <= data * 4.0);
        let most = rates.iter().zip(lines).filter(|(_, l)| *l).map(|(r, _)| *r as f64).fold(data, f64::max);
        let unit = rate_unit(most);
        let area = sheet.clone().shrink((0, self.wire_top()), (WIDTH - RIGHT, WIRE_HEIGHT + FOOT));
        let mut builder = ChartBuilder::on(&area);
        builder.set_label_area_size(LabelAreaPosition::Left, LEFT);
        builder.set_label_area_size(LabelAreaPosition::Bottom, FOOT);
        let mut chart = builder.build_cartesian_2d(0.0..self.end(), 0.0..most * 1.12 / unit.of)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .x_labels(12)
            .y_labels(4)
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|x| label(*x))
            .x_desc(format!("virtual time ({})", self.unit.name))
            .axis_desc_style(letters(17, INK))
            .label_style(letters(16, INK))
            .draw()?;
        let y = |rate: f64| chart.backend_coord(&(0.0, rate / unit.of)).1;
        let corners = |of: &[f64]| -> Vec<Px> {
            let sides = of.iter().zip(0u64..).flat_map(|(r, n)| [(n * bin, *r), ((n + 1) * bin, *r)]);
            let inner = sides.map(|(ms, r)| (self.x(ms), y(r)));
            std::iter::once((LEFT, y(0.0))).chain(inner).chain([(self.x(of.len() as u64 * bin), y(0.0))]).collect()
        };
        sheet.draw(&Polygon::new(corners(&up), UP.mix(0.35).filled()))?;
        line(sheet, corners(&up), (0, 0), UP.stroke_width(1))?;
        line(sheet, corners(&down), (0, 0), DOWN.stroke_width(1))?;
        let same = rates[0] == rates[1];
        for (n, (rate, colour)) in rates.into_iter().zip([if same { INK } else { UP }, DOWN]).enumerate() {
            if lines[n] && !(same && n == 1) {
                line(
                    sheet,
                    vec![(LEFT, y(rate as f64)), (LEFT + PLOT_WIDTH, y(rate as f64))],
                    (7, 5),
                    colour.stroke_width(1),
                )?;
            }
        }
        self.upright(sheet, &format!("all links ({})", unit.name), self.wire_top() + WIRE_HEIGHT / 2)?;
        self.rates(sheet, bin, rates, lines)
    }

    /// Bytes per second on all links together, in bars of so many milliseconds.
    fn traffic(&self, bin: u64, of: impl Fn(&(u64, usize, u64, u64)) -> u64) -> Vec<f64> {
        let mut sums = vec![0u64; (self.end_ms / bin) as usize + 1];
        for w in self.t.wire.iter().filter(|w| w.0 <= self.end_ms) {
            if let Some(sum) = sums.get_mut((w.0 / bin) as usize) {
                *sum = sum.saturating_add(of(w));
            }
        }
        sums.into_iter().map(|n| n as f64 * 1000.0 / bin as f64).collect()
    }

    /// What the lines of the lowest panel mean.
    fn rates(&self, sheet: &Sheet<'_>, bin: u64, rates: [u64; 2], drawn: [bool; 2]) -> Result<(), PlotError> {
        let x = WIDTH - RIGHT + 22;
        let mut y = self.wire_top() + 9;
        let mut entry = |colour: RGBColor, dash, text: &str| {
            if let Some(dash) = dash {
                line(sheet, vec![(x, y), (x + 28, y)], dash, colour.stroke_width(2))?;
            }
            write(sheet, text, (x + 38, y), HPos::Left, &letters(15, if dash.is_some() { INK } else { FAINT }))?;
            y += 18;
            Ok::<(), PlotError>(())
        };
        entry(UP, Some((0, 0)), "clinics to hub")?;
        entry(DOWN, Some((0, 0)), "hub to clinics")?;
        let same = rates[0] == rates[1];
        for (n, (rate, way)) in rates.into_iter().zip([if same { "each way" } else { "up" }, "down"]).enumerate() {
            if rate == 0 || same && n == 1 {
                continue;
            }
            let unit = rate_unit(rate as f64);
            let colour = [if same { INK } else { UP }, DOWN][n];
            entry(colour, drawn[n].then_some((7, 5)), &format!("links' rate, {way}"))?;
            let off = if drawn[n] { "" } else { ": far above" };
            let value = (rate as f64 / unit.of * 10.0).round() / 10.0;
            entry(FAINT, None, &format!("{} {}{off}", label(value), unit.name))?;
        }
        entry(FAINT, None, &format!("mean over {}", span(bin)))
    }
}
