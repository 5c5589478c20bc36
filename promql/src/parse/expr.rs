//! Expressions: operands with what follows them, calls, aggregations, binary operators.
//!
//! Everything that is refused for its shape is refused here; types are looked at later.

use nom::Parser;
use nom::combinator::{cut, opt};
use nom::sequence::delimited;

use super::error::ParseErrorKind;
use super::functions::function;
use super::modifier::{Grouping, Modifiers, binary_modifiers, grouping_modifier};
use super::number;
use super::precedence::{Grammar, Infix, Sign, Tree, operators};
use super::selector::{postfixes, vector_selector};
use super::token::{Keyword, Parsed, Refusal, TokenKind, Tokens, nested, token, within};
use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, NumberLiteral, Paren, Span,
    StringLiteral, Unary,
};
use crate::quote::{Unquoted, unquote};

/// An expression of any kind.
pub(super) fn expression(input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    operators(&Expressions, input)
}

struct Expressions;

/// A binary operator with its modifiers.
struct ModifiedOperator {
    op: BinaryOp,
    modifiers: Modifiers,
}

impl Infix for ModifiedOperator {
    fn op(&self) -> BinaryOp {
        self.op
    }
}

impl Grammar for Expressions {
    type Node = Expr;
    type Infix = ModifiedOperator;

    fn operand<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Tree<Expr>> {
        let (rest, operand) = operand(input)?;
        postfixes(rest, operand)
    }

    fn operator(&self, input: &Tokens<'_>) -> Option<BinaryOp> {
        match input.kind() {
            TokenKind::Operator(op) => Some(op),
            _ => None,
        }
    }

    fn infix<'q>(&self, input: Tokens<'q>) -> Parsed<'q, Option<ModifiedOperator>> {
        let Some(op) = self.operator(&input) else { return Ok((input, None)) };
        let (rest, modifiers) = binary_modifiers(input.advance())?;
        Ok((rest, Some(ModifiedOperator { op, modifiers })))
    }

    fn join(
        &self,
        input: &Tokens<'_>,
        infix: ModifiedOperator,
        left: Tree<Expr>,
        right: Tree<Expr>,
    ) -> Result<Tree<Expr>, Refusal> {
        let span = Span { start: left.root.span().start, end: right.root.span().end };
        let ModifiedOperator { op, modifiers: Modifiers { return_bool, mut matching } } = infix;
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if fills && !input.options().binop_fill {
            return Err(input.refuse_after_next(span, ParseErrorKind::ExperimentalFill));
        }
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        Tree::join(left, right, input, span, |left, right| {
            Expr::Binary(Binary { op, left, right, return_bool, matching: Some(matching), span })
        })
    }

    fn sign(
        &self,
        input: &Tokens<'_>,
        sign: Sign,
        mut operand: Tree<Expr>,
    ) -> Result<Tree<Expr>, Refusal> {
        // A signed number is a number.
        if let Expr::Number(number) = &mut *operand.root {
            number.span.start = sign.span.start;
            if sign.negate {
                number.value = -number.value;
            }
            return Ok(operand);
        }
        let span = Span { start: sign.span.start, end: operand.root.span().end };
        operand.wrap(input, span, |expr| Expr::Unary(Unary { negate: sign.negate, expr, span }))
    }
}

/// An operand without a sign and without what may follow it.
fn operand(input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    match (input.kind(), input.second_kind()) {
        (TokenKind::LeftParen, _) => parenthesised(input),
        (
            TokenKind::Aggregator(op),
            TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without),
        ) => aggregate(op, input),
        (TokenKind::Identifier | TokenKind::Special(_), TokenKind::LeftParen) => call(input),
        _ => leaf(input),
    }
}

/// An operand with nothing below it.
fn leaf(input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    let (rest, expr) = match input.kind() {
        TokenKind::Number | TokenKind::Duration => {
            let (rest, number) = number_literal(input)?;
            (rest, Expr::Number(number))
        }
        TokenKind::String => {
            let next = input.next();
            let Unquoted { text, bytes } = unquote(input.text(next));
            let literal = StringLiteral { value: text, bytes, span: next.span };
            (input.advance(), Expr::String(literal))
        }
        _ => {
            let (rest, selector) = vector_selector(input)?;
            (rest, Expr::Vector(selector))
        }
    };
    Ok((rest, Tree::leaf(expr)))
}

/// A number or a duration, without a sign.
pub(super) fn number_literal(input: Tokens<'_>) -> Parsed<'_, NumberLiteral> {
    let next = input.next();
    let value = match next.kind {
        TokenKind::Number => number::number(input.text(next)),
        TokenKind::Duration => number::duration(input.text(next)),
        _ => return Err(input.unexpected()),
    };
    let value = value.map_err(|kind| input.refuse(next.span, kind))?;
    let is_duration = next.kind == TokenKind::Duration;
    Ok((input.advance(), NumberLiteral { value, is_duration, span: next.span }))
}

fn parenthesised(input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    let (rest, tree) = delimited(
        token(TokenKind::LeftParen),
        nested(expression),
        cut(token(TokenKind::RightParen)),
    )
    .parse(input)?;
    let span = input.span_to(&rest);
    let tree = tree.wrap(&input, span, |expr| Expr::Paren(Paren { expr, span }))?;
    Ok((rest, tree))
}

/// A function's name and arguments.
fn call(input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    let name = input.next();
    let (rest, args) = arguments(input.advance())?;
    let text = input.text(name);
    let Some(function) = function(text) else {
        return Err(input.refuse(name.span, ParseErrorKind::UnknownFunction(String::from(text))));
    };
    if function.experimental && !input.options().experimental_functions {
        let kind = ParseErrorKind::ExperimentalFunction(String::from(text));
        return Err(input.refuse(name.span, kind));
    }
    let span = input.span_to(&rest);
    let tree = Tree::gather(args, &input, span, |args| Expr::Call(Call { function, args, span }))?;
    Ok((rest, tree))
}

/// Expressions with commas between them, in parentheses.
fn arguments(input: Tokens<'_>) -> Parsed<'_, Vec<Tree<Expr>>> {
    let (input, _) = cut(token(TokenKind::LeftParen)).parse(input)?;
    if input.kind() == TokenKind::RightParen {
        return Ok((input.advance(), Vec::new()));
    }
    let (input, first) = nested(expression)(input)?;
    let mut args = vec![first];
    let mut input = input;
    while input.kind() == TokenKind::Comma {
        let comma = input.next();
        input = input.advance();
        if !may_start_expression(input.kind()) {
            return Err(input.refuse(comma.span, ParseErrorKind::TrailingComma));
        }
        let (rest, arg) = nested(expression)(input)?;
        args.push(arg);
        input = rest;
    }
    let (input, _) = cut(token(TokenKind::RightParen)).parse(input)?;
    Ok((input, args))
}

/// Whether an expression may start so. What the lexer refused counts, since its error is to be shown.
pub(super) fn may_start_expression(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Number
        | TokenKind::Duration
        | TokenKind::String
        | TokenKind::LeftParen
        | TokenKind::LeftBrace
        | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)
        | TokenKind::Invalid => true,
        kind => kind.is_metric_name(),
    }
}

/// An aggregation operator, its arguments, and its grouping before or after them.
fn aggregate(op: AggregateOp, input: Tokens<'_>) -> Parsed<'_, Tree<Expr>> {
    let (rest, (grouping, args)) = within("aggregation", "", aggregate_body)(input.advance())?;
    let span = input.span_to(&rest);
    check_arguments(op, args.len(), input.options().experimental_functions).map_err(|kind| {
        match grouping {
            Some(_) => input.refuse(span, kind),
            // A grouping might have followed.
            None => rest.refuse_after_next(span, kind),
        }
    })?;
    let tree = aggregate_of(op, &input, span, grouping.unwrap_or_default(), args)?;
    Ok((rest, tree))
}

fn aggregate_body(input: Tokens<'_>) -> Parsed<'_, (Option<Grouping>, Vec<Tree<Expr>>)> {
    let (rest, before) = opt(grouping_modifier).parse(input)?;
    let (rest, args) = arguments(rest)?;
    if before.is_some() {
        return Ok((rest, (before, args)));
    }
    let (rest, after) = opt(grouping_modifier).parse(rest)?;
    Ok((rest, (after, args)))
}

fn aggregate_of(
    op: AggregateOp,
    input: &Tokens<'_>,
    span: Span,
    grouping: Grouping,
    args: Vec<Tree<Expr>>,
) -> Result<Tree<Expr>, Refusal> {
    Tree::gather(args, input, span, |args| {
        let mut args = args.into_iter().map(Box::new).rev();
        let expr = args.next().expect("at least one argument was found");
        let Grouping { labels, without } = grouping;
        Expr::Aggregate(Aggregate { op, param: args.next(), expr, grouping: labels, without, span })
    })
}

fn check_arguments(op: AggregateOp, got: usize, experimental: bool) -> Result<(), ParseErrorKind> {
    if got == 0 {
        return Err(ParseErrorKind::NoAggregateArguments);
    }
    if matches!(op, AggregateOp::Limitk | AggregateOp::LimitRatio) && !experimental {
        return Err(ParseErrorKind::ExperimentalAggregate(op));
    }
    let expected = 1 + usize::from(op.takes_param());
    if got == expected { Ok(()) } else { Err(ParseErrorKind::AggregateArguments { expected, got }) }
}
