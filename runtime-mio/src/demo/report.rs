//! What a demo run showed: one line of JSON for programs, a table and a verdict for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Whether the run kept every promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every event is at the hub once, unaltered, and no clinic saw another's.
    #[serde(rename = "pass")]
    Passed,
    /// Something is not as promised; [`Report::findings`] says what.
    #[serde(rename = "fail")]
    Failed,
}

/// One clinic's part of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClinicRow {
    /// The clinic's node name.
    pub name: String,
    /// Events that the clinic appended.
    pub events: u64,
    /// Bytes that left the clinic's modem.
    pub bytes_up: u64,
    /// Bytes that left the hub for this clinic.
    pub bytes_down: u64,
    /// `bytes_up` over `events`.
    pub bytes_per_event: f64,
    /// Link seconds until the hub had acknowledged everything.
    pub seconds: f64,
    /// The event after which a cut connection went on, if one was cut.
    pub resumed_at: Option<u64>,
    /// Events that were sent more than once.
    pub resent: u64,
}

/// The result of a demo run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The outcome; [`Report::settle`] sets it.
    pub verdict: Verdict,
    /// Events that the clinics appended.
    pub events_appended: u64,
    /// Different events in the hub's log.
    pub events_at_hub: u64,
    /// Appended events that the hub does not have.
    pub lost: u64,
    /// Events that the hub has more than once.
    pub duplicates: u64,
    /// Events whose bytes at the hub are not those that were appended.
    pub altered: u64,
    /// No clinic received an event of another.
    pub isolated: bool,
    /// What ended a clinic's or the hub's work early, each with its R code.
    pub errors: Vec<String>,
    /// Bytes that left the clinics' modems.
    pub wire_bytes_up: u64,
    /// Bytes that left the hub.
    pub wire_bytes_down: u64,
    /// How many times a link broke.
    pub cuts: u64,
    /// Events that were sent more than once.
    pub resent_events: u64,
    /// Link seconds of the whole run.
    pub seconds: f64,
    /// Seconds that it took here.
    pub wall_seconds: f64,
    /// Link seconds per second here.
    pub speed: f64,
    /// The link profile's name.
    pub profile: String,
    /// One row per clinic.
    pub clinics: Vec<ClinicRow>,
}

impl Report {
    /// The report with the verdict that its numbers call for.
    #[must_use]
    pub fn settle(mut self) -> Report {
        self.verdict = if self.findings().is_empty() { Verdict::Passed } else { Verdict::Failed };
        self
    }

    /// What is not as promised, each as part of a sentence. Empty if all is well.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (count, what) in [(self.lost, "lost"), (self.duplicates, "twice at the hub"), (self.altered, "altered")] {
            if count > 0 {
                findings.push(format!("{} {what}", grouped(count)));
            }
        }
        if self.events_at_hub != self.events_appended && self.lost == 0 {
            findings.push(format!("{} at the hub", counted(self.events_at_hub, "event")));
        }
        if self.events_appended == 0 {
            findings.push("nothing was appended".into());
        }
        if !self.isolated {
            findings.push("a clinic received another clinic's events".into());
        }
        if !self.errors.is_empty() {
            findings.push(counted(self.errors.len() as u64, "error"));
        }
        findings
    }

    /// One line of JSON, without a line end.
    ///
    /// # Errors
    /// None for a report of plain numbers and text; the serialiser's type allows for them.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// The table and, as the last lines, the verdict. Ends with a line end.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        let paint = |style: Style, text: &str| {
            if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
        };
        let mut text = format!(
            "{} over {} at {} times its speed: {:.1} s on the link, {:.1} s here\n\n",
            counted(self.clinics.len() as u64, "clinic"),
            printable(&self.profile),
            self.speed,
            self.seconds,
            self.wall_seconds
        );
        for (index, line) in align(&self.rows()).iter().enumerate() {
            let line = if index == 0 { paint(Style::new().bold(), line) } else { line.clone() };
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "\n{}, {} sent again, {} bytes up and {} bytes down",
            counted(self.cuts, "cut"),
            counted(self.resent_events, "event"),
            grouped(self.wire_bytes_up),
            grouped(self.wire_bytes_down)
        );
        let appended = counted(self.events_appended, "event");
        let (colour_of, word, says) = match self.verdict {
            Verdict::Passed => (
                AnsiColor::Green,
                "PASSED",
                format!("{appended} appended, all at the hub: none lost, none twice, none altered, clinics isolated"),
            ),
            Verdict::Failed => {
                (AnsiColor::Red, "FAILED", format!("{appended} appended: {}", self.findings().join(", ")))
            }
        };
        let _ = writeln!(text, "{}  {says}", paint(colour_of.on_default().bold(), word));
        for error in &self.errors {
            let _ = writeln!(text, "  {}", harmless(error));
        }
        text
    }

    fn rows(&self) -> Vec<[String; 8]> {
        let head = ["clinic", "events", "bytes up", "bytes down", "bytes/event", "seconds", "resumed at", "resent"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.clinics.iter().map(|clinic| {
            [
                printable(&clinic.name),
                grouped(clinic.events),
                grouped(clinic.bytes_up),
                grouped(clinic.bytes_down),
                format!("{:.1}", clinic.bytes_per_event),
                format!("{:.1}", clinic.seconds),
                clinic.resumed_at.map_or("-".into(), grouped),
                grouped(clinic.resent),
            ]
        }));
        rows
    }
}

/// Whether text on standard output may have colours: a terminal, and no `NO_COLOR`.
#[must_use]
pub fn stdout_has_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Columns of equal width, the first to the left, the others to the right.
fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect()
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 cut`, `2 cuts`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// At most 48 characters, none of which can move a terminal's cursor.
fn printable(text: &str) -> String {
    harmless(text).chars().take(48).collect()
}

/// No character that can move a terminal's cursor.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let clinic = |name: &str, events, bytes_up, resumed_at, resent| ClinicRow {
            name: name.into(),
            events,
            bytes_up,
            bytes_down: 1_204,
            bytes_per_event: bytes_up as f64 / events as f64,
            seconds: 31.25,
            resumed_at,
            resent,
        };
        Report {
            verdict: Verdict::Failed,
            events_appended: 1_500,
            events_at_hub: 1_500,
            lost: 0,
            duplicates: 0,
            altered: 0,
            isolated: true,
            errors: Vec::new(),
            wire_bytes_up: 101_321,
            wire_bytes_down: 2_408,
            cuts: 1,
            resent_events: 23,
            seconds: 40.04,
            wall_seconds: 4.004,
            speed: 10.0,
            profile: "bhutan-2g".into(),
            clinics: vec![clinic("rongtse", 1_000, 70_500, Some(512), 23), clinic("dolpaling", 500, 30_821, None, 0)],
        }
    }

    #[test]
    fn a_passing_run_reads_like_this() {
        let expected = "\
2 clinics over bhutan-2g at 10 times its speed: 40.0 s on the link, 4.0 s here

clinic     events  bytes up  bytes down  bytes/event  seconds  resumed at  resent
rongtse     1,000    70,500       1,204         70.5     31.2         512      23
dolpaling     500    30,821       1,204         61.6     31.2           -       0

1 cut, 23 events sent again, 101,321 bytes up and 2,408 bytes down
PASSED  1,500 events appended, all at the hub: none lost, none twice, none altered, clinics isolated
";
        assert_eq!(report().settle().to_text(false), expected);
    }

    #[test]
    fn a_failing_run_reads_like_this() {
        let mut bad = Report { events_at_hub: 1_488, lost: 12, duplicates: 3, isolated: false, ..report() };
        bad.clinics.truncate(1);
        let expected = "\
1 clinic over bhutan-2g at 10 times its speed: 40.0 s on the link, 4.0 s here

clinic   events  bytes up  bytes down  bytes/event  seconds  resumed at  resent
rongtse   1,000    70,500       1,204         70.5     31.2         512      23

1 cut, 23 events sent again, 101,321 bytes up and 2,408 bytes down
FAILED  1,500 events appended: 12 lost, 3 twice at the hub, a clinic received another clinic's events
";
        assert_eq!(bad.settle().to_text(false), expected);
    }

    #[test]
    fn an_error_is_shown_and_fails_the_run() {
        let failed = Report { errors: vec!["rongtse: R204 wrong key: log\u{1b}7".into()], ..report() }.settle();
        let expected = "FAILED  1,500 events appended: 1 error\n  rongtse: R204 wrong key: log?7\n";
        assert!(failed.to_text(false).ends_with(expected), "{}", failed.to_text(false));
    }

    #[test]
    fn json_is_one_line_with_all_fields() {
        let json = report().settle().to_json().unwrap();
        assert!(!json.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["verdict"], "pass");
        assert_eq!(value["clinics"][0]["resumed_at"], 512);
        assert!(value["clinics"][1]["resumed_at"].is_null());
        assert_eq!(value["wire_bytes_up"], 101_321);
    }

    #[test]
    fn nothing_at_all_is_no_success() {
        let nothing = Report { events_appended: 0, events_at_hub: 0, ..report() };
        assert_eq!(nothing.settle().verdict, Verdict::Failed);
        let too_many = Report { events_at_hub: 1_501, ..report() };
        assert_eq!(too_many.findings(), ["1,501 events at the hub"]);
    }

    #[test]
    fn colours_only_wrap_the_text() {
        let report = report().settle();
        assert!(report.to_text(true).contains("\x1b["));
        assert_eq!(anstream::adapter::strip_str(&report.to_text(true)).to_string(), report.to_text(false));
    }
}
