//! The one binary: with no subcommand everything that makes sense on this machine, otherwise one daemon or tool.
//!
//! `main` parses, runs, and turns an error into one line on stderr and an exit code; nothing else exits.

mod all_in_one;
mod collectors;
mod descriptors;
mod features;
mod flags;
mod go_values;
mod hpa;
mod hpa_controller;
mod ignored_flags;
mod klog;
mod kubeconfig;
mod kubernetes;
mod logging;
mod metrics_server;
mod progress;
mod serve;
mod signals;
mod storage_flags;
mod top;
mod tsdb_tool;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::flags::{Cli, Command};

/// Gives memory back that is free for a moment, which the system's allocator rarely does: a head whose chunks are full has no use for
/// two thirds of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages. A server whose heap is small then holds twice the memory, and clearing two megabytes to write a few
    // kilobytes costs more than it saves: docs/decisions/0002. Where the kernel cannot be told so, nothing is lost but that.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let matches = Cli::command().get_matches();
    let result = Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(|cli| {
        match &cli.command {
            Some(Command::Server(server)) => {
                let given = matches.subcommand().map_or(&matches, |(_, matches)| matches);
                serve::server(server, flags::values("server", given)).map(|()| ExitCode::SUCCESS)
            }
            Some(Command::MetricsServer(flags)) => {
                metrics_server::run(flags).map(|()| ExitCode::SUCCESS)
            }
            Some(Command::Top(flags)) => top::run(flags).map(|()| ExitCode::SUCCESS),
            Some(Command::HpaController(flags)) => {
                hpa_controller::run(flags).map(|()| ExitCode::SUCCESS)
            }
            Some(Command::Hpa(flags)) => hpa::run(flags),
            Some(Command::Tsdb(tsdb)) => tsdb_tool::run(tsdb),
            None => {
                all_in_one::run(&cli.here, flags::values("", &matches)).map(|()| ExitCode::SUCCESS)
            }
        }
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            // The one place for it: whatever went wrong, its causes on one line.
            let _ = writeln!(std::io::stderr(), "sextant: {error:#}");
            ExitCode::FAILURE
        }
    }
}
