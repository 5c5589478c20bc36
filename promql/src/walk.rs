//! Ways through a tree.
//!
//! None of them recurses, so the height of a tree does not matter.

use crate::ast::{DurationExpr, DurationKind, Expr, Span, TimeModifiers, VectorSelector};

impl Expr {
    /// The expressions right below, in the order in which they are evaluated: the aggregated before the
    /// parameter, the left operand before the right.
    ///
    /// The vector selector of a matrix selector is a part of it, not below it.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = &Self> {
        let (first, second, rest): (Option<&Self>, Option<&Self>, &[Self]) = match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => {
                (None, None, &[])
            }
            Self::Subquery(e) => (Some(&e.expr), None, &[]),
            Self::Aggregate(e) => (Some(&e.expr), e.param.as_deref(), &[]),
            Self::Binary(e) => (Some(&e.left), Some(&e.right), &[]),
            Self::Unary(e) => (Some(&e.expr), None, &[]),
            Self::Paren(e) => (Some(&e.expr), None, &[]),
            Self::Call(e) => (None, None, &e.args),
        };
        first.into_iter().chain(second).chain(rest)
    }

    /// The expression itself and everything below it; whatever is above comes before what is below.
    pub fn descendants(&self) -> impl Iterator<Item = &Self> {
        let mut waiting = vec![self];
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            waiting.extend(next.children().rev());
            Some(next)
        })
    }

    /// The selectors of the expression, those of ranges included, from left to right.
    pub fn selectors(&self) -> impl Iterator<Item = &VectorSelector> {
        self.descendants().filter_map(|expr| match expr {
            Self::Vector(selector) => Some(selector),
            Self::Matrix(selector) => Some(&selector.vector),
            _ => None,
        })
    }

    /// Forgets positions and sorts matchers, so that two texts of one meaning give equal trees.
    pub fn normalize(&mut self) {
        let mut waiting = vec![self];
        while let Some(expr) = waiting.pop() {
            match expr {
                Self::Number(e) => e.span = Span::default(),
                Self::String(e) => e.span = Span::default(),
                Self::Vector(e) => e.normalize(),
                Self::Matrix(e) => {
                    e.span = Span::default();
                    e.vector.normalize();
                    e.range.normalize();
                }
                Self::Subquery(e) => {
                    e.span = Span::default();
                    e.range.normalize();
                    e.step.iter_mut().for_each(DurationExpr::normalize);
                    e.time.normalize();
                    waiting.push(&mut e.expr);
                }
                Self::Aggregate(e) => {
                    e.span = Span::default();
                    waiting.push(&mut e.expr);
                    waiting.extend(e.param.as_deref_mut());
                }
                Self::Binary(e) => {
                    e.span = Span::default();
                    waiting.extend([&mut *e.left, &mut *e.right]);
                }
                Self::Unary(e) => {
                    e.span = Span::default();
                    waiting.push(&mut e.expr);
                }
                Self::Paren(e) => {
                    e.span = Span::default();
                    waiting.push(&mut e.expr);
                }
                Self::Call(e) => {
                    e.span = Span::default();
                    waiting.extend(&mut e.args);
                }
            }
        }
    }
}

impl VectorSelector {
    fn normalize(&mut self) {
        self.span = Span::default();
        self.time.normalize();
        self.matchers.sort_by_cached_key(ToString::to_string);
    }
}

impl TimeModifiers {
    fn normalize(&mut self) {
        self.offset.iter_mut().for_each(DurationExpr::normalize);
    }
}

impl DurationExpr {
    fn normalize(&mut self) {
        let mut waiting = vec![self];
        while let Some(duration) = waiting.pop() {
            duration.span = Span::default();
            match &mut duration.kind {
                DurationKind::Seconds(_)
                | DurationKind::Number(_)
                | DurationKind::Step
                | DurationKind::Range => {}
                DurationKind::Negate(inner) | DurationKind::Paren(inner) => waiting.push(inner),
                DurationKind::Binary { left, right, .. }
                | DurationKind::Min(left, right)
                | DurationKind::Max(left, right) => waiting.extend([&mut **left, &mut **right]),
            }
        }
    }
}
