//! Limits what an expression may look at.

use model::Matcher;

use crate::ast::Expr;

impl Expr {
    /// Adds `matcher` to every selector, so that nothing else is looked at: what a selector says of the same label narrows it further.
    ///
    /// Only functions that read series through their arguments are limited by it. `info()` reads others besides; it is
    /// experimental, so an expression that was parsed without experimental functions has none.
    pub fn restrict(&mut self, matcher: &Matcher) {
        let mut waiting = vec![self];
        while let Some(expr) = waiting.pop() {
            match expr {
                Self::Number(_) | Self::String(_) => {}
                // The name comes last where it stood before the braces.
                Self::Vector(e) => e.matchers.insert(0, matcher.clone()),
                Self::Matrix(e) => e.vector.matchers.insert(0, matcher.clone()),
                Self::Subquery(e) => waiting.push(&mut e.expr),
                Self::Aggregate(e) => {
                    waiting.push(&mut e.expr);
                    waiting.extend(e.param.as_deref_mut());
                }
                Self::Binary(e) => waiting.extend([&mut *e.left, &mut *e.right]),
                Self::Unary(e) => waiting.push(&mut e.expr),
                Self::Paren(e) => waiting.push(&mut e.expr),
                Self::Call(e) => waiting.extend(&mut e.args),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::MatchOp;

    use crate::{ParseOptions, parse};

    fn check(query: &str, expected: &str) {
        let matcher = model::Matcher::new("namespace", MatchOp::Equal, "a").unwrap();
        let mut expr = parse(query, &ParseOptions::default()).unwrap();
        expr.restrict(&matcher);
        assert_eq!(expr.to_string(), expected);
        let again = parse(&expr.to_string(), &ParseOptions::default()).unwrap();
        let looked_at = again.selectors().all(|selector| selector.matchers.contains(&matcher));
        assert!(looked_at, "{expr}");
    }

    #[test]
    fn every_selector_is_limited() {
        check("up", "up{namespace=\"a\"}");
        check("up{namespace=\"b\"}", "up{namespace=\"a\",namespace=\"b\"}");
        check(
            "{__name__=~\"u.*\"} or up",
            // Matchers are printed in the order of their text.
            "{__name__=~\"u.*\",namespace=\"a\"} or up{namespace=\"a\"}",
        );
        check("rate(x[5m] offset 1h)", "rate(x{namespace=\"a\"}[5m] offset 1h)");
        check("-(a)", "-(a{namespace=\"a\"})");
        check(
            "max_over_time(sum by (pod) (rate(x[1m]))[10m:1m])",
            "max_over_time(sum by (pod) (rate(x{namespace=\"a\"}[1m]))[10m:1m])",
        );
        check("topk(scalar(k), x)", "topk(scalar(k{namespace=\"a\"}), x{namespace=\"a\"})");
        check("absent(x) unless vector(1)", "absent(x{namespace=\"a\"}) unless vector(1)");
        check("1 + 2", "1 + 2");
    }
}
