//! Matchers: predicates over the value of one label.
//!
//! Regular expressions are anchored at both ends and `.` matches a newline, as in Prometheus. A label
//! that a series lacks is matched as the empty string.

use std::fmt;
use std::sync::Arc;

use crate::labels::write_quoted;
use crate::regex::{Pattern, RegexError};
use crate::{Labels, is_legacy_label_name};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written in PromQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// Why a matcher cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// The regular expression does not parse or is too large.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

/// A condition on one label.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    pattern: Arc<Pattern>,
}

impl Matcher {
    /// A matcher for label `name`.
    ///
    /// # Errors
    /// [`MatcherError::Regex`] when `op` takes an expression and `value` is not one.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => Pattern::literal(value.clone()),
            MatchOp::Regex | MatchOp::NotRegex => Pattern::new(&value)?,
        };
        Ok(Self { name, op, value, pattern: Arc::new(pattern) })
    }

    /// A matcher that wants `name` to be exactly `value`.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        let pattern = Arc::new(Pattern::literal(value.clone()));
        Self { name: name.into(), op: MatchOp::Equal, value, pattern }
    }

    /// The label it looks at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    #[must_use]
    pub const fn op(&self) -> MatchOp {
        self.op
    }

    /// The literal or the expression, as written.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether it is `!=` or `!~`.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// Whether a label with this value (empty when absent) satisfies the matcher.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.pattern.matches(value) != self.is_negative()
    }

    /// Whether the labels satisfy the matcher.
    #[must_use]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }

    /// The literal values that the pattern accepts (before negation), sorted, if they are so few
    /// that the expression amounts to a set. An index looks these up instead of scanning values.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        self.pattern.literals()
    }

    /// What all values start with that the pattern accepts (before negation). An index need look
    /// only at those that do.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.pattern.prefix()
    }

    /// Whether every value satisfies the matcher, absence included, so that it selects nothing out.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        !self.is_negative() && self.pattern.is_anything()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        f.write_str(self.op.as_str())?;
        write_quoted(f, &self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, matching: &[&str], other: &[&str]) {
        let matcher = Matcher::new("l", op, pattern).unwrap();
        for value in matching {
            assert!(matcher.matches(value), "{matcher} should match {value:?}");
        }
        for value in other {
            assert!(!matcher.matches(value), "{matcher} should not match {value:?}");
        }
    }

    #[test]
    fn comparisons() {
        check(MatchOp::Equal, "a", &["a"], &["", "b", "aa"]);
        check(MatchOp::NotEqual, "a", &["", "b"], &["a"]);
        check(MatchOp::Equal, "", &[""], &["a"]);
        check(MatchOp::Regex, "a|bc", &["a", "bc"], &["", "abc", "b"]);
        check(MatchOp::Regex, "a.*c", &["ac", "abc", "a\nc"], &["abcd", "xac"]);
        check(MatchOp::Regex, ".+", &["a", "\n"], &[""]);
        check(MatchOp::Regex, ".*", &["", "a"], &[]);
        check(MatchOp::NotRegex, "a.+", &["a", ""], &["ab"]);
        check(MatchOp::Regex, "a|", &["a", ""], &["b"]);
        check(MatchOp::Regex, "(?i)abc", &["ABC", "abc"], &["abcd"]);
        check(MatchOp::Regex, "é|ü", &["é"], &["e"]);
    }

    #[test]
    fn sets_are_recognised() {
        let set = Matcher::new("l", MatchOp::Regex, "b|a|b").unwrap();
        assert_eq!(set.literals().unwrap(), ["a", "b"]);
        assert!(Matcher::new("l", MatchOp::Regex, "a.b").unwrap().literals().is_none());
    }

    #[test]
    fn broken_expressions_are_refused() {
        for pattern in ["(", "a)(b", "[", "*a", "a{1000}{1000}{1000}"] {
            assert!(Matcher::new("l", MatchOp::Regex, pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn printing() {
        let matcher = Matcher::new("a.b", MatchOp::NotRegex, "x\"\\.").unwrap();
        assert_eq!(matcher.to_string(), r#""a.b"!~"x\"\\.""#);
    }
}
