//! Regular expressions in Go's syntax, with the meaning that they have in Prometheus.
//!
//! The syntax is that of Go's `regexp/syntax`; its words for errors are too. Searching takes time
//! linear in the text, and what an expression compiles to is bounded. [`Regex`] is for
//! relabelling, where groups matter; the `Pattern` of a [`Matcher`](crate::Matcher) answers only
//! whether a text matches.

mod ast;
mod automaton;
mod class;
mod error;
mod expand;
mod fold;
mod glob;
mod parser;
mod pattern;
mod texts;
mod unicode;

use std::fmt;

use regex_automata::meta;
use regex_automata::util::captures;

use ast::Parsed;
pub use error::{RegexError, RegexErrorKind};
pub(crate) use pattern::Pattern;

/// An expression with groups: anchored at both ends as relabelling and `label_replace` do it, or searched for.
#[derive(Clone)]
pub struct Regex {
    expression: String,
    anchored: bool,
    /// The name of each numbered group, the first being 1.
    names: Vec<Option<String>>,
    automaton: meta::Regex,
}

impl Regex {
    /// Compiles `^(?s:expression)$`.
    ///
    /// As in Prometheus the expression is not looked at on its own first: `a)|(b` is taken, and
    /// matches what starts with `a` or ends with `b`.
    ///
    /// # Errors
    /// [`RegexError`]
    pub fn anchored(expression: &str) -> Result<Self, RegexError> {
        Self::compile(expression, true)
    }

    /// Compiles `expression` as Go's `regexp.Compile` does: it may match anywhere in a text.
    ///
    /// # Errors
    /// [`RegexError`]
    pub fn unanchored(expression: &str) -> Result<Self, RegexError> {
        Self::compile(expression, false)
    }

    fn compile(expression: &str, anchored: bool) -> Result<Self, RegexError> {
        let whole =
            if anchored { format!("^(?s:{expression})$") } else { String::from(expression) };
        let Parsed { node, names, height } = parser::parse(&whole, false)?;
        let Some(automaton) = automaton::with_groups(&node, height, names.len()) else {
            return Err(RegexError { kind: RegexErrorKind::TooLarge, expression: whole });
        };
        Ok(Self { expression: String::from(expression), anchored, names, automaton })
    }

    /// How many groups the expression has, the whole match not counted.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.names.len()
    }

    /// The expression, as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.expression
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.automaton.is_match(text)
    }

    /// Where the groups are in `text`, if it matches.
    #[must_use]
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'_, 't>> {
        let mut groups = self.automaton.create_captures();
        self.automaton.captures(text, &mut groups);
        groups.is_match().then_some(Captures { names: &self.names, text, groups })
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression && self.anchored == other.anchored
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.expression).finish()
    }
}

/// A match and its groups.
#[derive(Debug)]
pub struct Captures<'r, 't> {
    names: &'r [Option<String>],
    text: &'t str,
    groups: captures::Captures,
}

impl<'t> Captures<'_, 't> {
    /// The text of a group; 0 is the whole match. `None` when it took no part.
    #[must_use]
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.groups.get_group(group).map(|span| &self.text[span.range()])
    }

    /// The text of the first group of this name that took part.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&'t str> {
        let named = (1..).zip(self.names).filter(|(_, own)| own.as_deref() == Some(name));
        named.map(|(group, _)| group).find_map(|group| self.get(group))
    }

    /// Appends `template` with its references replaced, as Go's `Regexp.Expand` does: `$1` and
    /// `${1}` are groups, `$name` and `${name}` named ones, `$$` is a dollar. A name takes as
    /// many letters, digits and `_` as follow; a group that took no part or does not exist is
    /// empty; a `$` before anything else is itself.
    pub fn expand(&self, template: &str, into: &mut String) {
        expand::expand(self, template, into);
    }
}
