//! Log lines on stderr: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::flags::{LogFlags, LogFormat, LogLevel};

/// Where the Kubernetes client library tells of every answer that is an error. Whoever asked tells of it too, with what was asked for and
/// what becomes of it, where it is worth telling.
const REPEATED: &str = "kube_client::client::builder";

/// Sends the events of this process to stderr from now on.
pub(crate) fn start(flags: &LogFlags) {
    let terminal = std::io::stderr().is_terminal();
    let format = flags.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(filter(flags.level));
    match format {
        LogFormat::Text => subscriber.with(lines.with_ansi(terminal)).init(),
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true)).init(),
    }
}

/// What is told.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let all = Targets::new().with_default(level);
    if level == LevelFilter::DEBUG { all } else { all.with_target(REPEATED, LevelFilter::OFF) }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_the_client_library_repeats_is_told_only_to_those_who_look_closely() {
        for (level, told) in
            [(LogLevel::Info, false), (LogLevel::Error, false), (LogLevel::Debug, true)]
        {
            let filter = filter(level);
            assert_eq!(filter.would_enable(REPEATED, &Level::ERROR), told, "{level:?}");
            // Nothing else of it is hidden, nor anything of ours.
            assert!(filter.would_enable("kube_client::client::tls", &Level::ERROR));
            assert!(filter.would_enable("hpa_controller::controller::reconcile", &Level::ERROR));
        }
        assert!(filter(LogLevel::Info).would_enable("kube_client::client", &Level::WARN));
        assert!(!filter(LogLevel::Info).would_enable("hpa_controller::controller", &Level::DEBUG));
    }
}
