//! Durations that the query computes.

use crate::ast::{BinaryOp, DurationExpr, DurationKind, Expr, Span, TimeModifiers};
use crate::eval::arithmetic::{go_max, go_min};
use crate::eval::failure::InvalidQuery;

/// Largest number of seconds either way: what fits in 63 bits of nanoseconds.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

/// What durations may refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationContext {
    /// Step of the query in seconds.
    pub(super) step: f64,
    /// End minus start of the query in seconds.
    pub(super) range: f64,
}

impl DurationContext {
    /// Whether all durations in `expr` compute. Of several that do not, the one that is found first is reported: from above to below, the
    /// aggregated before the parameter.
    pub(super) fn check(self, expr: &Expr) -> Result<(), InvalidQuery> {
        let offset = |time: &TimeModifiers| match &time.offset {
            Some(offset) => self.signed(offset).map(|_| ()),
            None => Ok(()),
        };
        for part in expr.descendants() {
            match part {
                Expr::Vector(selector) => offset(&selector.time)?,
                Expr::Matrix(selector) => {
                    self.positive(&selector.range)?;
                    offset(&selector.vector.time)?;
                }
                Expr::Subquery(subquery) => {
                    offset(&subquery.time)?;
                    if let Some(step) = &subquery.step {
                        self.positive(step)?;
                    }
                    self.positive(&subquery.range)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A duration that must be positive, in milliseconds.
    pub(super) fn positive(self, expr: &DurationExpr) -> Result<i64, InvalidQuery> {
        let seconds = self.seconds(expr)?;
        if seconds <= 0.0 {
            return fail(expr, "duration must be greater than 0");
        }
        Ok(milliseconds(expr, seconds))
    }

    /// A duration of either sign, in milliseconds.
    pub(super) fn signed(self, expr: &DurationExpr) -> Result<i64, InvalidQuery> {
        self.seconds(expr).map(|seconds| milliseconds(expr, seconds))
    }

    fn seconds(self, expr: &DurationExpr) -> Result<f64, InvalidQuery> {
        let seconds = self.evaluate(expr)?;
        if !seconds.is_finite() {
            return fail(expr, "duration is NaN or infinite");
        }
        if seconds.abs() > SECONDS_MAX {
            return fail(expr, "duration is out of range");
        }
        Ok(seconds)
    }

    fn evaluate(self, expr: &DurationExpr) -> Result<f64, InvalidQuery> {
        Ok(match &expr.kind {
            DurationKind::Seconds(number) | DurationKind::Number(number) => *number,
            DurationKind::Step => self.step,
            DurationKind::Range => self.range,
            DurationKind::Negate(inner) => -self.evaluate(inner)?,
            DurationKind::Paren(inner) => self.evaluate(inner)?,
            DurationKind::Min(a, b) => go_min(self.evaluate(a)?, self.evaluate(b)?),
            DurationKind::Max(a, b) => go_max(self.evaluate(a)?, self.evaluate(b)?),
            DurationKind::Binary { op, left, right } => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                match op {
                    BinaryOp::Div if right == 0.0 => return fail(expr, "division by zero"),
                    BinaryOp::Mod if right == 0.0 => return fail(expr, "modulo by zero"),
                    op => crate::eval::arithmetic::scalars(*op, left, right),
                }
            }
        })
    }
}

fn fail<T>(expr: &DurationExpr, reason: &'static str) -> Result<T, InvalidQuery> {
    Err(InvalidQuery::Duration { span: operands(expr), reason })
}

/// From the first to the last of a duration's operands: Prometheus's errors leave out parentheses and the
/// names of functions that take operands.
fn operands(expr: &DurationExpr) -> Span {
    match &expr.kind {
        DurationKind::Seconds(_)
        | DurationKind::Number(_)
        | DurationKind::Step
        | DurationKind::Range => expr.span,
        DurationKind::Negate(inner) => Span { start: expr.span.start, end: operands(inner).end },
        DurationKind::Paren(inner) => match inner.kind {
            // A literal in parentheses is an operation without a left operand, which starts where it does.
            DurationKind::Seconds(_) | DurationKind::Number(_) => {
                Span { start: expr.span.start, end: inner.span.end }
            }
            _ => operands(inner),
        },
        DurationKind::Min(left, right)
        | DurationKind::Max(left, right)
        | DurationKind::Binary { left, right, .. } => {
            Span { start: operands(left).start, end: operands(right).end }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be in range; fractions are cut off"
)]
fn milliseconds(expr: &DurationExpr, seconds: f64) -> i64 {
    match expr.kind {
        // By way of whole nanoseconds, as 1.001 s times 1000 is a little less than 1001.
        DurationKind::Seconds(_) | DurationKind::Number(_) => {
            ((seconds * 1e9).round() / 1e6) as i64
        }
        // What is computed is cut off as it comes, in Prometheus as here: 1.001 + 0 is a second.
        _ => (seconds * 1000.0) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(kind: DurationKind) -> DurationExpr {
        DurationExpr { kind, span: Span { start: 2, end: 9 } }
    }

    fn seconds(v: f64) -> Box<DurationExpr> {
        Box::new(duration(DurationKind::Seconds(v)))
    }

    fn check(kind: DurationKind, expected: Result<i64, &str>) {
        let context = DurationContext { step: 15.0, range: 3600.0 };
        let got = context.positive(&duration(kind)).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(String::from));
    }

    #[test]
    fn durations_compute() {
        check(DurationKind::Seconds(300.0), Ok(300_000));
        check(DurationKind::Step, Ok(15_000));
        check(
            DurationKind::Max(seconds(5.0), Box::new(duration(DurationKind::Range))),
            Ok(3_600_000),
        );
        let op = |op, left, right| DurationKind::Binary { op, left, right };
        check(op(BinaryOp::Mul, seconds(5.0), seconds(0.5)), Ok(2500));
        check(
            op(BinaryOp::Sub, seconds(5.0), seconds(5.0)),
            Err("2:9: duration must be greater than 0"),
        );
        check(op(BinaryOp::Div, seconds(5.0), seconds(0.0)), Err("2:9: division by zero"));
        check(
            op(BinaryOp::Pow, seconds(10.0), seconds(400.0)),
            Err("2:9: duration is NaN or infinite"),
        );
        check(
            op(BinaryOp::Pow, seconds(10.0), seconds(12.0)),
            Err("2:9: duration is out of range"),
        );
    }

    /// What becomes of the offset of a selector, at steps of 15 s over an hour.
    fn offset(query: &str) -> Result<i64, String> {
        let context = DurationContext { step: 15.0, range: 3600.0 };
        let parsed = crate::parse::parse(query, &crate::parse::ParseOptions::all()).unwrap();
        match parsed {
            crate::ast::Expr::Vector(e) => context.signed(e.time.offset.as_ref().unwrap()),
            crate::ast::Expr::Matrix(e) => context.positive(&e.range),
            other => panic!("{other:?}"),
        }
        .map_err(|error| error.to_string())
    }

    #[test]
    fn only_literals_are_rounded() {
        for (query, ms) in [
            ("a offset 1.001", 1001),
            ("a offset -1.001", -1001),
            ("a offset (1.001+0)", 1000),
            ("a offset (1.005+0)", 1004),
            ("a[1.001+0]", 1000),
            ("a[1001ms]", 1001),
        ] {
            assert_eq!(offset(query), Ok(ms), "{query}");
        }
    }

    #[test]
    fn the_error_that_is_found_first_from_above_is_reported() {
        let context = DurationContext { step: 15.0, range: 3600.0 };
        for (query, place) in [
            ("topk(scalar(rate(foo[1m-2m])), rate(foo[1m-3m]))", "40:45"),
            ("foo[1m-2m] offset (1/(1-1))", "4:9"),
            ("sum_over_time(foo[1m-2m:1m-3m] offset (1/(1-1)))", "39:45"),
            ("sum_over_time(sum_over_time(foo[1m-2m])[1m-3m:])", "40:45"),
            ("rate(foo[1m-2m]) + foo offset (1/(1-1))", "9:14"),
        ] {
            let expr = crate::parse::parse(query, &crate::parse::ParseOptions::all()).unwrap();
            let error = context.check(&expr).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{place}: ")), "{query}: {error}");
        }
    }

    #[test]
    fn errors_tell_from_the_first_operand_to_the_last() {
        for (query, place) in [
            ("foo[(5m-10m)]", "5:11"),
            ("foo[-(5m)]", "4:8"),
            ("foo[5m-(10m)]", "4:11"),
            ("foo[min_of(5m,-1m)]", "11:17"),
            ("foo[max_of(1m,2m)-5m]", "11:20"),
            ("foo[-max_of(1m,2m)]", "4:17"),
            ("foo[(5m-5m)*2]", "5:13"),
            ("foo[5m/(1-1)]", "4:11"),
            ("foo offset (5m/(1-1))", "12:19"),
            ("foo offset -(2^400)", "11:18"),
            ("foo offset (2^400)", "12:17"),
        ] {
            let error = offset(query).unwrap_err();
            assert!(error.starts_with(&format!("{place}: ")), "{query}: {error}");
        }
    }
}
