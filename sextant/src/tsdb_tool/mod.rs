//! `sextant tsdb`: looking at a data directory and writing blocks into one, without a server.
//!
//! Where promtool has the command, flags and output are its own. Nothing here takes the lock of the directory, so all of it
//! works beside a running server.

mod analyze;
mod dump;
mod format;
mod import;
mod list;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use model::{Labels, Timestamp};
use tsdb::{Disk, OsDisk};

use crate::flags::{LogFlags, LogFormat, LogLevel};
use crate::logging;

/// `sextant tsdb`
#[derive(Debug, Args)]
pub(crate) struct TsdbFlags {
    #[command(subcommand)]
    command: TsdbCommand,
}

#[derive(Debug, Subcommand)]
enum TsdbCommand {
    /// List blocks: their times, samples, chunks, series and bytes
    List(ListFlags),
    /// Show which labels and metrics fill a block, and which come and go
    Analyze(AnalyzeFlags),
    /// Print the samples of a store, blocks and write-ahead log together
    Dump(DumpFlags),
    /// Read everything in a store and list what is damaged; exit code 1 if anything is
    Verify(VerifyFlags),
    /// Write blocks from an OpenMetrics text with timestamps. A running server reads them within two minutes, later if its
    /// head has samples of that time in memory
    Import(ImportFlags),
    /// The same under promtool's name
    #[command(subcommand, hide = true)]
    CreateBlocksFrom(CreateBlocksFrom),
}

#[derive(Debug, Subcommand)]
enum CreateBlocksFrom {
    /// Write blocks from an OpenMetrics text with timestamps
    Openmetrics(ImportFlags),
}

/// The data directory as an argument.
#[derive(Debug, Args)]
struct Directory {
    /// Data directory
    #[arg(value_name = "DIR", default_value = "data")]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct ListFlags {
    /// Print times and sizes for people
    #[arg(short = 'r', long = "human-readable")]
    human_readable: bool,
    #[command(flatten)]
    directory: Directory,
}

#[derive(Debug, Args)]
struct AnalyzeFlags {
    /// Lines of each list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Look only at series that this selector selects
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
    #[command(flatten)]
    directory: Directory,
    /// Block to analyze; the newest if not given
    #[arg(value_name = "BLOCK")]
    block: Option<String>,
}

#[derive(Debug, Args)]
struct DumpFlags {
    /// First time to print, in milliseconds since 1970
    #[arg(long, value_name = "MS", default_value_t = i64::MIN, hide_default_value = true, allow_negative_numbers = true)]
    min_time: Timestamp,
    /// Last time to print
    #[arg(long, value_name = "MS", default_value_t = i64::MAX, hide_default_value = true, allow_negative_numbers = true)]
    max_time: Timestamp,
    /// Print only series that this selector selects; may be repeated
    #[arg(long = "match", value_name = "SELECTOR")]
    selectors: Vec<String>,
    #[command(flatten)]
    directory: Directory,
}

#[derive(Debug, Args)]
struct VerifyFlags {
    #[command(flatten)]
    directory: Directory,
}

#[derive(Debug, Args)]
struct ImportFlags {
    /// Print times and sizes for people
    #[arg(short = 'r', long = "human-readable")]
    human_readable: bool,
    /// Do not print the blocks
    #[arg(short = 'q', long)]
    quiet: bool,
    /// A label that every series gets; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// OpenMetrics text, `-` for the standard input. Every sample needs a timestamp, the text an `# EOF`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    directory: Directory,
}

fn label(text: &str) -> Result<(String, String), BadLabel> {
    let (name, value) = text.split_once('=').ok_or(BadLabel::Form)?;
    Labels::from_pairs([(name, value)]).map_err(|_| BadLabel::Name)?;
    Ok((String::from(name), String::from(value)))
}

#[derive(Debug, thiserror::Error)]
enum BadLabel {
    #[error("expected NAME=VALUE")]
    Form,
    #[error("not a label name")]
    Name,
}

/// What all of them work with.
struct Tool<'a> {
    disk: Arc<dyn Disk>,
    out: &'a mut dyn Write,
}

/// Runs one of them. The exit code is 1 if what was asked for is done and the store is not whole.
pub(crate) fn run(flags: &TsdbFlags) -> anyhow::Result<ExitCode> {
    logging::start(&LogFlags { level: LogLevel::Warn, format: Some(LogFormat::Text) });
    let mut out = BufWriter::new(io::stdout().lock());
    let mut tool = Tool { disk: Arc::new(OsDisk), out: &mut out };
    let done = match &flags.command {
        TsdbCommand::List(flags) => list::run(&mut tool, flags),
        TsdbCommand::Analyze(flags) => analyze::run(&mut tool, flags),
        TsdbCommand::Dump(flags) => dump::run(&mut tool, flags),
        TsdbCommand::Verify(flags) => verify::run(&mut tool, flags),
        TsdbCommand::Import(flags)
        | TsdbCommand::CreateBlocksFrom(CreateBlocksFrom::Openmetrics(flags)) => {
            import::run(&mut tool, flags)
        }
    };
    let done = done.and_then(|whole| Ok(out.flush().map(|()| whole)?));
    match done {
        Ok(whole) => Ok(ExitCode::from(u8::from(!whole))),
        // Whoever read our output has enough of it.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says on stderr what the output leaves out.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
