//! What `append_load` says about each batch.

use std::fmt;
use std::str::FromStr;

/// One line of the report. A line is written with a single `write`, after what it tells has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The store is open.
    Open,
    /// All samples of a batch were acknowledged.
    Acknowledged {
        /// Whose batch.
        thread: u32,
        /// Which of its batches.
        step: i64,
    },
    /// The store refused a batch as a whole, but answered a query at that moment.
    Refused {
        /// Whose batch.
        thread: u32,
        /// Which of its batches.
        step: i64,
        /// Why.
        reason: String,
    },
    /// Something else failed: a sync, a round of maintenance.
    Failed(String),
    /// The load has come to its end and the store is closed.
    Done,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Acknowledged { thread, step } => write!(f, "ack {thread} {step}"),
            Self::Refused { thread, step, reason } => {
                write!(f, "refused {thread} {step} {}", one_line(reason))
            }
            Self::Failed(reason) => write!(f, "failed {}", one_line(reason)),
            Self::Done => f.write_str("done"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut words = rest.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
        let line = match kind {
            "open" => Some(Self::Open),
            "failed" => Some(Self::Failed(String::from(rest))),
            "done" => Some(Self::Done),
            "ack" | "refused" => number().zip(number()).and_then(|(thread, step)| {
                let thread = u32::try_from(thread).ok()?;
                let reason = words.next().unwrap_or_default().to_owned();
                Some(match kind {
                    "ack" => Self::Acknowledged { thread, step },
                    _ => Self::Refused { thread, step, reason },
                })
            }),
            _ => None,
        };
        line.ok_or_else(|| format!("not a line of the report: {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back() {
        for line in [
            Line::Open,
            Line::Acknowledged { thread: 3, step: 12 },
            Line::Refused { thread: 0, step: 1, reason: String::from("no space left") },
            Line::Failed(String::from("cannot sync: x")),
            Line::Done,
        ] {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        for wrong in ["", "ack", "ack 1", "ack x 1", "acknowledged 1 1"] {
            assert!(wrong.parse::<Line>().is_err(), "{wrong}");
        }
    }
}
