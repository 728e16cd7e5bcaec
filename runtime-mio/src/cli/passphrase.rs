//! Asking for the passphrase of a directory: from the environment, from a file, from a terminal.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_std::dir::{read_bounded, read_secret};
use ropeway_std::keyring::Passphrase;
use ropeway_std::{DataDir, Error, IoContext, Result};
use zeroize::Zeroizing;

/// Longest file with a passphrase.
const FILE_MAX_BYTES: usize = 2048;
/// Holds the passphrase itself. Other processes of the same user can see it.
const VARIABLE: &str = "ROPEWAY_PASSPHRASE";
/// Names a file that holds it; `/dev/fd/3` is an open file descriptor.
const FILE_VARIABLE: &str = "ROPEWAY_PASSPHRASE_FILE";
const NEW_VARIABLE: &str = "ROPEWAY_NEW_PASSPHRASE";
const NEW_FILE_VARIABLE: &str = "ROPEWAY_NEW_PASSPHRASE_FILE";

/// The directory of a verb, which asks for its passphrase if it has one.
pub(super) fn data_dir(path: &Path) -> DataDir {
    DataDir::new(path).with_passphrase(Arc::new(|dir: &DataDir| {
        from_environment(VARIABLE, FILE_VARIABLE)
            .unwrap_or_else(|| prompt(&format!("passphrase of {}: ", dir.root().display()), FILE_VARIABLE))
    }))
}

/// A new passphrase, typed twice if it is typed.
pub(super) fn new_passphrase() -> Result<Passphrase> {
    from_environment(NEW_VARIABLE, NEW_FILE_VARIABLE).unwrap_or_else(|| {
        let first = prompt("new passphrase: ", NEW_FILE_VARIABLE)?;
        if prompt("the same again: ", NEW_FILE_VARIABLE)? == first {
            Ok(first)
        } else {
            Err(Error::new(Code::BadArgument, "the two passphrases differ; nothing was changed"))
        }
    })
}

fn from_environment(variable: &str, file_variable: &str) -> Option<Result<Passphrase>> {
    if let Some(text) = std::env::var_os(variable) {
        let text = text.into_string().map_err(|_| Error::new(Code::BadArgument, format!("{variable} is not UTF-8")));
        return Some(text.map(|t| Passphrase::new(Zeroizing::new(t))));
    }
    std::env::var_os(file_variable).map(|path| from_file(&PathBuf::from(path)))
}

fn from_file(path: &Path) -> Result<Passphrase> {
    let kind = std::fs::metadata(path).at("reading", path)?;
    let bytes = if kind.is_file() {
        read_secret(path, FILE_MAX_BYTES)?
    } else {
        // A pipe has no permissions that could be too wide.
        Zeroizing::new(read_bounded(path, FILE_MAX_BYTES)?)
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::at(Code::BadArgument, path, "it is not UTF-8"))?;
    Ok(Passphrase::new(Zeroizing::new(text.to_owned())))
}

fn prompt(text: &str, file_variable: &str) -> Result<Passphrase> {
    let none = || {
        let what = format!("a passphrase is needed and there is no terminal to ask on; name a file in {file_variable}");
        Error::new(Code::KeyMissing, what)
    };
    if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
        return Err(none());
    }
    let typed = rpassword::prompt_password(text).map_err(|e| none().with_source(e))?;
    Ok(Passphrase::new(Zeroizing::new(typed)))
}
