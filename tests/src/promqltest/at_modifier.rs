//! Pins the selectors of a query to a time, so that the query answers the same whenever it is asked.

use model::Timestamp;
use promql::ast::{At, Expr, TimeModifiers};

/// Functions whose result depends on the evaluation time even if their arguments do not, or that
/// look at the time of their argument.
const TIME_DEPENDENT: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// Gives every selector and subquery that has no fixed time the time `t`.
///
/// What is inside a subquery is left alone, since the subquery is pinned. Returns whether the result
/// depends on the evaluation time all the same.
pub(super) fn pin(expr: &mut Expr, t: Timestamp) -> bool {
    let mut time_dependent = false;
    let mut waiting = vec![expr];
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Vector(selector) => pin_time(&mut selector.time, t),
            Expr::Matrix(selector) => pin_time(&mut selector.vector.time, t),
            Expr::Subquery(subquery) => pin_time(&mut subquery.time, t),
            Expr::Aggregate(aggregate) => {
                waiting.push(&mut aggregate.expr);
                waiting.extend(aggregate.param.as_deref_mut());
            }
            Expr::Binary(binary) => waiting.extend([&mut *binary.left, &mut *binary.right]),
            Expr::Unary(unary) => waiting.push(&mut unary.expr),
            Expr::Paren(paren) => waiting.push(&mut paren.expr),
            Expr::Call(call) => {
                time_dependent |= TIME_DEPENDENT.contains(&call.function.name);
                waiting.extend(&mut call.args);
            }
        }
    }
    time_dependent
}

fn pin_time(time: &mut TimeModifiers, t: Timestamp) {
    if !matches!(time.at, Some(At::Time(_))) {
        time.at = Some(At::Time(t));
    }
}

/// Times at which a query pinned to `t` must give the same answer.
pub(super) fn other_times(t: Timestamp) -> Vec<Timestamp> {
    match t {
        0 => vec![-1000, 0, 1000],
        t => vec![-10 * t, 0, t / 5, t, 10 * t],
    }
}

#[cfg(test)]
mod tests {
    use promql::parse::{ParseOptions, parse};

    use super::*;

    fn check(query: &str, expected: &str, time_dependent: bool) {
        let mut expr = parse(query, &ParseOptions::default()).unwrap();
        assert_eq!(pin(&mut expr, 10_000), time_dependent, "{query}");
        assert_eq!(expr.to_string(), expected);
    }

    #[test]
    fn selectors_without_a_time_get_one() {
        check("a + b @ 5", "a @ 10.000 + b @ 5.000", false);
        check("rate(a[5m] offset 1m)", "rate(a[5m] @ 10.000 offset 1m)", false);
        check("sum(a @ start())", "sum(a @ 10.000)", false);
        check(
            "max_over_time(rate(a[1m])[5m:1m])",
            "max_over_time(rate(a[1m])[5m:1m] @ 10.000)",
            false,
        );
        check("topk(scalar(k), -(a))", "topk(scalar(k @ 10.000), -(a @ 10.000))", false);
    }

    #[test]
    fn functions_of_the_evaluation_time_are_noticed() {
        check("abs(timestamp(a))", "abs(timestamp(a @ 10.000))", true);
        check("time()", "time()", true);
    }
}
