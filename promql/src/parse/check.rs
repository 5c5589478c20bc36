//! Types: which operands, arguments and modifiers fit together.
//!
//! Also settles what depends on types: only pairs of vectors are matched. Left operands are taken in a
//! loop, so that recursion is no deeper than the nesting of the query.

use model::{METRIC_NAME, Matcher};

use super::error::{Bound, ParseError, ParseErrorKind, Place};
use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Function, Span, ValueType,
    VectorMatching, VectorSelector,
};

/// Most errors that are collected.
const ERRORS_MAX: usize = 100;

/// Checks a tree whose shape is sound; gives all faults, in the order of the query's parts.
pub(super) fn check(query: &str, expr: &mut Expr) -> Vec<ParseError> {
    let mut checker = Checker { query, errors: Vec::new() };
    checker.expr(expr);
    checker.errors
}

struct Checker<'q> {
    query: &'q str,
    errors: Vec<ParseError>,
}

/// A binary node without its left operand.
struct Right<'e> {
    op: BinaryOp,
    right: &'e mut Expr,
    return_bool: bool,
    matching: &'e mut Option<VectorMatching>,
    left_span: Span,
    span: Span,
}

impl Checker<'_> {
    fn refuse(&mut self, span: Span, kind: ParseErrorKind) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ParseError::new(self.query, span, kind));
        }
    }

    fn expr(&mut self, expr: &mut Expr) -> ValueType {
        match expr {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(selector) => {
                self.selector(selector);
                ValueType::Vector
            }
            Expr::Matrix(selector) => {
                self.selector(&selector.vector);
                ValueType::Matrix
            }
            Expr::Subquery(subquery) => {
                let found = self.expr(&mut subquery.expr);
                if found != ValueType::Vector {
                    self.refuse(subquery.span, ParseErrorKind::SubqueryOperand(found));
                }
                ValueType::Matrix
            }
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Unary(unary) => {
                let found = self.expr(&mut unary.expr);
                if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                    self.refuse(unary.span, ParseErrorKind::UnaryOperand(found));
                }
                found
            }
            Expr::Paren(paren) => self.expr(&mut paren.expr),
            Expr::Call(call) => self.call(call),
        }
    }

    fn expect(&mut self, expr: &mut Expr, expected: ValueType, place: Place) {
        let got = self.expr(expr);
        if got != expected {
            self.refuse(expr.span(), ParseErrorKind::Type { expected, place, got });
        }
    }

    fn aggregate(&mut self, aggregate: &mut Aggregate) -> ValueType {
        self.expect(&mut aggregate.expr, ValueType::Vector, Place::Aggregated);
        if let Some(param) = &mut aggregate.param {
            let expected = if aggregate.op == AggregateOp::CountValues {
                ValueType::String
            } else {
                ValueType::Scalar
            };
            self.expect(param, expected, Place::AggregateParameter);
        }
        ValueType::Vector
    }

    /// Checks a chain of operators that lean to the left, from its first operand on.
    fn binary(&mut self, top: &mut Binary) -> ValueType {
        let mut chain = Vec::new();
        let mut next = top;
        let mut left_type = loop {
            let Binary { op, left, right, return_bool, matching, span } = next;
            let (left_span, span) = (left.span(), *span);
            let (op, return_bool) = (*op, *return_bool);
            chain.push(Right { op, right, return_bool, matching, left_span, span });
            match &mut **left {
                Expr::Binary(left) => next = left,
                first => break self.expr(first),
            }
        };
        for right in chain.into_iter().rev() {
            left_type = self.operation(left_type, right);
        }
        left_type
    }

    fn operation(&mut self, left: ValueType, node: Right<'_>) -> ValueType {
        let Right { op, right, return_bool, matching, left_span, span } = node;
        let right_span = right.span();
        let right = self.expr(right);
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        let op_span = self.between(left_span, right_span);
        if return_bool && !op.is_comparison() {
            self.refuse(op_span, ParseErrorKind::BoolOfOther);
        }
        if op.is_comparison() && !return_bool && scalars {
            self.refuse(op_span, ParseErrorKind::ScalarComparison);
        }
        if let Some(label) = matching.as_ref().and_then(matched_and_included) {
            self.refuse(op_span, ParseErrorKind::LabelOnAndGroup(label));
        }
        for (operand, at) in [(left, left_span), (right, right_span)] {
            if !matches!(operand, ValueType::Scalar | ValueType::Vector) {
                self.refuse(at, ParseErrorKind::BinaryOperand);
            }
        }
        if left != ValueType::Vector || right != ValueType::Vector {
            if let Some(matching) = matching.take() {
                self.unmatched(span, &matching);
            }
        } else if let Some(matching) = matching.as_ref().filter(|_| op.is_set()) {
            self.set_matching(span, op, matching);
        }
        if (left == ValueType::Scalar || right == ValueType::Scalar) && op.is_set() {
            self.refuse(span, ParseErrorKind::SetOfScalar(op));
        }
        if scalars { ValueType::Scalar } else { ValueType::Vector }
    }

    /// The matching of operands that are not both vectors has to be empty.
    fn unmatched(&mut self, span: Span, matching: &VectorMatching) {
        if !matching.labels.is_empty() {
            self.refuse(span, ParseErrorKind::MatchingOfScalar);
        }
        if fills(matching) {
            self.refuse(span, ParseErrorKind::FillOfScalar);
        }
    }

    fn set_matching(&mut self, span: Span, op: BinaryOp, matching: &VectorMatching) {
        if matching.cardinality != Cardinality::ManyToMany {
            self.refuse(span, ParseErrorKind::GroupingOfSet(op));
            self.refuse(span, ParseErrorKind::SetCardinality);
        }
        if fills(matching) {
            self.refuse(span, ParseErrorKind::FillOfSet);
        }
    }

    /// What stands between two operands, without the white space around it.
    fn between(&self, left: Span, right: Span) -> Span {
        let text = self.query.get(left.end..right.start).unwrap_or_default();
        let start = left.end + (text.len() - text.trim_start().len());
        Span { start, end: start + text.trim().len() }
    }

    fn call(&mut self, call: &mut Call) -> ValueType {
        let function = call.function;
        if let Some((at, expected)) = bad_count(function, call.args.len()) {
            let (function, got) = (function.name, call.args.len());
            self.refuse(call.span, ParseErrorKind::Arguments { at, expected, function, got });
        }
        if function.name == "info"
            && let Some(selector) = call.args.get(1)
        {
            self.info_selector(call.span, selector);
        }
        for (at, arg) in call.args.iter_mut().enumerate() {
            // Further arguments are like the last that the function names.
            let last = if function.variadic == 0 { None } else { function.args.last() };
            let Some(expected) = function.args.get(at).or(last) else { break };
            if function.name == "info" && at == 1 && matches!(arg, Expr::Vector(_)) {
                // It narrows down the info series that fit, so it may be empty.
                continue;
            }
            self.expect(arg, *expected, Place::Argument(function.name));
        }
        function.returns
    }

    /// The second argument of `info` selects by labels and has no metric name in front.
    fn info_selector(&mut self, call: Span, selector: &Expr) {
        let got = selector.value_type();
        if got != ValueType::Vector {
            let (expected, place) = (ValueType::Vector, Place::Argument("info"));
            self.refuse(call, ParseErrorKind::Type { expected, place, got });
        }
        match selector {
            Expr::Vector(VectorSelector { name: None, .. }) => {}
            Expr::Vector(selector) => self.refuse(selector.span, ParseErrorKind::NamedInfoSelector),
            other => self.refuse(other.span(), ParseErrorKind::InfoSelector),
        }
    }

    fn selector(&mut self, selector: &VectorSelector) {
        let Some(name) = &selector.name else {
            // Without this, a mistyped selector would read every series there is.
            if !selects(&selector.matchers) {
                self.refuse(selector.span, ParseErrorKind::EmptySelector);
            }
            return;
        };
        // The last is the matcher made of the name in front.
        let inside = selector.matchers.split_last().map_or(&[][..], |(_, inside)| inside);
        for other in inside.iter().filter(|matcher| matcher.name() == METRIC_NAME) {
            let (name, other) = (name.clone(), String::from(other.value()));
            self.refuse(selector.span, ParseErrorKind::RepeatedName(name, other));
        }
    }
}

/// Whether some series are not selected, be it only the one without labels.
pub(super) fn selects(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|matcher| !matcher.matches(""))
}

const fn fills(matching: &VectorMatching) -> bool {
    matching.fill_left.is_some() || matching.fill_right.is_some()
}

/// A label that `on` matches and `group_left` or `group_right` would copy.
fn matched_and_included(matching: &VectorMatching) -> Option<String> {
    let twice = |label: &&String| matching.include.contains(label);
    matching.labels.iter().find(twice).filter(|_| matching.on).cloned()
}

/// How many arguments there should be, when there are not `got`.
fn bad_count(function: &Function, got: usize) -> Option<(Bound, usize)> {
    let named = function.args.len();
    if function.variadic == 0 {
        return (got != named).then_some((Bound::Exactly, named));
    }
    let least = named - 1;
    if got < least {
        return Some((Bound::Least, least));
    }
    let most = least + usize::try_from(function.variadic).ok()?;
    (got > most).then_some((Bound::Most, most))
}
