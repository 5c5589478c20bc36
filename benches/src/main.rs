//! `load`: targets to scrape, servers measured while they scrape them, and the store measured beside Prometheus's.
//!
//! `load serve` is the generator alone, for any server; `load compare` runs the generator and two servers in turn, and prints what
//! each cost. The other subcommands measure one figure of the store each. What is measured and how is in `RESULTS.md`.

mod append;
mod blocks;
mod cluster;
mod compare;
mod connection;
mod engine;
mod fleet;
mod hpa;
mod memory;
mod metrics_server;
mod peer;
mod population;
mod process;
mod profile;
mod queries;
mod remote_write;
mod restart;
mod selectors;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Gives memory back that is free for a moment, which the system's allocator rarely does: a head whose chunks are full has no use for
/// two thirds of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "load", about = "Servers and stores measured side by side")]
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
    /// Resident memory per series and log bytes per sample
    Memory(memory::Flags),
    /// CPU time per appended sample
    Append(append::Flags),
    /// From a kill to the right answer
    Restart(restart::Flags),
    /// From a full head to a block
    Cut(restart::CutFlags),
    /// Finding the series of a selector
    Select(selectors::Flags),
    /// Bytes per sample in blocks
    Blocks(blocks::Flags),
    /// Queries and expressions
    Queries(queries::Flags),
    /// Asking the kubelets of a cluster, and listing what they said
    MetricsServer(metrics_server::Flags),
    /// One round of many autoscalers
    Hpa(hpa::rounds::Flags),
    /// From a step of the load to the replicas that it takes
    HpaLatency(hpa::latency::Flags),
    /// Our store in a process of its own, for the others
    #[command(hide = true)]
    Engine(engine::Flags),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Compare(flags) => compare::run(&flags),
        Command::Memory(flags) => memory::run(&flags),
        Command::Append(flags) => append::run(&flags),
        Command::Restart(flags) => restart::run(&flags),
        Command::Cut(flags) => restart::run_cut(&flags),
        Command::Select(flags) => selectors::run(&flags),
        Command::Blocks(flags) => blocks::run(&flags),
        Command::Queries(flags) => queries::run(&flags),
        Command::MetricsServer(flags) => metrics_server::run(&flags),
        Command::Hpa(flags) => hpa::rounds::run(&flags),
        Command::HpaLatency(flags) => hpa::latency::run(&flags),
        Command::Engine(flags) => engine::run(&flags),
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
