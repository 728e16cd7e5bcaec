//! Ropeway as a program: the command line, and the node on real sockets and files.
#![forbid(unsafe_code)]

pub mod cli;
pub mod daemon;
pub mod demo;
