//! The `ropeway` command; everything is in [`ropeway_mio::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ropeway_mio::cli::{self, Output, args};

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => return usage.show(),
    };
    let mut out = Output::standard(&cli.global);
    let result = cli::dispatch(&cli, &mut out);
    cli::finish(result, &mut out).into()
}
