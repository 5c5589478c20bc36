//! Arithmetic and comparison of floats, one pair or two rows at a time.

use super::block::{ABSENT, is_present};
use crate::ast::BinaryOp;
use crate::go_math;

/// Go's `math.Max`: infinity beats NaN, NaN beats the rest, +0 beats −0.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: −infinity beats NaN, NaN beats the rest, −0 beats +0.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

/// 1 for true, 0 for false.
const fn number(truth: bool) -> f64 {
    if truth { 1.0 } else { 0.0 }
}

/// `a op b` of two scalars; comparisons give 0 or 1. Operators that cut histograms are not for scalars.
pub(super) fn scalars(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Equal => number(a == b),
        BinaryOp::NotEqual => number(a != b),
        BinaryOp::Less => number(a < b),
        BinaryOp::LessOrEqual => number(a <= b),
        BinaryOp::Greater => number(a > b),
        BinaryOp::GreaterOrEqual => number(a >= b),
        op => calculate(op, a, b),
    }
}

/// `a op b` for operators that are neither comparisons nor about sets; there is no result of cutting floats
/// as if they were histograms.
fn calculate(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => go_math::pow(a, b),
        BinaryOp::Atan2 => go_math::atan2(a, b),
        _ => ABSENT,
    }
}

/// Whether the result no longer is the metric that the operands were.
pub(super) const fn changes_metric(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_set() && !trims(op)
}

/// Whether `op` cuts histograms, and so gives nothing for floats.
pub(super) const fn trims(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// How samples of two operands combine, at least one of which is a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Combination {
    /// The operator.
    pub(super) op: BinaryOp,
    /// Comparisons give 0 or 1 instead of filtering.
    pub(super) return_bool: bool,
    /// A comparison that holds keeps its right operand, not its left one.
    pub(super) keeps_right: bool,
}

impl Combination {
    /// Puts `left op right` into `out` at the steps at which both have a sample and the result is kept;
    /// leaves the other steps alone. The operation is chosen once, so that each loop has one in it.
    pub(super) fn rows(self, left: &[f64], right: &[f64], out: &mut [f64]) {
        match self.op {
            BinaryOp::Add => zip(left, right, out, |a, b| a + b),
            BinaryOp::Sub => zip(left, right, out, |a, b| a - b),
            BinaryOp::Mul => zip(left, right, out, |a, b| a * b),
            BinaryOp::Div => zip(left, right, out, |a, b| a / b),
            BinaryOp::Equal => self.compare(left, right, out, |a, b| a == b),
            BinaryOp::NotEqual => self.compare(left, right, out, |a, b| a != b),
            BinaryOp::Less => self.compare(left, right, out, |a, b| a < b),
            BinaryOp::LessOrEqual => self.compare(left, right, out, |a, b| a <= b),
            BinaryOp::Greater => self.compare(left, right, out, |a, b| a > b),
            BinaryOp::GreaterOrEqual => self.compare(left, right, out, |a, b| a >= b),
            op => zip(left, right, out, |a, b| calculate(op, a, b)),
        }
    }

    fn compare(
        self,
        left: &[f64],
        right: &[f64],
        out: &mut [f64],
        holds: impl Fn(f64, f64) -> bool,
    ) {
        if self.return_bool {
            zip(left, right, out, |a, b| number(holds(a, b)));
        } else if self.keeps_right {
            zip(left, right, out, |a, b| if holds(a, b) { b } else { ABSENT });
        } else {
            zip(left, right, out, |a, b| if holds(a, b) { a } else { ABSENT });
        }
    }
}

/// A comparison with a number that samples have to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Filter {
    /// The comparison, a sample on its left.
    op: BinaryOp,
    with: f64,
}

impl Filter {
    /// The filter that `sample op with` is, or (`mirrored`) `with op sample`; `None` if `op` is not a comparison.
    pub(super) const fn new(op: BinaryOp, with: f64, mirrored: bool) -> Option<Self> {
        let op = match (op, mirrored) {
            (BinaryOp::Less, true) => BinaryOp::Greater,
            (BinaryOp::LessOrEqual, true) => BinaryOp::GreaterOrEqual,
            (BinaryOp::Greater, true) => BinaryOp::Less,
            (BinaryOp::GreaterOrEqual, true) => BinaryOp::LessOrEqual,
            (op, _) if op.is_comparison() => op,
            _ => return None,
        };
        Some(Self { op, with })
    }

    /// Whether any sample of a row of floats passes.
    pub(super) fn passes_any(self, row: &[f64]) -> bool {
        let with = self.with;
        let any =
            |passes: fn(f64, f64) -> bool| row.iter().any(|v| is_present(*v) && passes(*v, with));
        match self.op {
            BinaryOp::Equal => any(|v, with| v == with),
            BinaryOp::NotEqual => any(|v, with| v != with),
            BinaryOp::Less => any(|v, with| v < with),
            BinaryOp::LessOrEqual => any(|v, with| v <= with),
            BinaryOp::Greater => any(|v, with| v > with),
            BinaryOp::GreaterOrEqual => any(|v, with| v >= with),
            _ => true,
        }
    }
}

fn zip(left: &[f64], right: &[f64], out: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    for ((&a, &b), out) in left.iter().zip(right).zip(out) {
        if is_present(a) && is_present(b) {
            let result = f(a, b);
            if is_present(result) {
                *out = result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::block::is_absent;

    fn same(a: f64, b: f64) -> bool {
        (a.is_nan() && b.is_nan()) || a.to_bits() == b.to_bits()
    }

    #[test]
    fn extremes_follow_go() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for (a, b, max, min) in [
            (1.0, 2.0, 2.0, 1.0),
            (nan, 1.0, nan, nan),
            (nan, inf, inf, nan),
            (nan, -inf, nan, -inf),
            (0.0, -0.0, 0.0, -0.0),
            (-0.0, -0.0, -0.0, -0.0),
        ] {
            assert!(same(go_max(a, b), max) && same(go_max(b, a), max), "max of {a} and {b}");
            assert!(same(go_min(a, b), min) && same(go_min(b, a), min), "min of {a} and {b}");
        }
    }

    fn check(op: BinaryOp, return_bool: bool, keeps_right: bool, expected: [f64; 4]) {
        let mut out = [ABSENT; 4];
        let combination = Combination { op, return_bool, keeps_right };
        combination.rows(&[1.0, 5.0, ABSENT, 3.0], &[2.0, 4.0, 1.0, ABSENT], &mut out);
        for (got, expected) in out.iter().zip(expected) {
            assert!(
                same(*got, expected) && is_absent(*got) == is_absent(expected),
                "{combination:?} gave {out:?}"
            );
        }
    }

    #[test]
    fn rows_combine_where_both_have_samples() {
        check(BinaryOp::Add, false, false, [3.0, 9.0, ABSENT, ABSENT]);
        check(BinaryOp::Less, false, false, [1.0, ABSENT, ABSENT, ABSENT]);
        check(BinaryOp::Less, false, true, [2.0, ABSENT, ABSENT, ABSENT]);
        check(BinaryOp::Less, true, false, [1.0, 0.0, ABSENT, ABSENT]);
        check(BinaryOp::TrimLower, false, false, [ABSENT; 4]);
    }

    #[test]
    fn filters_are_comparisons_that_keep_something() {
        let values = [1.0, 2.0, 3.0, -0.0, 0.0, f64::NAN, f64::INFINITY, ABSENT];
        let comparisons = [
            BinaryOp::Equal,
            BinaryOp::NotEqual,
            BinaryOp::Less,
            BinaryOp::LessOrEqual,
            BinaryOp::Greater,
            BinaryOp::GreaterOrEqual,
        ];
        for (op, v) in comparisons.iter().flat_map(|op| values.iter().map(move |v| (*op, *v))) {
            for with in [0.0, 2.0, f64::NAN, f64::INFINITY] {
                for mirrored in [false, true] {
                    let combination = Combination { op, return_bool: false, keeps_right: mirrored };
                    let (left, right) = if mirrored { (with, v) } else { (v, with) };
                    let mut out = [ABSENT];
                    combination.rows(&[left], &[right], &mut out);
                    let filter = Filter::new(op, with, mirrored).unwrap();
                    assert_eq!(
                        filter.passes_any(&[v]),
                        is_present(out[0]),
                        "{left} {op:?} {right}"
                    );
                }
            }
        }
        assert_eq!(Filter::new(BinaryOp::Add, 1.0, false), None);
        assert!(Filter::new(BinaryOp::Less, 1.5, false).unwrap().passes_any(&values));
    }

    #[test]
    fn scalars_compare_to_numbers() {
        assert_eq!(scalars(BinaryOp::Greater, 2.0, 1.0), 1.0);
        assert_eq!(scalars(BinaryOp::Equal, f64::NAN, f64::NAN), 0.0);
        assert_eq!(scalars(BinaryOp::Mod, -7.0, 3.0), -1.0);
        assert_eq!(scalars(BinaryOp::Pow, 2.0, 10.0), 1024.0);
    }
}
