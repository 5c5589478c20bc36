//! Scalar expressions.

use super::{Dialect, Grammar, Phase};

impl Grammar<'_> {
    pub(super) fn scalar(&mut self, depth: usize, phase: Phase) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.below(12) {
            0 => String::from("time()"),
            1 => String::from("pi()"),
            2 => format!("scalar({})", self.vector(depth - 1, phase)),
            3 => {
                let op = self.one(&["+", "-", "*", "/", "%", "^", "atan2"]);
                let (a, b) = (self.scalar(depth - 1, phase), self.scalar(depth - 1, phase));
                format!("({a} {op} {b})")
            }
            4 => {
                let op = self.one(&["==", "!=", "<", "<=", ">", ">="]);
                let (a, b) = (self.scalar(depth - 1, phase), self.scalar(depth - 1, phase));
                format!("({a} {op} bool {b})")
            }
            5 => format!("-{}", self.scalar(depth - 1, phase)),
            6 if self.dialect == Dialect::All => {
                let function = self.one(&["start()", "end()", "step()", "range()", "min_of(1, 2)"]);
                String::from(function)
            }
            _ => self.number(),
        }
    }
}
