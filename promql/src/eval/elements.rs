//! Operations on two samples of which at least one is a native histogram.

use std::sync::Arc;

use model::{CounterReset, FloatHistogram, Trim};

use super::annotations::{Annotation, Kind, Operation};
use super::arithmetic::Combination;
use super::row::{Cell, OwnedCell};
use crate::ast::BinaryOp;

/// Why two samples have no result, or what is to be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remark {
    /// The operator has no meaning for samples of these kinds.
    Types(Kind, Kind),
    /// One has exponential, the other custom buckets.
    Layout,
    /// One follows a counter reset, the other does not.
    ResetCollision(Operation),
    /// Custom bounds differed.
    BoundsReconciled(Operation),
}

impl Remark {
    /// The remark about `op`.
    pub(super) fn annotation(self, op: BinaryOp) -> Annotation<'static> {
        let operator = op.as_str();
        match self {
            Self::Types(left, right) => Annotation::IncompatibleTypes { left, operator, right },
            Self::Layout => Annotation::IncompatibleLayout { operator },
            Self::ResetCollision(operation) => Annotation::ResetCollision(operation),
            Self::BoundsReconciled(operation) => Annotation::BoundsReconciled(operation),
        }
    }
}

/// A result, perhaps filtered away by a comparison, and what is to be said about it.
#[derive(Debug)]
pub(super) struct Element {
    /// `None` if a comparison does not hold.
    pub(super) value: Option<OwnedCell>,
    /// About the result.
    pub(super) remark: Option<Remark>,
}

impl Combination {
    /// `left op right`. Two floats are left to [`rows`](Self::rows).
    ///
    /// # Errors
    /// A [`Remark`] when there is no result.
    pub(super) fn cells(self, left: Cell<'_>, right: Cell<'_>) -> Result<Element, Remark> {
        match (left, right) {
            (Cell::Float(_), Cell::Float(_)) => Err(Remark::Types(Kind::Float, Kind::Float)),
            (Cell::Float(factor), Cell::Histogram(histogram)) => match self.op {
                BinaryOp::Mul => Ok(changed(histogram, |h| h.multiply(factor))),
                _ => Err(Remark::Types(Kind::Float, Kind::Histogram)),
            },
            (Cell::Histogram(histogram), Cell::Float(v)) => match self.op {
                BinaryOp::Mul => Ok(changed(histogram, |h| h.multiply(v))),
                BinaryOp::Div => Ok(changed(histogram, |h| h.divide(v))),
                BinaryOp::TrimUpper => Ok(trimmed(histogram, v, Trim::KeepBelow)),
                BinaryOp::TrimLower => Ok(trimmed(histogram, v, Trim::KeepAbove)),
                _ => Err(Remark::Types(Kind::Histogram, Kind::Float)),
            },
            (Cell::Histogram(left), Cell::Histogram(right)) => self.histograms(left, right),
        }
    }

    fn histograms(
        self,
        left: &Arc<FloatHistogram>,
        right: &Arc<FloatHistogram>,
    ) -> Result<Element, Remark> {
        match self.op {
            BinaryOp::Add | BinaryOp::Sub => {
                let mut result = FloatHistogram::clone(left);
                let (combined, operation) = if self.op == BinaryOp::Add {
                    (result.add(right), Operation::Addition)
                } else {
                    let combined = result.subtract(right);
                    // What is left of a counter may be negative.
                    result.counter_reset = CounterReset::Gauge;
                    (combined, Operation::Subtraction)
                };
                let combined = combined.map_err(|_| Remark::Layout)?;
                if combined.reset_collision {
                    // Prometheus has no result then but this warning.
                    return Err(Remark::ResetCollision(operation));
                }
                result.compact(0);
                let remark =
                    combined.bounds_reconciled.then_some(Remark::BoundsReconciled(operation));
                Ok(Element { value: Some(result.into()), remark })
            }
            BinaryOp::Equal => Ok(self.compared(left.equals(right), left)),
            BinaryOp::NotEqual => Ok(self.compared(!left.equals(right), left)),
            _ => Err(Remark::Types(Kind::Histogram, Kind::Histogram)),
        }
    }

    fn compared(self, holds: bool, kept: &Arc<FloatHistogram>) -> Element {
        let value = if self.return_bool {
            Some(OwnedCell::Float(f64::from(u8::from(holds))))
        } else {
            holds.then(|| OwnedCell::Histogram(Arc::clone(kept)))
        };
        Element { value, remark: None }
    }
}

fn changed(histogram: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> Element {
    let mut result = histogram.clone();
    change(&mut result);
    result.compact(0);
    Element { value: Some(result.into()), remark: None }
}

fn trimmed(histogram: &FloatHistogram, at: f64, trim: Trim) -> Element {
    let mut result = histogram.clone();
    result.trim(at, trim);
    Element { value: Some(result.into()), remark: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: f64) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram { count, sum: 2.0 * count, ..FloatHistogram::default() })
    }

    /// The count of the resulting histogram, or the resulting float.
    fn check(op: BinaryOp, left: Cell<'_>, right: Cell<'_>, expected: Result<f64, Remark>) {
        let combination = Combination { op, return_bool: false, keeps_right: false };
        let got = combination.cells(left, right).map(|element| match element.value {
            Some(OwnedCell::Histogram(histogram)) => histogram.count,
            Some(OwnedCell::Float(v)) => v,
            None => f64::NAN,
        });
        match (got, expected) {
            (Ok(got), Ok(expected)) => {
                assert!(got == expected || got.is_nan() && expected.is_nan());
            }
            (got, expected) => assert_eq!(got, expected, "{op:?}"),
        }
    }

    #[test]
    fn kinds_decide_what_an_operator_means() {
        let (two, three) = (of(2.0), of(3.0));
        let (a, b) = (Cell::Histogram(&two), Cell::Histogram(&three));
        let float = Cell::Float(4.0);
        let (f, h) = (Kind::Float, Kind::Histogram);
        check(BinaryOp::Add, a, b, Ok(5.0));
        check(BinaryOp::Sub, a, b, Ok(-1.0));
        check(BinaryOp::Mul, a, float, Ok(8.0));
        check(BinaryOp::Mul, float, a, Ok(8.0));
        check(BinaryOp::Div, a, float, Ok(0.5));
        check(BinaryOp::Equal, a, a, Ok(2.0));
        check(BinaryOp::Equal, a, b, Ok(f64::NAN));
        check(BinaryOp::NotEqual, a, b, Ok(2.0));
        check(BinaryOp::Div, float, a, Err(Remark::Types(f, h)));
        check(BinaryOp::Add, a, float, Err(Remark::Types(h, f)));
        check(BinaryOp::Mul, a, b, Err(Remark::Types(h, h)));
        check(BinaryOp::Less, a, b, Err(Remark::Types(h, h)));
    }

    #[test]
    fn contradicting_resets_have_no_sum() {
        let with = |counter_reset| Arc::new(FloatHistogram { counter_reset, ..(*of(1.0)).clone() });
        let (reset, none) = (with(CounterReset::Reset), with(CounterReset::NotReset));
        let expected = Err(Remark::ResetCollision(Operation::Addition));
        check(BinaryOp::Add, Cell::Histogram(&reset), Cell::Histogram(&none), expected);
    }
}
