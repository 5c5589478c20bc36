//! `load`: targets to scrape, and servers measured while they scrape them.
//!
//! `load serve` is the generator alone, for any server; `load compare` runs the generator and two servers in turn, and prints what
//! each cost. What is measured and how is in `RESULTS.md`.

mod compare;
mod process;
mod profile;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "load", about = "Targets to scrape, and servers measured while they scrape them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve targets until interrupted
    Serve(serve::Flags),
    /// Measure two servers, one after the other, on the same load
    Compare(compare::Flags),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Compare(flags) => compare::run(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
