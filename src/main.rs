//! The program `dske`: a hub, a client, and the tools around them, in one binary.
//!
//! It holds the command line only. What a node does is in `dske-node`; what it computes, in `dske-protocol`.

mod bench;
mod cli;
mod demo;
mod experiment;
mod testnet;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
