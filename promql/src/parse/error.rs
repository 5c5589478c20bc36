//! Why a text is not a query, and where.
//!
//! Every message reads as Prometheus's does, except for the bounds that Prometheus does not have.

use std::fmt;

use crate::ast::{AggregateOp, BinaryOp, Span, ValueType};
use crate::quote::{code_point, quoted, quoted_char};

/// A place in a query text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in bytes.
    pub column: usize,
}

impl Position {
    /// The position of byte `offset` of `query`; an offset beyond the end counts as the end.
    #[must_use]
    pub fn of(query: &str, offset: usize) -> Self {
        let before = &query.as_bytes()[..offset.min(query.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        Self { line, column: before.len() - line_start + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One fault of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes of the query that it is about.
    pub span: Span,
    /// Where the span starts; `None` when the query is empty.
    pub position: Option<Position>,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

impl ParseError {
    pub(super) fn new(query: &str, span: Span, kind: ParseErrorKind) -> Self {
        let position = (!query.is_empty()).then(|| Position::of(query, span.start));
        Self { span, position, kind }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            _ if self.kind == ParseErrorKind::EmptyMatch => self.kind.fmt(f),
            Some(position) => write!(f, "{position}: parse error: {}", self.kind),
            None => write!(f, "unknown position: parse error: {}", self.kind),
        }
    }
}

impl std::error::Error for ParseError {}

/// All faults found in a query: the first syntax error, or every type error. Never empty.
///
/// Displayed, it is the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors(Vec<ParseError>);

impl ParseErrors {
    /// The faults, or `None` when there are none.
    pub(super) fn from_all(errors: Vec<ParseError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The faults in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[ParseError] {
        &self.0
    }
}

impl From<ParseError> for ParseErrors {
    fn from(error: ParseError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |first| first.fmt(f))
    }
}

impl std::error::Error for ParseErrors {}

/// What can be wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ParseErrorKind {
    // Bounds of our own.
    #[error("query is too long: {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("expression is nested too deeply: at most {levels_max} levels are allowed")]
    TooDeep { levels_max: usize },
    #[error("expression is too long: at most {operators_max} operators in a row are allowed")]
    TooTall { operators_max: usize },
    #[error("no thread could be started to read a deeply nested expression")]
    NoThread,

    // Characters.
    #[error("no expression found in input")]
    NoExpression,
    #[error("unexpected character: {}", quoted_char(Some(*.0)))]
    Character(char),
    #[error("unexpected character after '{after}': {}", quoted_char(*.found))]
    CharacterAfter { after: char, found: Option<char> },
    #[error("unexpected character after '!' inside braces: {}", quoted_char(*.0))]
    CharacterAfterNotInBraces(Option<char>),
    #[error("unexpected character inside braces: {}", quoted_char(Some(*.0)))]
    CharacterInBraces(char),
    #[error("unexpected character: {}, expected ':'", quoted_char(Some(*.0)))]
    CharacterInBrackets(char),
    #[error("unexpected character in duration expression: {}", quoted_char(Some(*.0)))]
    CharacterInDuration(char),
    #[error("unexpected end of input inside braces")]
    EndInBraces,
    #[error("unexpected end of input in duration expression")]
    EndInDuration,
    #[error("unexpected left brace '{{'")]
    BraceInBraces,
    #[error("unexpected left bracket '['")]
    BracketInBrackets,
    #[error("unexpected right parenthesis ')'")]
    UnopenedParenthesis,
    #[error("unexpected right bracket ']'")]
    UnopenedBracket,
    #[error("unclosed left parenthesis")]
    UnclosedParenthesis,
    #[error("unclosed left bracket")]
    UnclosedBracket,
    #[error("unexpected colon before duration in duration expression")]
    ColonBeforeDuration,
    #[error("unexpected repeated colon in duration expression")]
    RepeatedColon,
    #[error("unexpected colon ':'")]
    SecondColon,
    #[error("bad number or duration syntax: {}", quoted(.0))]
    NumberSyntax(String),
    #[error("unterminated quoted string")]
    UnterminatedString,
    #[error("unterminated raw string")]
    UnterminatedRawString,
    #[error("invalid UTF-8 rune")]
    InvalidCharacter,
    #[error("escape sequence not terminated")]
    UnterminatedEscape,
    #[error("unknown escape sequence {}", code_point(*.0))]
    UnknownEscape(char),
    #[error("illegal character {} in escape sequence", code_point(*.0))]
    IllegalEscape(char),
    #[error("escape sequence is an invalid Unicode code point")]
    InvalidCodePoint,

    // Tokens.
    /// `token` is described with its kind; `within` and `expected` are empty when nothing more is known.
    #[error("unexpected {token}{}", expectation(.within, .expected))]
    Unexpected { token: String, within: &'static str, expected: &'static str },
    #[error("error parsing number: strconv.ParseFloat: parsing {}: {reason}", quoted(.text))]
    Number { text: String, reason: &'static str },
    #[error("not a valid duration string: {}", quoted(.0))]
    Duration(String),
    #[error("unknown unit {} in duration {}", quoted(.unit), quoted(.text))]
    DurationUnit { unit: String, text: String },
    #[error("duration out of range")]
    DurationOutOfRange,
    #[error("duration must be greater than 0")]
    DurationNotPositive,
    #[error("division by zero")]
    DivisionByZero,
    #[error("modulo by zero")]
    ModuloByZero,
    #[error("{0}")]
    Matcher(model::MatcherError),
    /// The name in quotes.
    #[error("invalid label name for grouping: {0}")]
    GroupingLabel(String),
    #[error("{0}")]
    Labels(model::LabelsError),

    // Constructs.
    #[error("no arguments for aggregate expression provided")]
    NoAggregateArguments,
    #[error(
        "wrong number of arguments for aggregate expression provided, expected {expected}, got {got}"
    )]
    AggregateArguments { expected: usize, got: usize },
    #[error(
        "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        .0.as_str()
    )]
    ExperimentalAggregate(AggregateOp),
    #[error("binop fill modifiers are experimental and not enabled")]
    ExperimentalFill,
    #[error("{0} modifier is experimental and not enabled")]
    ExperimentalExtension(&'static str),
    #[error("{0} modifier is not supported for subqueries")]
    ExtensionOfSubquery(&'static str),
    #[error("{0} modifier not implemented")]
    ExtensionUnsupported(&'static str),
    #[error("anchored and smoothed modifiers cannot be used together")]
    AnchoredAndSmoothed,
    #[error("unknown function with name {}", quoted(.0))]
    UnknownFunction(String),
    #[error("function {} is not enabled", quoted(.0))]
    ExperimentalFunction(String),
    #[error("trailing commas not allowed in function call args")]
    TrailingComma,
    #[error("ranges only allowed for vector selectors")]
    RangeOfOther,
    #[error("no offset modifiers allowed before range")]
    OffsetBeforeRange,
    #[error("no @ modifiers allowed before range")]
    AtBeforeRange,
    #[error(
        "{0} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
    )]
    ModifierOfOther(&'static str),
    #[error("offset may not be set multiple times")]
    RepeatedOffset,
    #[error("@ <timestamp> may not be set multiple times")]
    RepeatedAt,
    /// The number as Go's `%f` writes it.
    #[error("timestamp out of bounds for @ modifier: {0}")]
    TimestampOutOfBounds(String),

    // Types.
    #[error("expected type {expected} in {place}, got {got}")]
    Type { expected: ValueType, place: Place, got: ValueType },
    #[error("bool modifier can only be used on comparison operators")]
    BoolOfOther,
    #[error("comparisons between scalars must use BOOL modifier")]
    ScalarComparison,
    #[error("label {} must not occur in ON and GROUP clause at once", quoted(.0))]
    LabelOnAndGroup(String),
    #[error("binary expression must contain only scalar and instant vector types")]
    BinaryOperand,
    #[error("vector matching only allowed between instant vectors")]
    MatchingOfScalar,
    #[error("filling in missing series only allowed between instant vectors")]
    FillOfScalar,
    #[error("filling in missing series not allowed for set operators")]
    FillOfSet,
    #[error("no grouping allowed for {} operation", quoted(.0.as_str()))]
    GroupingOfSet(BinaryOp),
    #[error("set operations must always be many-to-many")]
    SetCardinality,
    #[error("set operator {} not allowed in binary scalar expression", quoted(.0.as_str()))]
    SetOfScalar(BinaryOp),
    #[error("expected {}{expected} argument(s) in call to {}, got {got}", bound(*.at), quoted(.function))]
    Arguments { at: Bound, expected: usize, function: &'static str, got: usize },
    #[error("expected label selectors only, got vector selector instead")]
    NamedInfoSelector,
    #[error("expected label selectors only")]
    InfoSelector,
    #[error(
        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
        quoted(.0.documented())
    )]
    UnaryOperand(ValueType),
    #[error("subquery is only allowed on instant vector, got {} instead", .0.as_str())]
    SubqueryOperand(ValueType),
    #[error("metric name must not be set twice: {} or {}", quoted(.0), quoted(.1))]
    RepeatedName(String, String),
    #[error("vector selector must contain at least one non-empty matcher")]
    EmptySelector,
    /// Of a `match[]`; shown without a position.
    #[error("match[] must contain at least one non-empty matcher")]
    EmptyMatch,
}

/// Where a value of the wrong type stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What is aggregated.
    Aggregated,
    /// The parameter of an aggregation.
    AggregateParameter,
    /// An argument of the function so named.
    Argument(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregated => f.write_str("aggregation expression"),
            Self::AggregateParameter => f.write_str("aggregation parameter"),
            Self::Argument(function) => write!(f, "call to function {}", quoted(function)),
        }
    }
}

/// Which way a count of arguments is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Exactly so many.
    Exactly,
    /// No fewer.
    Least,
    /// No more.
    Most,
}

const fn bound(at: Bound) -> &'static str {
    match at {
        Bound::Exactly => "",
        Bound::Least => "at least ",
        Bound::Most => "at most ",
    }
}

fn expectation(within: &'static str, expected: &'static str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        if !within.is_empty() {
            write!(f, " in {within}")?;
        }
        if !expected.is_empty() {
            write!(f, ", expected {expected}")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_bytes_from_one() {
        for (offset, expected) in [(0, "1:1"), (2, "1:3"), (3, "2:1"), (6, "2:4"), (99, "2:6")] {
            assert_eq!(Position::of("ab\nüc d", offset).to_string(), expected, "{offset}");
        }
    }

    #[test]
    fn an_empty_query_has_no_positions() {
        let error = ParseError::new("", Span::default(), ParseErrorKind::NoExpression);
        assert_eq!(
            error.to_string(),
            "unknown position: parse error: no expression found in input"
        );
    }
}
