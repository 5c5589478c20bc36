//! Tokens: what they are, how errors describe them, and the stream of them that the grammar reads.

use nom::IResult;
use nom::error::ErrorKind;

use super::ParseOptions;
use super::error::{ParseError, ParseErrorKind};
use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::quote::quoted;

/// Parentheses, arguments, signs and right-associative operators within one another.
///
/// Whoever recurses over a tree and takes left operands in a loop recurses no deeper than this.
pub const NESTING_MAX: usize = 200;

/// A piece of a query; its text is cut out of the query when needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Nothing follows.
    End,
    /// The lexer stopped here; it has the reason.
    Invalid,
    Identifier,
    /// An identifier with colons in it.
    MetricIdentifier,
    String,
    Number,
    Duration,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=`
    Assign,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
    At,
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
    /// A word that is a function or a part of a duration where an operand may stand.
    Special(Special),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// Longest word that can be a keyword.
const KEYWORD_BYTES_MAX: usize = 12;

/// The kind of a word that is more than an identifier, in any case.
pub(super) fn keyword(word: &str) -> Option<TokenKind> {
    let mut lowered = [0; KEYWORD_BYTES_MAX];
    let lowered = lowered.get_mut(..word.len())?;
    lowered.copy_from_slice(word.as_bytes());
    lowered.make_ascii_lowercase();
    Some(match &*lowered {
        b"and" => TokenKind::Operator(BinaryOp::And),
        b"or" => TokenKind::Operator(BinaryOp::Or),
        b"unless" => TokenKind::Operator(BinaryOp::Unless),
        b"atan2" => TokenKind::Operator(BinaryOp::Atan2),
        b"anchored" => TokenKind::Keyword(Keyword::Anchored),
        b"bool" => TokenKind::Keyword(Keyword::Bool),
        b"by" => TokenKind::Keyword(Keyword::By),
        b"fill" => TokenKind::Keyword(Keyword::Fill),
        b"fill_left" => TokenKind::Keyword(Keyword::FillLeft),
        b"fill_right" => TokenKind::Keyword(Keyword::FillRight),
        b"group_left" => TokenKind::Keyword(Keyword::GroupLeft),
        b"group_right" => TokenKind::Keyword(Keyword::GroupRight),
        b"ignoring" => TokenKind::Keyword(Keyword::Ignoring),
        b"offset" => TokenKind::Keyword(Keyword::Offset),
        b"on" => TokenKind::Keyword(Keyword::On),
        b"smoothed" => TokenKind::Keyword(Keyword::Smoothed),
        b"without" => TokenKind::Keyword(Keyword::Without),
        b"start" => TokenKind::Special(Special::Start),
        b"end" => TokenKind::Special(Special::End),
        b"inf" | b"nan" => TokenKind::Number,
        lowered => return duration_keyword(lowered).or_else(|| aggregator(lowered)),
    })
}

/// The kind of a lower-case word that may stand in a duration.
pub(super) fn duration_keyword(lowered: &[u8]) -> Option<TokenKind> {
    Some(TokenKind::Special(match lowered {
        b"step" => Special::Step,
        b"range" => Special::Range,
        b"max_of" => Special::MaxOf,
        b"min_of" => Special::MinOf,
        _ => return None,
    }))
}

fn aggregator(lowered: &[u8]) -> Option<TokenKind> {
    let found = AggregateOp::ALL.iter().find(|(_, name)| name.as_bytes() == lowered);
    found.map(|(op, _)| TokenKind::Aggregator(*op))
}

impl TokenKind {
    /// Whether a metric may be named so without quotes.
    pub(super) const fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) | Self::Special(_) => {
                true
            }
            Self::Operator(op) => op.is_set(),
            Self::Keyword(keyword) => matches!(
                keyword,
                Keyword::Anchored
                    | Keyword::By
                    | Keyword::Fill
                    | Keyword::FillLeft
                    | Keyword::FillRight
                    | Keyword::Offset
                    | Keyword::Smoothed
                    | Keyword::Without
            ),
            _ => false,
        }
    }

    /// Whether a label may be named so in a grouping without quotes.
    pub(super) const fn is_grouping_label(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) | Self::Special(_) => {
                true
            }
            Self::Operator(op) => op.is_set() || matches!(op, BinaryOp::Atan2),
            Self::Keyword(keyword) => !matches!(keyword, Keyword::Without),
            _ => false,
        }
    }
}

/// What the grammar needs to know beside the tokens.
#[derive(Debug)]
pub(super) struct Source<'q> {
    pub(super) query: &'q str,
    pub(super) options: &'q ParseOptions,
}

/// The tokens that are left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'q> {
    /// Ends with one [`TokenKind::End`] or [`TokenKind::Invalid`], which is never consumed.
    rest: &'q [Token],
    source: &'q Source<'q>,
    nesting: usize,
}

impl<'q> Tokens<'q> {
    pub(super) const fn new(tokens: &'q [Token], source: &'q Source<'q>) -> Self {
        Self { rest: tokens, source, nesting: 0 }
    }

    pub(super) const fn options(&self) -> &'q ParseOptions {
        self.source.options
    }

    /// The next token.
    pub(super) fn next(&self) -> Token {
        let end = Span { start: self.source.query.len(), end: self.source.query.len() };
        self.rest.first().copied().unwrap_or(Token { kind: TokenKind::End, span: end })
    }

    /// The kind of the next token.
    pub(super) fn kind(&self) -> TokenKind {
        self.next().kind
    }

    /// The kind of the token after the next.
    pub(super) fn second_kind(&self) -> TokenKind {
        self.rest.get(1).map_or(TokenKind::End, |token| token.kind)
    }

    /// The stream after the next token; what ends a stream stays.
    pub(super) fn advance(self) -> Self {
        let rest = if self.rest.len() > 1 { &self.rest[1..] } else { self.rest };
        Self { rest, ..self }
    }

    /// The end of the last token that `rest` no longer has.
    pub(super) fn end_before(&self, rest: &Self) -> usize {
        let consumed = self.rest.len() - rest.rest.len();
        let last = consumed.checked_sub(1).and_then(|at| self.rest.get(at));
        last.map_or(self.next().span.start, |token| token.span.end)
    }

    /// From the start of the next token to the end of the last that `rest` no longer has.
    pub(super) fn span_to(&self, rest: &Self) -> Span {
        Span { start: self.next().span.start, end: self.end_before(rest) }
    }

    /// The text of a token.
    pub(super) fn text(&self, token: Token) -> &'q str {
        &self.source.query[token.span.start..token.span.end]
    }

    /// The refusal of the next token.
    pub(super) fn unexpected(&self) -> Refusal {
        nom::Err::Failure(Fault::at(self.next()))
    }

    /// The refusal of what `span` holds.
    pub(super) fn refuse(&self, span: Span, kind: ParseErrorKind) -> Refusal {
        refuse(self.source.query, span, kind)
    }

    /// The refusal of what `span` holds, which Prometheus finds out about only once it has read the next token: if the lexer
    /// stops there, that is the first error.
    pub(super) fn refuse_after_next(&self, span: Span, kind: ParseErrorKind) -> Refusal {
        if self.kind() == TokenKind::Invalid { self.unexpected() } else { self.refuse(span, kind) }
    }

    /// The error for a token that nothing could be made of.
    fn describe(&self, token: Token) -> String {
        let text = self.text(token);
        match token.kind {
            TokenKind::End | TokenKind::Invalid => String::from("end of input"),
            TokenKind::Identifier => format!("identifier {}", quoted(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
            TokenKind::Operator(_) | TokenKind::At | TokenKind::Matches | TokenKind::MatchesNot => {
                format!("<op:{text}>")
            }
            _ => shortened(text),
        }
    }
}

/// `text` quoted, cut after ten characters when it has more bytes than that.
fn shortened(text: &str) -> String {
    const BYTES_MAX: usize = 10;
    if text.len() <= BYTES_MAX {
        return quoted(text).to_string();
    }
    let end = text.char_indices().nth(BYTES_MAX).map_or(text.len(), |(at, _)| at);
    format!("{}...", quoted(&text[..end]))
}

/// The refusal of what `span` of `query` holds.
pub(super) fn refuse(query: &str, span: Span, kind: ParseErrorKind) -> Refusal {
    nom::Err::Failure(Fault::Refused(Box::new(ParseError::new(query, span, kind))))
}

/// What a grammar rule gives: the tokens after it and its value.
pub(super) type Parsed<'q, T> = IResult<Tokens<'q>, T, Fault>;

/// The end of parsing, or of trying a rule.
pub(super) type Refusal = nom::Err<Fault>;

/// Why a grammar rule does not apply.
#[derive(Debug)]
pub(super) enum Fault {
    /// A token that does not fit. The innermost construct that has a name for its place gives it.
    Unexpected { token: Token, place: Option<Expectation> },
    /// Tokens that fit, but mean nothing.
    Refused(Box<ParseError>),
}

/// A construct, and what could have stood there; either may be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    pub(super) within: &'static str,
    pub(super) expected: &'static str,
}

impl Fault {
    pub(super) fn at(token: Token) -> Self {
        Self::Unexpected { token, place: None }
    }

    /// The error to show. `lexical` is what made the lexer stop, if it did not reach the end.
    pub(super) fn into_error(self, tokens: &Tokens<'_>, lexical: Option<ParseError>) -> ParseError {
        match (self, lexical) {
            (Self::Refused(error), _) => *error,
            (Self::Unexpected { token, .. }, Some(error)) if token.kind == TokenKind::Invalid => {
                error
            }
            (Self::Unexpected { token, place }, _) => {
                let place = place.unwrap_or(Expectation { within: "", expected: "" });
                let Expectation { within, expected } = place;
                let token_text = tokens.describe(token);
                let kind = ParseErrorKind::Unexpected { token: token_text, within, expected };
                ParseError::new(tokens.source.query, token.span, kind)
            }
        }
    }
}

impl<'q> nom::error::ParseError<Tokens<'q>> for Fault {
    fn from_error_kind(input: Tokens<'q>, _: ErrorKind) -> Self {
        Self::at(input.next())
    }

    fn append(_: Tokens<'q>, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Takes a token of this kind, or leaves it to another rule.
pub(super) fn token<'q>(kind: TokenKind) -> impl Fn(Tokens<'q>) -> Parsed<'q, Token> {
    move |input| {
        let next = input.next();
        if next.kind == kind {
            Ok((input.advance(), next))
        } else {
            Err(nom::Err::Error(Fault::at(next)))
        }
    }
}

/// Applies `rule` and says where a token does not fit, unless a rule within has said so.
pub(super) fn within<'q, T>(
    within: &'static str,
    expected: &'static str,
    mut rule: impl FnMut(Tokens<'q>) -> Parsed<'q, T>,
) -> impl FnMut(Tokens<'q>) -> Parsed<'q, T> {
    move |input| {
        rule(input).map_err(|error| {
            let (nom::Err::Error(fault) | nom::Err::Failure(fault)) = error else { return error };
            nom::Err::Failure(match fault {
                Fault::Unexpected { token, place: None } => {
                    Fault::Unexpected { token, place: Some(Expectation { within, expected }) }
                }
                fault => fault,
            })
        })
    }
}

/// Applies `rule` one level deeper.
pub(super) fn nested<'q, T>(
    mut rule: impl FnMut(Tokens<'q>) -> Parsed<'q, T>,
) -> impl FnMut(Tokens<'q>) -> Parsed<'q, T> {
    move |input| {
        let Tokens { nesting, .. } = input;
        if nesting >= NESTING_MAX {
            let kind = ParseErrorKind::TooDeep { levels_max: NESTING_MAX };
            return Err(input.refuse(input.next().span, kind));
        }
        let (rest, value) = rule(Tokens { nesting: nesting + 1, ..input })?;
        Ok((Tokens { nesting, ..rest }, value))
    }
}
