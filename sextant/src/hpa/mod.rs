//! `sextant hpa`: looks into decisions of autoscalers, made and to be made.

mod explain;
mod live;
mod local_history;
mod prometheus;
mod replay;
mod settings;
mod simulate;
mod steer;
mod trial;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use explain::ExplainFlags;
use replay::ReplayFlags;
use simulate::SimulateFlags;
use steer::SteerFlags;

pub(crate) use settings::SettingsFlags;

/// `sextant hpa`
#[derive(Debug, Args)]
pub(crate) struct HpaFlags {
    #[command(subcommand)]
    command: HpaCommand,
}

#[derive(Debug, Subcommand)]
enum HpaCommand {
    /// Say what an autoscaler decides and why: one of a cluster, or one saved to files
    #[command(after_long_help = explain::EXAMPLES)]
    Explain(Box<ExplainFlags>),
    /// Say what autoscalers would have done on recorded metrics, side by side
    #[command(after_long_help = replay::EXAMPLES)]
    Replay(Box<ReplayFlags>),
    /// Say what autoscalers would do on a load that is made up
    #[command(after_long_help = simulate::EXAMPLES)]
    Simulate(Box<SimulateFlags>),
    /// Print what an autoscaler becomes where the cluster's own controller cannot be turned off and is to follow ours
    #[command(after_long_help = steer::EXAMPLES)]
    Steer(SteerFlags),
}

/// Runs a tool.
pub(crate) fn run(flags: &HpaFlags) -> anyhow::Result<ExitCode> {
    let text = match &flags.command {
        HpaCommand::Explain(flags) => explain::run(flags)?,
        HpaCommand::Replay(flags) => replay::run(flags)?,
        HpaCommand::Simulate(flags) => simulate::run(flags)?,
        HpaCommand::Steer(flags) => steer::run(flags)?,
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
