//! Chains of binary operators that lean to the left, as `a + b + c`.
//!
//! A query of a megabyte may be one chain of half a million operators. What the compiler derives would recurse as often, so what every tree
//! can do (be dropped, copied, compared, shown) is done here in a loop over left operands. Recursion then is no deeper than the nesting that
//! the parser allows.

use std::fmt;

use crate::ast::{Binary, Expr, NumberLiteral, Span};

/// The operators of a chain from the last to the first.
struct Chain<'e> {
    next: Option<&'e Binary>,
}

impl<'e> Iterator for Chain<'e> {
    type Item = &'e Binary;

    fn next(&mut self) -> Option<&'e Binary> {
        let link = self.next?;
        self.next = match &*link.left {
            Expr::Binary(left) => Some(left),
            _ => None,
        };
        Some(link)
    }
}

impl Binary {
    /// The operators of the chain that ends with this one, from this one to the first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        Chain { next: Some(self) }
    }

    /// The same operator with another left operand.
    fn with_left(&self, left: Expr) -> Self {
        Self {
            op: self.op,
            left: Box::new(left),
            right: self.right.clone(),
            return_bool: self.return_bool,
            matching: self.matching.clone(),
            span: self.span,
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        const LEAF: Expr = Expr::Number(NumberLiteral {
            value: 0.0,
            is_duration: false,
            span: Span { start: 0, end: 0 },
        });
        let mut left = std::mem::replace(&mut *self.left, LEAF);
        while let Expr::Binary(binary) = &mut left {
            left = std::mem::replace(&mut *binary.left, LEAF);
        }
    }
}

impl Clone for Binary {
    fn clone(&self) -> Self {
        let links: Vec<&Self> = self.chain().collect();
        let mut left: Option<Expr> = None;
        for link in links[1..].iter().rev() {
            let operand = left.unwrap_or_else(|| (*link.left).clone());
            left = Some(Expr::Binary(link.with_left(operand)));
        }
        self.with_left(left.unwrap_or_else(|| (*self.left).clone()))
    }
}

impl PartialEq for Binary {
    fn eq(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.chain(), other.chain());
        loop {
            let (a, b) = match (ours.next(), theirs.next()) {
                (Some(a), Some(b)) => (a, b),
                (None, None) => return true,
                _ => return false,
            };
            let same = (a.op, a.return_bool, &a.matching, a.span)
                == (b.op, b.return_bool, &b.matching, b.span)
                && a.right == b.right;
            let ends = !matches!((&*a.left, &*b.left), (Expr::Binary(_), Expr::Binary(_)));
            if !same || (ends && a.left != b.left) {
                return false;
            }
        }
    }
}

/// The operands and operators in the order of the query.
impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links: Vec<&Self> = self.chain().collect();
        let mut list = f.debug_list();
        if let Some(first) = links.last() {
            list.entry(&first.left);
        }
        for link in links.iter().rev() {
            let Self { op, return_bool, matching, span, right, .. } = link;
            list.entry(&(op, return_bool, matching, span)).entry(right);
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::ast::Expr;
    use crate::parse::{ParseOptions, parse};

    fn parsed(query: &str) -> Expr {
        parse(query, &ParseOptions::all()).unwrap()
    }

    #[test]
    fn chains_are_equal_operator_by_operator() {
        let chain = parsed("a + b * c - d");
        assert_eq!(chain, chain.clone());
        for other in ["a + b * c + d", "a + b * d - d", "b + b * c - d", "b * c - d", "a + b"] {
            assert_ne!(chain, parsed(other));
            assert_ne!(parsed(other), chain);
        }
        assert_ne!(parsed("a == b"), parsed("a == bool b"));
        assert_ne!(parsed("a + on(x) b"), parsed("a + on(y) b"));
    }

    #[test]
    fn a_chain_is_shown_in_order() {
        let shown = format!("{:?}", parsed("1 + 2 - 3"));
        let at = |what: &str| shown.find(what).unwrap();
        assert!(at("value: 1.0") < at("Add") && at("Add") < at("value: 2.0"), "{shown}");
        assert!(at("value: 2.0") < at("Sub") && at("Sub") < at("value: 3.0"), "{shown}");
    }
}
