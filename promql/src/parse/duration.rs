//! Durations in brackets and after `offset`.

use nom::Parser;
use nom::combinator::cut;
use nom::sequence::{delimited, pair};

use super::error::ParseErrorKind;
use super::number;
use super::precedence::{Grammar, Infix, Sign, Tree, operators};
use super::token::{Parsed, Refusal, Special, TokenKind, Tokens, nested, token};
use crate::ast::{BinaryOp, DurationExpr, DurationKind, Span};

/// Longest duration, in seconds, either way: nanoseconds must fit in 63 bits.
const SECONDS_MAX: f64 = (1_u64 << 63) as f64 / 1e9;

/// A duration with operators in it.
pub(super) fn duration(input: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    operators(&Durations, input).map(|(rest, tree)| (rest, *tree.root))
}

/// What brackets hold on either side of the colon: a duration that, where it is known, is positive.
pub(super) fn positive_duration(input: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    let (rest, duration) = duration(input)?;
    if literal(&duration).is_some_and(|seconds| seconds <= 0.0) {
        let kind = ParseErrorKind::DurationNotPositive;
        return Err(rest.refuse_after_next(duration.span, kind));
    }
    Ok((rest, as_seconds(duration)))
}

/// What follows `offset`: a duration whose operators, unless it starts with a parenthesis or with two
/// signs, belong to the expression around it. `a offset 5m - b` is `(a offset 5m) - b`.
pub(super) fn offset(input: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    if goes_on(input) {
        let (rest, duration) = duration(input)?;
        return Ok((rest, as_seconds(duration)));
    }
    let Some(sign) = Sign::of(input.next()) else {
        let (rest, operand) = Durations.operand(input)?;
        return Ok((rest, as_seconds(*operand.root)));
    };
    let unsigned = input.advance();
    let is_literal = matches!(unsigned.kind(), TokenKind::Number | TokenKind::Duration);
    let (rest, operand) = if is_literal {
        // Out of range, only the sign is pointed at.
        literal_operand(unsigned, sign.span)?
    } else {
        Durations.operand(unsigned)?
    };
    let signed = Durations.sign(&rest, sign, operand)?;
    Ok((rest, as_seconds(*signed.root)))
}

/// Whether an offset that starts so has operators of its own: it starts with a parenthesis or with two signs.
pub(super) fn goes_on(input: Tokens<'_>) -> bool {
    match Sign::of(input.next()) {
        Some(_) => Sign::of(input.advance().next()).is_some(),
        None => input.kind() == TokenKind::LeftParen,
    }
}

/// The seconds of a duration that is written out.
pub(super) const fn literal(duration: &DurationExpr) -> Option<f64> {
    match duration.kind {
        DurationKind::Seconds(seconds) | DurationKind::Number(seconds) => Some(seconds),
        _ => None,
    }
}

/// A number that is all of a duration is in seconds like any other.
fn as_seconds(duration: DurationExpr) -> DurationExpr {
    match duration.kind {
        DurationKind::Number(seconds) => {
            DurationExpr { kind: DurationKind::Seconds(seconds), ..duration }
        }
        _ => duration,
    }
}

struct Durations;

struct Operator {
    op: BinaryOp,
    span: Span,
}

impl Infix for Operator {
    fn op(&self) -> BinaryOp {
        self.op
    }
}

impl Grammar for Durations {
    type Node = DurationExpr;
    type Infix = Operator;

    fn operand<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Tree<DurationExpr>> {
        match input.kind() {
            TokenKind::Number | TokenKind::Duration => literal_operand(input, input.next().span),
            TokenKind::LeftParen => parenthesised(self, input),
            TokenKind::Special(Special::Step) => nullary(DurationKind::Step, input),
            TokenKind::Special(Special::Range) => nullary(DurationKind::Range, input),
            TokenKind::Special(Special::MaxOf) => extreme(self, DurationKind::Max, input),
            TokenKind::Special(Special::MinOf) => extreme(self, DurationKind::Min, input),
            _ => Err(input.unexpected()),
        }
    }

    fn operator(&self, input: &Tokens<'_>) -> Option<BinaryOp> {
        match input.kind() {
            TokenKind::Operator(
                op @ (BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::Div
                | BinaryOp::Mod
                | BinaryOp::Pow),
            ) => Some(op),
            _ => None,
        }
    }

    fn infix<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Option<Operator>> {
        let Some(op) = self.operator(&input) else { return Ok((input, None)) };
        Ok((input.advance(), Some(Operator { op, span: input.next().span })))
    }

    fn join(
        &self,
        input: &Tokens<'_>,
        infix: Operator,
        left: Tree<DurationExpr>,
        right: Tree<DurationExpr>,
    ) -> Result<Tree<DurationExpr>, Refusal> {
        let op = infix.op;
        let refuse = |kind| input.refuse_after_next(infix.span, kind);
        if literal(&right.root) == Some(0.0) {
            match op {
                BinaryOp::Div => {
                    return Err(refuse(ParseErrorKind::DivisionByZero));
                }
                BinaryOp::Mod => {
                    return Err(refuse(ParseErrorKind::ModuloByZero));
                }
                _ => {}
            }
        }
        let span = Span { start: left.root.span.start, end: right.root.span.end };
        Tree::join(left, right, input, span, |left, right| DurationExpr {
            kind: DurationKind::Binary { op, left, right },
            span,
        })?
        .low(input, span)
    }

    fn sign(
        &self,
        input: &Tokens<'_>,
        sign: Sign,
        operand: Tree<DurationExpr>,
    ) -> Result<Tree<DurationExpr>, Refusal> {
        let mut operand = operand;
        if literal(&operand.root).is_some() {
            operand.root.span.start = sign.span.start;
        }
        let (DurationKind::Seconds(seconds) | DurationKind::Number(seconds)) =
            &mut operand.root.kind
        else {
            if !sign.negate {
                return Ok(operand);
            }
            let span = Span { start: sign.span.start, end: operand.root.span.end };
            return operand.wrap(input, span, |inner| DurationExpr {
                kind: DurationKind::Negate(inner),
                span,
            });
        };
        if sign.negate {
            *seconds = -*seconds;
        }
        Ok(operand)
    }
}

/// A number or duration; `range_span` is what is named where it is too long.
fn literal_operand(input: Tokens<'_>, range_span: Span) -> Parsed<'_, Tree<DurationExpr>> {
    let next = input.next();
    let span = next.span;
    let refuse = |kind| input.refuse(span, kind);
    let seconds = if next.kind == TokenKind::Duration {
        number::duration(input.text(next)).map_err(refuse)?
    } else {
        number::number(input.text(next)).map_err(refuse)?
    };
    if seconds.abs() > SECONDS_MAX {
        return Err(input.refuse(range_span, ParseErrorKind::DurationOutOfRange));
    }
    let kind = if next.kind == TokenKind::Duration {
        DurationKind::Seconds(seconds)
    } else {
        DurationKind::Number(seconds)
    };
    Ok((input.advance(), Tree::leaf(DurationExpr { kind, span })))
}

fn parenthesised<'q>(durations: &Durations, input: Tokens<'q>) -> Parsed<'q, Tree<DurationExpr>> {
    let (rest, tree) = delimited(
        token(TokenKind::LeftParen),
        nested(|input| operators(durations, input)),
        cut(token(TokenKind::RightParen)),
    )
    .parse(input)?;
    if matches!(tree.root.kind, DurationKind::Paren(_)) {
        // Doubled parentheses are one.
        return Ok((rest, tree));
    }
    let span = input.span_to(&rest);
    let tree =
        tree.wrap(&input, span, |inner| DurationExpr { kind: DurationKind::Paren(inner), span })?;
    Ok((rest, tree))
}

/// `step()` or `range()`.
fn nullary(kind: DurationKind, input: Tokens<'_>) -> Parsed<'_, Tree<DurationExpr>> {
    let (rest, _) = cut(pair(token(TokenKind::LeftParen), token(TokenKind::RightParen)))
        .parse(input.advance())?;
    Ok((rest, Tree::leaf(DurationExpr { kind, span: input.span_to(&rest) })))
}

/// `max_of(a, b)` or `min_of(a, b)`.
fn extreme<'q>(
    durations: &Durations,
    kind: fn(Box<DurationExpr>, Box<DurationExpr>) -> DurationKind,
    input: Tokens<'q>,
) -> Parsed<'q, Tree<DurationExpr>> {
    // One after the other rather than combined: every combinator around an argument deepens the stack.
    let mut argument = nested(|input| operators(durations, input));
    let (rest, _) = cut(token(TokenKind::LeftParen)).parse(input.advance())?;
    let (rest, left) = argument(rest)?;
    let (rest, _) = cut(token(TokenKind::Comma)).parse(rest)?;
    let (rest, right) = argument(rest)?;
    let (rest, _) = cut(token(TokenKind::RightParen)).parse(rest)?;
    let span = input.span_to(&rest);
    let tree = Tree::join(left.nested(), right, &input, span, |left, right| DurationExpr {
        kind: kind(left, right),
        span,
    })?;
    Ok((rest, tree))
}
