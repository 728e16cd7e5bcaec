//! Everything the command prints: results on standard output, remarks and errors on standard error.
//!
//! With `--json` standard output carries nothing but JSON, errors too, so that a program reads one
//! stream. Colours appear on terminals only (`NO_COLOR` and `CLICOLOR_FORCE` are honoured).

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use ropeway_core::code::Code;
use ropeway_std::Error;
use serde::Serialize;

use super::args::GlobalArgs;
use super::error::{CliError, Result};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Bytes that [`Output::row`] and [`Output::bytes`] gather before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where a verb prints.
pub struct Output {
    json: bool,
    quiet: bool,
    colour: bool,
    /// Someone watches: rows are shown at once.
    live: bool,
    results: BufWriter<Box<dyn Write + Send>>,
    remarks: Box<dyn Write + Send>,
}

impl Output {
    /// Standard output and standard error.
    #[must_use]
    pub fn standard(global: &GlobalArgs) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let colour = AutoStream::choice(&stdout) != ColorChoice::Never;
        let live = stdout.is_terminal();
        Self { live, ..Self::to(global.json, global.quiet, colour, stdout, AutoStream::auto(stderr)) }
    }

    /// Writers of the caller's; `colour` is what [`Output::colour`] answers.
    #[must_use]
    pub fn to(
        json: bool,
        quiet: bool,
        colour: bool,
        results: impl Write + Send + 'static,
        remarks: impl Write + Send + 'static,
    ) -> Self {
        let results = BufWriter::with_capacity(BUFFER_BYTES, Box::new(results) as Box<dyn Write + Send>);
        Self { json, quiet, colour, live: false, results, remarks: Box::new(remarks) }
    }

    /// Whether `--json` was given.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether `--quiet` was given.
    #[must_use]
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether results may hold colours.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// A line of the result, for people: nothing with `--json`. Seen at once.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`]; [`Code::Io`] or [`Code::DiskFull`].
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        if self.json {
            return Ok(());
        }
        self.write(|out| writeln!(out, "{text}"))?;
        self.flush()
    }

    /// As [`Output::line`], for what can be left out: nothing with `--quiet`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn say(&mut self, text: impl Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// The result as one JSON object on a line: nothing without `--json`. Seen at once.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn object(&mut self, value: &impl Serialize) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        self.row(value)?;
        self.flush()
    }

    /// One row of many (NDJSON), with or without `--json`. Held back for company unless a person
    /// watches; [`Output::flush`] writes it.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn row(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::new(Code::Io, "making JSON").with_source(e))?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Bytes as they are, held back as [`Output::row`].
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(|out| out.write_all(bytes))?;
        if self.live { self.flush() } else { Ok(()) }
    }

    /// Writes what is held back.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<()> {
        self.write(|out| out.flush())
    }

    /// A remark on standard error; nothing with `--quiet` or `--json`.
    pub fn note(&mut self, text: impl Display) {
        if !self.quiet && !self.json {
            self.remark(format_args!("{}\n", Printable(&text)));
        }
    }

    /// A warning on standard error, always.
    pub fn warn(&mut self, text: impl Display) {
        self.remark(format_args!("{WARNING}warning:{WARNING:#} {}\n", Printable(&text)));
    }

    /// Shows an error: on standard error for people, as an object on standard output with `--json`.
    pub fn error(&mut self, error: &CliError) {
        let CliError::Fault(error) = error else { return };
        let (code, message) = (error.code, message(error));
        // Rows that were printed before it stay before it. Where even this cannot be printed, the
        // exit code still tells.
        if self.json {
            let _ = self.row(&ErrorObject::new(code, &message));
            let _ = self.results.flush();
        } else {
            let _ = self.results.flush();
            self.remark(format_args!(
                "{ERROR}error:{ERROR:#} {code}: {}\n  {HINT}hint:{HINT:#} {}\n",
                Printable(&message),
                code.hint()
            ));
        }
    }

    fn remark(&mut self, text: fmt::Arguments<'_>) {
        // A closed standard error must not stop the work.
        let _ = self.remarks.write_fmt(text);
        let _ = self.remarks.flush();
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>) -> Result<()> {
        write(&mut self.results).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => Error::io("writing to standard output", e).into(),
        })
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("json", &self.json).field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

/// What the error is about and its cause; what the code says if there is nothing more exact.
pub(super) fn message(error: &Error) -> String {
    match (&error.context, &error.source) {
        (context, Some(source)) if context.is_empty() => source.to_string(),
        (context, Some(source)) => format!("{context}: {source}"),
        (context, None) if context.is_empty() => error.code.says().to_owned(),
        (context, None) => context.clone(),
    }
}

/// An error as programs read it: `{"error":{"code":"R204","name":...,"message":...,"hint":...}}`.
#[derive(Serialize)]
pub(super) struct ErrorObject<'a> {
    error: ErrorFields<'a>,
}

/// The inside of an [`ErrorObject`], for results that hold an error.
#[derive(Serialize)]
pub(super) struct ErrorFields<'a> {
    code: String,
    name: &'a str,
    message: &'a str,
    hint: &'a str,
}

impl<'a> ErrorObject<'a> {
    pub(super) fn new(code: Code, message: &'a str) -> Self {
        Self { error: ErrorFields::new(code, message) }
    }
}

impl<'a> ErrorFields<'a> {
    pub(super) fn new(code: Code, message: &'a str) -> Self {
        let number = format!("R{}", code.as_u16());
        Self { code: number, name: code.name(), message, hint: code.hint() }
    }
}

/// Text without what could move a terminal's cursor: file names and peers' words end up in messages.
struct Printable<T>(T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '\n' => f.write_str("\n")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            anstream::adapter::strip_str(&String::from_utf8(self.0.lock().unwrap().clone()).unwrap()).to_string()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn print_all(json: bool, quiet: bool) -> (String, String) {
        let (results, remarks) = (Page::default(), Page::default());
        let mut out = Output::to(json, quiet, false, results.clone(), remarks.clone());
        out.line("line").unwrap();
        out.say("say").unwrap();
        out.object(&[1]).unwrap();
        out.note("note");
        out.warn("warn");
        (results.text(), remarks.text())
    }

    #[test]
    fn each_kind_of_message_has_its_place() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(print_all(false, false), pair("line\nsay\n", "note\nwarning: warn\n"));
        assert_eq!(print_all(false, true), pair("line\n", "warning: warn\n"));
        assert_eq!(print_all(true, false), pair("[1]\n", "warning: warn\n"));
    }

    #[test]
    fn an_error_goes_to_one_stream_only() {
        let (results, remarks) = (Page::default(), Page::default());
        let error = CliError::new(Code::WrongKey, "log \u{1b}[2J7");
        Output::to(false, true, false, results.clone(), remarks.clone()).error(&error);
        let expected = "error: R204 wrong key: log \\u{1b}[2J7\n  hint: Put the right keys/log.key back: the one that keygen or the last rekey made for this directory; or give the right passphrase.\n";
        assert_eq!((results.text().as_str(), remarks.text().as_str()), ("", expected));

        let (results, remarks) = (Page::default(), Page::default());
        let mut out = Output::to(true, false, false, results.clone(), remarks.clone());
        out.row(&1).unwrap();
        out.error(&Code::Cut.into());
        let expected = concat!(
            "1\n",
            r#"{"error":{"code":"R502","name":"link cut","message":"The connection ended before the work was done.","#,
            r#""hint":"Sync again: it goes on where it was acknowledged."}}"#,
            "\n"
        );
        assert_eq!((results.text().as_str(), remarks.text().as_str()), (expected, ""));
    }

    #[test]
    fn rows_wait_for_a_flush_and_none_is_lost() {
        let page = Page::default();
        let mut out = Output::to(false, false, false, page.clone(), io::sink());
        out.row(&1).unwrap();
        out.bytes(b"raw\n").unwrap();
        assert_eq!(page.text(), "");
        out.flush().unwrap();
        assert_eq!(page.text(), "1\nraw\n");
    }

    #[test]
    fn a_reader_who_left_is_no_error_and_a_full_disk_is() {
        let mut out = Output::to(false, false, false, Broken(io::ErrorKind::BrokenPipe), io::sink());
        assert!(matches!(out.line("x"), Err(CliError::OutputClosed)));
        let mut out = Output::to(false, false, false, Broken(io::ErrorKind::StorageFull), io::sink());
        assert_eq!(out.line("x").unwrap_err().code(), Some(Code::DiskFull));
    }
}
