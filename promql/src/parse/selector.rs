//! Selectors, and what may follow an operand: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use model::{METRIC_NAME, MatchOp, Matcher, Timestamp};
use nom::Parser;
use nom::combinator::cut;
use nom::sequence::pair;

use super::duration::{goes_on, literal, offset, positive_duration};
use super::error::ParseErrorKind;
use super::modifier::signed_number;
use super::precedence::Tree;
use super::token::{Keyword, Parsed, Refusal, Special, Token, TokenKind, Tokens, token, within};
use crate::ast::{
    At, BinaryOp, DurationExpr, Expr, MatrixSelector, RangeExtension, Span, Subquery,
    TimeModifiers, VectorSelector,
};
use crate::quote::unquote;

const MATCHING: &str = "label matching";

/// A metric name, matchers in braces, or both.
pub(super) fn vector_selector(input: Tokens<'_>) -> Parsed<'_, VectorSelector> {
    let mut rest = input;
    let mut name = None;
    if input.kind().is_metric_name() {
        name = Some(String::from(input.text(input.next())));
        rest = input.advance();
    }
    let mut matchers = Vec::new();
    if rest.kind() == TokenKind::LeftBrace {
        (rest, matchers) = braces(rest.advance(), MATCHING, matcher)?;
    } else if name.is_none() {
        return Err(input.unexpected());
    }
    if let Some(name) = &name {
        matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
    }
    let span = input.span_to(&rest);
    let time = TimeModifiers::default();
    Ok((rest, VectorSelector { name, matchers, time, extension: None, span }))
}

/// What `{` opened: items with commas between them, the last perhaps with a comma behind it.
pub(super) fn braces<'q, T>(
    input: Tokens<'q>,
    place: &'static str,
    item: impl Fn(Tokens<'q>) -> Parsed<'q, T>,
) -> Parsed<'q, Vec<T>> {
    let mut input = input;
    let mut items = Vec::new();
    while input.kind() != TokenKind::RightBrace {
        let (rest, found) = item(input)?;
        items.push(found);
        input = rest;
        if input.kind() != TokenKind::RightBrace {
            let comma = token(TokenKind::Comma);
            (input, _) = within(place, "\",\" or \"}\"", comma)(input)?;
        }
    }
    Ok((input.advance(), items))
}

/// `name="value"` with any of the four comparisons; a quoted name alone is a metric's.
fn matcher(input: Tokens<'_>) -> Parsed<'_, Matcher> {
    let name = input.next();
    let rest = input.advance();
    let is_quoted = name.kind == TokenKind::String;
    if !is_quoted && name.kind != TokenKind::Identifier {
        return within(
            MATCHING,
            "identifier or \"}\"",
            |input: Tokens<'_>| Err(input.unexpected()),
        )(input);
    }
    let text = label_name(&input, name);
    let op = match rest.kind() {
        TokenKind::Assign => MatchOp::Equal,
        TokenKind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
        TokenKind::Matches => MatchOp::Regex,
        TokenKind::MatchesNot => MatchOp::NotRegex,
        _ if is_quoted => return Ok((rest, Matcher::equal(METRIC_NAME, text))),
        _ => {
            return within(MATCHING, "label matching operator", |rest: Tokens<'_>| {
                Err(rest.unexpected())
            })(rest);
        }
    };
    let (rest, value) = within(MATCHING, "string", token(TokenKind::String))(rest.advance())?;
    let matcher = Matcher::new(text, op, unquote(input.text(value)).text)
        .map_err(|error| input.refuse(input.span_to(&rest), ParseErrorKind::Matcher(error)))?;
    Ok((rest, matcher))
}

fn label_name(input: &Tokens<'_>, name: Token) -> String {
    let text = input.text(name);
    if name.kind == TokenKind::String { unquote(text).text } else { String::from(text) }
}

/// What follows an operand. It binds tighter than any operator.
pub(super) fn postfixes<'q>(input: Tokens<'q>, operand: Tree<Expr>) -> Parsed<'q, Tree<Expr>> {
    let (mut input, mut tree) = (input, operand);
    loop {
        (input, tree) = match input.kind() {
            TokenKind::LeftBracket => brackets(input, tree)?,
            TokenKind::Keyword(Keyword::Offset) => set_offset(input, tree)?,
            TokenKind::At => set_at(input, tree)?,
            TokenKind::Keyword(Keyword::Anchored) => {
                set_extension(input, tree, RangeExtension::Anchored)?
            }
            TokenKind::Keyword(Keyword::Smoothed) => {
                set_extension(input, tree, RangeExtension::Smoothed)?
            }
            _ => return Ok((input, tree)),
        };
    }
}

/// A range or, with a colon, a subquery.
fn brackets<'q>(input: Tokens<'q>, tree: Tree<Expr>) -> Parsed<'q, Tree<Expr>> {
    const FIRST: &str = "number, duration, step(), or range()";
    const SECOND: &str = "number, duration, step(), range(), or \"]\"";
    let (rest, range) =
        within("subquery or range selector", FIRST, positive_duration)(input.advance())?;
    if rest.kind() != TokenKind::Colon {
        let close = token(TokenKind::RightBracket);
        let (rest, _) = within("subquery or range", "\":\" or \"]\"", close)(rest)?;
        let tree = range_selector(&input, tree, range, input.span_to(&rest))?;
        return Ok((rest, tree));
    }
    let mut rest = rest.advance();
    let mut step = None;
    if rest.kind() != TokenKind::RightBracket {
        let (after, found) = within("subquery selector", SECOND, positive_duration)(rest)?;
        step = Some(found);
        rest = after;
    }
    let close = token(TokenKind::RightBracket);
    let (rest, _) = within("subquery selector", "\"]\"", close)(rest)?;
    let span = Span { start: tree.root.span().start, end: input.end_before(&rest) };
    let time = TimeModifiers::default();
    let tree =
        tree.wrap(&input, span, |expr| Expr::Subquery(Subquery { expr, range, step, time, span }))?;
    Ok((rest, tree))
}

/// Puts a range on a selector. `brackets` is where the range stands.
fn range_selector(
    input: &Tokens<'_>,
    tree: Tree<Expr>,
    range: DurationExpr,
    brackets: Span,
) -> Result<Tree<Expr>, Refusal> {
    let refusal = match &*tree.root {
        Expr::Vector(selector) if selector.time.offset.is_some() => {
            Some(ParseErrorKind::OffsetBeforeRange)
        }
        Expr::Vector(selector) if selector.time.at.is_some() => Some(ParseErrorKind::AtBeforeRange),
        Expr::Vector(_) => None,
        _ => Some(ParseErrorKind::RangeOfOther),
    };
    if let Some(kind) = refusal {
        return Err(input.refuse(brackets, kind));
    }
    let span = Span { start: tree.root.span().start, end: brackets.end };
    tree.wrap(input, span, |expr| match *expr {
        Expr::Vector(vector) => Expr::Matrix(MatrixSelector { vector, range, span }),
        other => other,
    })
}

/// The parts of a selector or subquery that modifiers change.
fn modified(expr: &mut Expr) -> Option<(&mut TimeModifiers, &mut Span)> {
    match expr {
        Expr::Vector(e) => Some((&mut e.time, &mut e.span)),
        Expr::Matrix(e) => Some((&mut e.vector.time, &mut e.span)),
        Expr::Subquery(e) => Some((&mut e.time, &mut e.span)),
        _ => None,
    }
}

/// `offset …`
fn set_offset<'q>(input: Tokens<'q>, mut tree: Tree<Expr>) -> Parsed<'q, Tree<Expr>> {
    const EXPECTED: &str = "number, duration, step(), or range()";
    let (rest, offset) = within("offset", EXPECTED, offset)(input.advance())?;
    let whole = tree.root.span();
    let refuse = |kind| {
        if goes_on(input.advance()) {
            rest.refuse_after_next(whole, kind)
        } else {
            input.refuse(whole, kind)
        }
    };
    let Some((time, span)) = modified(&mut tree.root) else {
        return Err(refuse(ParseErrorKind::ModifierOfOther("offset")));
    };
    if time.offset.is_some() {
        return Err(refuse(ParseErrorKind::RepeatedOffset));
    }
    // An offset of nothing is none: it may be followed by another, or by a range.
    if literal(&offset).is_none_or(|seconds| (seconds * 1e9).round() != 0.0) {
        time.offset = Some(offset);
    }
    span.end = input.end_before(&rest);
    Ok((rest, tree))
}

/// `@ …`
fn set_at<'q>(input: Tokens<'q>, mut tree: Tree<Expr>) -> Parsed<'q, Tree<Expr>> {
    let whole = tree.root.span();
    let (rest, found) = within("@", "timestamp", fixed_time)(input.advance())?;
    let at = match found {
        FixedTime::Seconds(seconds) => {
            At::Time(timestamp(seconds).map_err(|kind| input.refuse(whole, kind))?)
        }
        FixedTime::Start => At::Start,
        FixedTime::End => At::End,
    };
    let Some((time, span)) = modified(&mut tree.root) else {
        return Err(input.refuse(whole, ParseErrorKind::ModifierOfOther("@")));
    };
    if time.at.is_some() {
        return Err(input.refuse(whole, ParseErrorKind::RepeatedAt));
    }
    time.at = Some(at);
    span.end = input.end_before(&rest);
    Ok((rest, tree))
}

enum FixedTime {
    Seconds(f64),
    Start,
    End,
}

/// Seconds since the epoch, `start()` or `end()`.
fn fixed_time(input: Tokens<'_>) -> Parsed<'_, FixedTime> {
    let time = match input.kind() {
        TokenKind::Special(Special::Start) => FixedTime::Start,
        TokenKind::Special(Special::End) => FixedTime::End,
        _ => return signed_number(input).map(|(rest, s)| (rest, FixedTime::Seconds(s))),
    };
    let (rest, _) = cut(pair(token(TokenKind::LeftParen), token(TokenKind::RightParen)))
        .parse(input.advance())?;
    Ok((rest, time))
}

/// Milliseconds of seconds since the epoch.
fn timestamp(seconds: f64) -> Result<Timestamp, ParseErrorKind> {
    const SECONDS_MAX: f64 = Timestamp::MAX as f64;
    if seconds.abs() < SECONDS_MAX {
        let ms = (seconds * 1000.0).round();
        // What does not fit is the least there is, whatever its sign: Prometheus leaves it to the
        // conversion of amd64.
        return Ok(if ms < SECONDS_MAX { ms as Timestamp } else { Timestamp::MIN });
    }
    let text = if seconds.is_infinite() {
        String::from(if seconds > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        format!("{seconds:.6}")
    };
    Err(ParseErrorKind::TimestampOutOfBounds(text))
}

/// `anchored` or `smoothed`
fn set_extension<'q>(
    input: Tokens<'q>,
    mut tree: Tree<Expr>,
    extension: RangeExtension,
) -> Parsed<'q, Tree<Expr>> {
    let name = extension.as_str();
    let whole = tree.root.span();
    let refuse = |kind| Err(input.refuse(whole, kind));
    if !input.options().extended_range_selectors {
        return refuse(ParseErrorKind::ExperimentalExtension(name));
    }
    let selector = match &mut *tree.root {
        Expr::Vector(e) => &mut e.extension,
        Expr::Matrix(e) => &mut e.vector.extension,
        Expr::Subquery(_) => return refuse(ParseErrorKind::ExtensionOfSubquery(name)),
        _ => return refuse(ParseErrorKind::ExtensionUnsupported(name)),
    };
    if selector.is_some_and(|other| other != extension) {
        return refuse(ParseErrorKind::AnchoredAndSmoothed);
    }
    // The selector ends before the word: what is wrong with an operator behind it is said to be at the word.
    *selector = Some(extension);
    Ok((input.advance(), tree))
}
