//! Reads a script into commands.
//!
//! Lines are trimmed. A comment line counts as blank, and a blank line ends a block. Queries are kept as
//! text: one that does not parse fails its own evaluation, not the script.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use model::{Labels, Timestamp, parse_duration};
use promql::ast::Expr;
use promql::parse::{ParseOptions, parse};
use regex::Regex;

use super::series::{SeriesLine, parse_start_times};

/// A script: commands to be executed in order.
#[derive(Clone, Debug)]
pub struct Script {
    /// The commands.
    pub commands: Vec<Command>,
}

/// One command.
#[derive(Clone, Debug)]
pub enum Command {
    /// Forget all samples.
    Clear,
    /// Store samples.
    Load(Load),
    /// Ask, and compare the answer.
    Eval(Eval),
}

/// `load <step>` with its series.
#[derive(Clone, Debug)]
pub struct Load {
    /// Line of the command, from 1.
    pub line: usize,
    /// Time between points; the first is at 0.
    pub step: Duration,
    /// Whether classic histograms are also to be stored as native ones.
    pub with_nhcb: bool,
    /// What to store.
    pub series: Vec<SeriesLine>,
}

/// `eval instant …` or `eval range …` with what is expected.
#[derive(Clone, Debug)]
pub struct Eval {
    /// Line of the command, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// For which times.
    pub when: When,
    /// Whether the order of the result counts.
    pub ordered: bool,
    /// The error, if one is expected.
    pub fail: Option<TextPattern>,
    /// Warnings.
    pub warnings: Annotations,
    /// Informational annotations.
    pub infos: Annotations,
    /// The value.
    pub expected: Expected,
}

/// The times of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// One.
    Instant(Timestamp),
    /// A sequence.
    Range(Grid),
}

/// Equidistant times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first.
    pub start: Timestamp,
    /// The bound of the last.
    pub end: Timestamp,
    /// The distance.
    pub step: Duration,
}

/// What a message must be like.
#[derive(Clone, Debug)]
pub enum TextPattern {
    /// Anything.
    Any,
    /// Exactly this.
    Exact(String),
    /// To contain a match.
    Matching(Regex),
}

impl TextPattern {
    /// Whether `text` is as wanted.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => wanted == text,
            Self::Matching(regex) => regex.is_match(text),
        }
    }
}

/// What is expected of the annotations of one kind.
#[derive(Clone, Debug)]
pub enum Annotations {
    /// Nothing.
    Unchecked,
    /// That there are none.
    Absent,
    /// That each pattern accepts one, and each is accepted by a pattern.
    Like(Vec<TextPattern>),
}

/// The value that is expected.
#[derive(Clone, Debug)]
pub enum Expected {
    /// A number.
    Scalar(f64),
    /// A string.
    String(String),
    /// Series, each with one point for an instant and one per step for a range.
    Series(Vec<SeriesLine>),
    /// Series of a range vector, the result of an instant query, with points at these times.
    RangeVector(Grid, Vec<SeriesLine>),
}

/// The forms of a line, as Prometheus defines them.
struct Patterns {
    load: Regex,
    instant: Regex,
    range: Regex,
    expect: Regex,
    expect_range: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant");
    Patterns {
        load: regex(r"^load(?:_(with_nhcb))?\s+(.+?)$"),
        instant: regex(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+at\s+(.+?)\s+(.+)$"),
        range: regex(
            r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$",
        ),
        expect: regex(
            r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$",
        ),
        expect_range: regex(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$"),
    }
});

impl Script {
    /// Parses a script.
    ///
    /// # Errors
    /// Names the line that is malformed, and why.
    pub fn parse(text: &str) -> Result<Self> {
        let trimmed = text.split('\n').map(str::trim);
        let lines: Vec<_> =
            trimmed.map(|line| if line.starts_with('#') { "" } else { line }).collect();
        let mut lines = Lines { lines: &lines, at: 0 };
        let mut commands = Vec::new();
        while let Some(line) = lines.next_command() {
            let number = lines.at;
            let command = lines.command(line);
            // The line that was read last is the one at fault.
            let at = lines.at;
            commands.push(command.with_context(|| match at == number {
                true => format!("line {at}: {line}"),
                false => format!("line {at}, in the block of line {number}: {line}"),
            })?);
        }
        Ok(Self { commands })
    }

    /// How many evaluations there are.
    #[must_use]
    pub fn evals(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Eval(_))).count()
    }
}

/// A position among the lines of a script.
struct Lines<'t> {
    lines: &'t [&'t str],
    /// How many were consumed, which is the number of the last one counted from 1.
    at: usize,
}

impl<'t> Lines<'t> {
    fn next_command(&mut self) -> Option<&'t str> {
        let found = self.lines[self.at..].iter().position(|line| !line.is_empty());
        self.at += found? + 1;
        Some(self.lines[self.at - 1])
    }

    /// The next line of the same block.
    fn next_in_block(&mut self) -> Option<&'t str> {
        let line = self.lines.get(self.at).filter(|line| !line.is_empty())?;
        self.at += 1;
        Some(line)
    }

    fn command(&mut self, line: &str) -> Result<Command> {
        let word = line.split([' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        match word.as_str() {
            "clear" => Ok(Command::Clear),
            word if word.starts_with("load") => self.load(line).map(Command::Load),
            word if word.starts_with("eval") => self.eval(line).map(Command::Eval),
            _ => bail!("unknown command"),
        }
    }

    fn load(&mut self, line: &str) -> Result<Load> {
        let parts =
            PATTERNS.load.captures(line).context("`load[_with_nhcb] <step>` is expected")?;
        let mut load = Load {
            line: self.at,
            step: parse_duration(&parts[2])?,
            with_nhcb: parts.get(1).is_some(),
            series: Vec::new(),
        };
        let mut start_times: Option<(Labels, Vec<Option<i64>>)> = None;
        while let Some(line) = self.next_in_block() {
            if let Some(found) = parse_start_times(line)? {
                ensure!(start_times.is_none(), "start timestamps without samples before");
                start_times = Some(found);
                continue;
            }
            let mut series = SeriesLine::parse(line)?;
            if let Some((labels, offsets)) = start_times.take() {
                ensure!(labels == series.labels, "start timestamps of another series before");
                let count = offsets.len();
                ensure!(count == series.points.len(), "{count} start timestamps before");
                series.start_offsets = offsets;
            }
            replace_or_push(&mut load.series, series);
        }
        ensure!(start_times.is_none(), "start timestamps without samples");
        Ok(load)
    }

    fn eval(&mut self, line: &str) -> Result<Eval> {
        let (kind, when, query) = if let Some(parts) = PATTERNS.instant.captures(line) {
            let t = parse_ms(&parts[2])?;
            (parts.get(1), When::Instant(t), String::from(&parts[3]))
        } else if let Some(parts) = PATTERNS.range.captures(line) {
            let grid = parse_grid(&parts[2], &parts[3], &parts[4])?;
            (parts.get(1), When::Range(grid), String::from(&parts[5]))
        } else {
            bail!("`eval instant at …` or `eval range from … to … step …` is expected");
        };
        let mut eval = Eval {
            line: self.at,
            query,
            when,
            ordered: false,
            fail: None,
            warnings: Annotations::Unchecked,
            infos: Annotations::Unchecked,
            expected: Expected::Series(Vec::new()),
        };
        if let Some(kind) = kind {
            eval.expect(kind.as_str(), TextPattern::Any)?;
        }
        while let Some(line) = self.next_in_block() {
            if !eval.line_of_block(line)? {
                break;
            }
        }
        Ok(eval)
    }
}

impl Eval {
    /// Takes one line of the block; returns whether the block may go on.
    fn line_of_block(&mut self, line: &str) -> Result<bool> {
        if self.fail.is_some() {
            if let Some(message) = line.strip_prefix("expected_fail_message") {
                self.fail = Some(TextPattern::Exact(String::from(message.trim())));
                return Ok(false);
            }
            if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
                self.fail = Some(TextPattern::Matching(Regex::new(pattern.trim())?));
                return Ok(false);
            }
        }
        if line.starts_with("expect range vector") {
            let parts = PATTERNS.expect_range.captures(line);
            let parts = parts.context("`expect range vector from … to … step …` is expected")?;
            let grid = parse_grid(&parts[1], &parts[2], &parts[3])?;
            self.expected = Expected::RangeVector(grid, self.take_series());
        } else if let Some(literal) = line.strip_prefix("expect string") {
            self.expected = Expected::String(parse_string(literal)?);
        } else if line.split(' ').next() == Some("expect") {
            let parts = PATTERNS.expect.captures(line);
            let parts = parts.context("`expect <type> [msg:|regex:] <text>` is expected")?;
            let text = parts.get(3).map_or("", |text| text.as_str().trim());
            let pattern = match parts.get(2).map(|how| how.as_str()) {
                Some("msg") => TextPattern::Exact(String::from(text)),
                Some(_) => TextPattern::Matching(Regex::new(text)?),
                None => TextPattern::Any,
            };
            self.expect_again(&parts[1], pattern)?;
        } else if let Some(number) = parse_number(line) {
            self.expected = Expected::Scalar(number);
            return Ok(false);
        } else {
            self.push_series(SeriesLine::parse(line)?)?;
        }
        Ok(true)
    }

    /// An `expect` line: as [`expect`](Self::expect), but an error is expected once.
    fn expect_again(&mut self, kind: &str, pattern: TextPattern) -> Result<()> {
        let repeated = kind == "fail" && self.fail.is_some();
        ensure!(!repeated, "multiple `expect fail` lines are not allowed");
        self.expect(kind, pattern)
    }

    fn expect(&mut self, kind: &str, pattern: TextPattern) -> Result<()> {
        match kind {
            "ordered" => self.ordered = true,
            "fail" => self.fail = Some(pattern),
            "warn" => self.warnings.expect(pattern)?,
            "info" => self.infos.expect(pattern)?,
            "no_warn" => self.warnings.expect_none()?,
            "no_info" => self.infos.expect_none()?,
            _ => bail!("unknown expectation {kind:?}"),
        }
        Ok(())
    }

    fn take_series(&mut self) -> Vec<SeriesLine> {
        match &mut self.expected {
            Expected::Series(series) | Expected::RangeVector(_, series) => std::mem::take(series),
            Expected::Scalar(_) | Expected::String(_) => Vec::new(),
        }
    }

    fn push_series(&mut self, line: SeriesLine) -> Result<()> {
        let one_point =
            matches!((&self.when, &self.expected), (When::Instant(_), Expected::Series(_)));
        ensure!(!one_point || line.points.len() <= 1, "an instant has one point per series");
        match &mut self.expected {
            Expected::Series(series) | Expected::RangeVector(_, series) => {
                replace_or_push(series, line);
                Ok(())
            }
            Expected::Scalar(_) | Expected::String(_) => bail!("a string has no series"),
        }
    }
}

impl Annotations {
    fn expect(&mut self, pattern: TextPattern) -> Result<()> {
        match self {
            Self::Unchecked => *self = Self::Like(vec![pattern]),
            Self::Like(patterns) => patterns.push(pattern),
            Self::Absent => bail!("annotations cannot be both present and absent"),
        }
        Ok(())
    }

    fn expect_none(&mut self) -> Result<()> {
        ensure!(!matches!(self, Self::Like(_)), "annotations cannot be both present and absent");
        *self = Self::Absent;
        Ok(())
    }
}

/// A series that is written twice is what the later line says.
fn replace_or_push(all: &mut Vec<SeriesLine>, line: SeriesLine) {
    match all.iter_mut().find(|other| other.labels == line.labels) {
        Some(earlier) => *earlier = line,
        None => all.push(line),
    }
}

fn parse_ms(text: &str) -> Result<Timestamp> {
    let duration = parse_duration(text)?;
    Ok(Timestamp::try_from(duration.as_millis())?)
}

fn parse_grid(start: &str, end: &str, step: &str) -> Result<Grid> {
    let grid = Grid { start: parse_ms(start)?, end: parse_ms(end)?, step: parse_duration(step)? };
    ensure!(grid.start <= grid.end, "end {end:?} is before start {start:?}");
    Ok(grid)
}

/// A string literal, which is a query of its own.
fn parse_string(literal: &str) -> Result<String> {
    match parse(literal, &ParseOptions::default())? {
        Expr::String(string) => Ok(string.value),
        _ => bail!("a quoted string is expected"),
    }
}

/// A number on a line of its own.
fn parse_number(text: &str) -> Option<f64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => i64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_eval(text: &str) -> Eval {
        let script = Script::parse(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        match script.commands.as_slice() {
            [Command::Eval(eval)] => eval.clone(),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn check_refused(text: &str, part: &str) {
        let error = Script::parse(text).expect_err(text);
        assert!(format!("{error:#}").contains(part), "{text}: {error:#}");
    }

    #[test]
    fn blocks_end_at_blank_lines_and_comments() {
        let script = Script::parse(
            "# comment\nclear\nload 5m\n  a 1 2\n  b 3\n\n  load_with_nhcb 10s53ms\n\tc 1\n# end\nclear",
        )
        .unwrap();
        match script.commands.as_slice() {
            [Command::Clear, Command::Load(first), Command::Load(second), Command::Clear] => {
                assert_eq!((first.series.len(), first.line, first.with_nhcb), (2, 3, false));
                assert_eq!((second.series.len(), second.line, second.with_nhcb), (1, 7, true));
                assert_eq!(second.step, Duration::from_millis(10_053));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn instants_and_ranges() {
        let eval = only_eval("eval instant at 1m30s sum(a) + 1\n  {} 3");
        assert_eq!((eval.when, eval.query.as_str()), (When::Instant(90_000), "sum(a) + 1"));
        let eval = only_eval("eval range from 0 to 1m step 10s a[1m]\n a 1 2 _ 3\n");
        let grid = Grid { start: 0, end: 60_000, step: Duration::from_secs(10) };
        assert_eq!((eval.when, eval.query.as_str()), (When::Range(grid), "a[1m]"));
        assert!(matches!(eval.expected, Expected::Series(series) if series[0].points.len() == 4));
    }

    #[test]
    fn expectations() {
        let eval = only_eval(
            "eval instant at 0 x\nexpect ordered\nexpect warn msg: a b (1:2)\n\
             expect warn regex: c.\nexpect no_info\n  x 1",
        );
        assert!(eval.ordered && eval.fail.is_none());
        let Annotations::Like(patterns) = &eval.warnings else { panic!("{:?}", eval.warnings) };
        assert!(patterns[0].accepts("a b (1:2)") && !patterns[0].accepts("a b"));
        assert!(patterns[1].accepts("a cd") && !patterns[1].accepts("c"));
        assert!(matches!(eval.infos, Annotations::Absent));

        let eval = only_eval("eval instant at 0 x\n expect fail msg:no");
        assert!(eval.fail.is_some_and(|fail| fail.accepts("no") && !fail.accepts("yes")));
        let eval = only_eval("eval_fail instant at 0 x\n expected_fail_message no way");
        assert!(eval.fail.is_some_and(|fail| fail.accepts("no way") && !fail.accepts("yes")));
        let eval = only_eval("eval_fail instant at 0 x");
        assert!(eval.fail.is_some_and(|fail| fail.accepts("anything")));
        let eval = only_eval("eval_ordered instant at 0 x\n");
        assert!(eval.ordered);
    }

    #[test]
    fn values() {
        let eval = only_eval("eval instant at 0 1\n -1.5e3");
        assert!(matches!(eval.expected, Expected::Scalar(v) if v == -1500.0));
        let eval = only_eval("eval instant at 0 1\n 0x1f");
        assert!(matches!(eval.expected, Expected::Scalar(v) if v == 31.0));
        let eval = only_eval("eval instant at 0 \"x\"\n expect string `a\"b`");
        assert!(matches!(eval.expected, Expected::String(s) if s == "a\"b"));
        let eval = only_eval(
            "eval instant at 1m a[1m]\n expect range vector from 10s to 1m step 10s\n a 1 2 3",
        );
        let Expected::RangeVector(grid, series) = eval.expected else { panic!("a range vector") };
        assert_eq!((grid.start, grid.end, series.len()), (10_000, 60_000, 1));
    }

    #[test]
    fn malformed_scripts_are_refused_with_their_line() {
        check_refused("clear\n\nnonsense", "line 3");
        check_refused("load 5x\n a 1", "line 1");
        check_refused("load 5m\n a 1\n b 1 y", "line 3, in the block of line 1");
        check_refused("eval instant 5m a", "eval instant at");
        check_refused("eval range from 5m to 1m step 1m a", "before start");
        check_refused("eval instant at 0 a\n a 1 2", "one point");
        check_refused("eval instant at 0 a\n expect warn\n expect no_warn", "both");
        check_refused("eval instant at 0 a\n expect fail\n expect fail", "multiple");
        check_refused("eval instant at 0 a\n expect nonsense", "expect <type>");
        check_refused("load 1m\n a@st -1m\n b 1", "another series");
        check_refused("load 1m\n a@st -1mx2\n a 1", "3 start timestamps");
        check_refused("load 1m\n a@st -1m", "without samples");
    }
}
