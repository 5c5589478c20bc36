//! The logging flags of Kubernetes' daemons, under their names, for the commands that take the place of one.

use clap::{Args, ValueEnum};

use crate::flags::{LogFlags, LogFormat, LogLevel};

/// The verbosity from which klog users expect to see requests.
const DEBUG_VERBOSITY: i32 = 4;

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(crate) struct KlogFlags {
    /// Verbosity: 0 to 3 log what matters, 4 and more every request
    #[arg(long = "v", short = 'v', value_name = "LEVEL", default_value_t = 0, env = "SEXTANT_V")]
    pub(crate) verbosity: i32,
    /// Layout of log lines; text on a terminal, JSON otherwise, unless given
    #[arg(long, value_name = "FORMAT", value_enum, env = "SEXTANT_LOGGING_FORMAT")]
    pub(crate) logging_format: Option<LoggingFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoggingFormat {
    /// One line for people
    Text,
    /// One JSON object a line
    Json,
}

impl KlogFlags {
    /// What they ask of our own logging.
    pub(crate) fn log_flags(&self) -> LogFlags {
        let level =
            if self.verbosity >= DEBUG_VERBOSITY { LogLevel::Debug } else { LogLevel::Info };
        let format = self.logging_format.map(|format| match format {
            LoggingFormat::Text => LogFormat::Text,
            LoggingFormat::Json => LogFormat::Json,
        });
        LogFlags { level, format }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_logged_from_verbosity_4_on() {
        for (verbosity, level) in
            [(-1, LogLevel::Info), (3, LogLevel::Info), (4, LogLevel::Debug), (10, LogLevel::Debug)]
        {
            let flags = KlogFlags { verbosity, logging_format: Some(LoggingFormat::Json) };
            let asked = flags.log_flags();
            assert_eq!((asked.level, asked.format), (level, Some(LogFormat::Json)), "{verbosity}");
        }
        let flags = KlogFlags { verbosity: 0, logging_format: None };
        assert_eq!(flags.log_flags().format, None);
    }
}
