//! Durations that the query computes.

use crate::ast::{BinaryOp, DurationExpr, DurationKind, Span};
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
    /// A duration that must be positive, in milliseconds.
    pub(super) fn positive(self, expr: &DurationExpr) -> Result<i64, InvalidQuery> {
        let seconds = self.seconds(expr)?;
        if seconds <= 0.0 {
            return fail(expr.span, "duration must be greater than 0");
        }
        Ok(milliseconds(seconds))
    }

    /// A duration of either sign, in milliseconds.
    pub(super) fn signed(self, expr: &DurationExpr) -> Result<i64, InvalidQuery> {
        self.seconds(expr).map(milliseconds)
    }

    fn seconds(self, expr: &DurationExpr) -> Result<f64, InvalidQuery> {
        let seconds = self.evaluate(expr)?;
        if !seconds.is_finite() {
            return fail(expr.span, "duration is NaN or infinite");
        }
        if seconds.abs() > SECONDS_MAX {
            return fail(expr.span, "duration is out of range");
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
                    BinaryOp::Div if right == 0.0 => return fail(expr.span, "division by zero"),
                    BinaryOp::Mod if right == 0.0 => return fail(expr.span, "modulo by zero"),
                    op => crate::eval::arithmetic::scalars(*op, left, right),
                }
            }
        })
    }
}

fn fail<T>(span: Span, reason: &'static str) -> Result<T, InvalidQuery> {
    Err(InvalidQuery::Duration { span, reason })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be in range; fractions are cut off"
)]
fn milliseconds(seconds: f64) -> i64 {
    // By way of whole nanoseconds, as 1.001 s times 1000 is a little less than 1001.
    ((seconds * 1e9).round() / 1e6) as i64
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
}
