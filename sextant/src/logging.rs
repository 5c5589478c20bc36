//! Log lines on stderr: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use crate::flags::{LogFlags, LogFormat, LogLevel};

/// Sends the events of this process to stderr from now on.
pub(crate) fn start(flags: &LogFlags) {
    let terminal = std::io::stderr().is_terminal();
    let level = match flags.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let format = flags.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(terminal).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
