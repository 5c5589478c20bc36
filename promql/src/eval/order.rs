//! In which order Prometheus evaluates the parts of a query, as far as it shows: of equal remarks the one that is made last counts.
//!
//! Here series stream through several operations at a time, so when a remark was made says nothing; where it was made does.

use foldhash::{HashMap, HashMapExt};

use crate::ast::{Expr, Span};

/// When what is remarked on is evaluated.
#[derive(Debug)]
pub(super) struct Order {
    /// By where a remark points: the number of the part that makes it.
    ranks: HashMap<Span, usize>,
}

enum Visit<'e> {
    Before(&'e Expr),
    After(&'e Expr),
}

impl Order {
    /// The order for a whole query.
    pub(super) fn of(expr: &Expr) -> Self {
        let mut order = Self { ranks: HashMap::new() };
        let mut waiting = vec![Visit::Before(expr)];
        let mut evaluated = 0;
        while let Some(visit) = waiting.pop() {
            match visit {
                Visit::Before(expr) => {
                    waiting.push(Visit::After(expr));
                    push_operands(&mut waiting, expr);
                }
                Visit::After(expr) => {
                    order.note(expr, evaluated);
                    evaluated += 1;
                }
            }
        }
        order
    }

    /// The number of the part that remarks at `span`: the later it is evaluated, the greater.
    pub(super) fn rank(&self, span: Span) -> usize {
        self.ranks.get(&span).copied().unwrap_or_default()
    }

    /// Calls and aggregations point at their arguments rather than at themselves.
    fn note(&mut self, expr: &Expr, rank: usize) {
        self.ranks.insert(expr.span(), rank);
        if !matches!(expr, Expr::Call(_) | Expr::Aggregate(_)) {
            return;
        }
        for argument in expr.children() {
            let inner = argument.unwrap_parens();
            self.ranks.insert(argument.span(), rank);
            self.ranks.insert(inner.span(), rank);
            match inner {
                Expr::Matrix(selector) => {
                    self.ranks.insert(selector.vector.span, rank);
                }
                Expr::Subquery(subquery) => {
                    self.ranks.insert(subquery.span.before(), rank);
                }
                _ => {}
            }
        }
    }
}

/// Puts the operands of `expr` on the stack, of which the last is taken first.
fn push_operands<'e>(waiting: &mut Vec<Visit<'e>>, expr: &'e Expr) {
    match expr {
        Expr::Aggregate(aggregate) => {
            waiting.push(Visit::Before(&aggregate.expr));
            waiting.extend(aggregate.param.as_deref().map(Visit::Before));
        }
        Expr::Call(call) => {
            let is_subquery = |arg: &&Expr| matches!(arg.unwrap_parens(), Expr::Subquery(_));
            let others = call.args.iter().filter(|arg| !is_subquery(arg)).rev();
            waiting.extend(others.map(Visit::Before));
            waiting.extend(call.args.iter().rev().filter(is_subquery).map(Visit::Before));
        }
        _ => waiting.extend(expr.children().rev().map(Visit::Before)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{ParseOptions, parse};

    /// What is written in capitals, by when remarks at it are made.
    fn check(query: &str, expected: &str) {
        let expr = parse(query, &ParseOptions::all()).unwrap();
        let order = Order::of(&expr);
        let mut parts: Vec<(usize, &str)> = Vec::new();
        for expr in expr.descendants() {
            let text = &query[expr.span().start..expr.span().end];
            if text.starts_with(|c: char| c.is_ascii_uppercase()) && !text.contains(' ') {
                parts.push((order.rank(expr.span()), text));
            }
        }
        parts.sort_unstable();
        let parts: Vec<&str> = parts.into_iter().map(|(_, text)| text).collect();
        assert_eq!(parts.join(" "), expected, "{query}");
    }

    #[test]
    fn arguments_come_from_left_to_right_and_subqueries_first() {
        check("sum(A) + sum(B)", "A B");
        check("clamp(sum(A), scalar(sum(B)), scalar(sum(C)))", "A B C");
        check("quantile(scalar(sum(P)), sum(A))", "P A");
        check("quantile_over_time(scalar(sum(P)), rate(A[5m])[5m:1m])", "A[5m] P");
        check("predict_linear(rate(A[5m])[5m:1m], scalar(sum(P)))", "A[5m] P");
        check("scalar(sum(P)) * sum(A)", "P A");
    }
}
