//! An expression that all of a text must match, reduced as far as it allows.
//!
//! Most matchers of queries and rules are sets of texts, prefixes or the like. Those are compared
//! with directly, and an index looks sets and prefixes up instead of scanning its values.

use std::sync::Arc;

use memchr::arch::all::is_equal;

use super::ast::{Node, Parsed};
use super::automaton::Automaton;
use super::glob::{Glob, alternatives};
use super::parser::parse;
use super::texts::{Case, Limits, Text, texts};
use super::{RegexError, RegexErrorKind};

/// A set of texts may have so many, or as many as its expression has bytes.
const TEXTS_MAX: usize = 256;

/// The texts of a set may have so many bytes together, or four times those of its expression.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// How many globs are tried one after the other: beyond, the automaton is as fast.
const GLOBS_MAX: usize = 16;

/// Sets of up to so many texts are looked through one by one.
const SCANNED_MAX: usize = 16;

/// An expression that all of a text must match.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    shape: Shape,
    prefix: String,
    /// What the shape leaves undecided.
    automaton: Option<Arc<Automaton>>,
}

#[derive(Clone, Debug)]
enum Shape {
    /// One of these.
    Literals(Literals),
    /// Anything from so many characters on.
    Anything(u32),
    /// One of the literals, or what has the look of one of the globs. If `ascii` the globs are
    /// right about ASCII texts only.
    Globs { literals: Literals, globs: Vec<Glob>, ascii: bool },
    /// No shape that would help.
    Opaque,
}

/// A set of texts.
#[derive(Clone, Debug)]
struct Literals {
    /// Sorted.
    texts: Vec<String>,
    /// The bits of their lengths.
    lengths: u64,
}

impl Literals {
    fn new(mut texts: Vec<String>) -> Self {
        texts.sort_unstable();
        texts.dedup();
        let lengths = texts.iter().fold(0, |lengths, text| lengths | length_bit(text));
        Self { texts, lengths }
    }

    fn contain(&self, text: &str) -> bool {
        if self.lengths & length_bit(text) == 0 {
            return false;
        }
        if self.texts.len() <= SCANNED_MAX {
            let is = |own: &String| is_equal(own.as_bytes(), text.as_bytes());
            return self.texts.iter().any(is);
        }
        self.texts.binary_search_by(|own| own.as_str().cmp(text)).is_ok()
    }
}

/// One bit for each length below 63, and one for all others.
fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

impl Pattern {
    /// Exactly this text.
    pub(crate) fn literal(text: String) -> Self {
        Self::of_literals(vec![text])
    }

    /// As Prometheus reads the expression of a matcher: `.` matches a newline.
    ///
    /// # Errors
    /// [`RegexError`]
    pub(crate) fn new(expression: &str) -> Result<Self, RegexError> {
        if expression.split('|').all(is_literal) {
            return Ok(Self::of_literals(expression.split('|').map(String::from).collect()));
        }
        let Parsed { node, height, .. } = parse(expression, true)?;
        let shape = Shape::of(&node, expression.len());
        let automaton = if shape.needs_automaton() {
            let automaton = Automaton::new(node, height).ok_or_else(|| RegexError {
                kind: RegexErrorKind::TooLarge,
                expression: String::from(expression),
            })?;
            Some(Arc::new(automaton))
        } else {
            None
        };
        Ok(Self { prefix: shape.prefix(), shape, automaton })
    }

    fn of_literals(texts: Vec<String>) -> Self {
        let shape = Shape::of_literals(texts);
        Self { prefix: shape.prefix(), shape, automaton: None }
    }

    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Literals(literals) => literals.contain(text),
            Shape::Anything(0) => true,
            Shape::Anything(1) => !text.is_empty(),
            Shape::Anything(min) => text.chars().zip(1..).any(|(_, count)| count >= *min),
            Shape::Globs { ascii: true, .. } if !text.is_ascii() => self.searched(text),
            Shape::Globs { literals, globs, .. } => {
                if literals.contain(text) {
                    return true;
                }
                let mut maybe = false;
                for glob in globs.iter().filter(|glob| glob.matches(text)) {
                    if glob.is_exact() {
                        return true;
                    }
                    maybe = true;
                }
                maybe && self.searched(text)
            }
            Shape::Opaque => self.searched(text),
        }
    }

    /// The only texts that match, sorted, if they are few.
    pub(crate) fn literals(&self) -> Option<&[String]> {
        match &self.shape {
            Shape::Literals(literals) => Some(&literals.texts),
            _ => None,
        }
    }

    /// What every text that matches starts with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether everything matches.
    pub(crate) fn is_anything(&self) -> bool {
        matches!(self.shape, Shape::Anything(0))
    }

    fn searched(&self, text: &str) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| automaton.matches(text))
    }
}

impl Shape {
    /// The shape of a whole expression of so many bytes.
    fn of(node: &Node, expression_bytes: usize) -> Self {
        let limits = Limits {
            texts: TEXTS_MAX.max(expression_bytes),
            bytes: TEXT_BYTES_MAX.max(expression_bytes.saturating_mul(4)),
        };
        let (mut literals, mut globs) = (Vec::new(), Vec::new());
        let mut left = limits;
        for parts in alternatives(node) {
            match literals_of(&parts, left) {
                Some(texts) => {
                    left.texts -= texts.len();
                    left.bytes -= texts.iter().map(String::len).sum::<usize>();
                    literals.extend(texts);
                }
                None if globs.len() < GLOBS_MAX => globs.push(Glob::new(&parts)),
                None => return Self::Opaque,
            }
        }
        if globs.is_empty() {
            return Self::of_literals(literals);
        }
        Self::of_globs(literals, globs)
    }

    fn of_literals(texts: Vec<String>) -> Self {
        Self::Literals(Literals::new(texts))
    }

    fn of_globs(literals: Vec<String>, globs: Vec<Glob>) -> Self {
        if let [only] = globs.as_slice()
            && let Some(min) = only.anything_from().filter(|_| only.is_exact())
            && literals.iter().all(|text| skips(text, min))
        {
            return Self::Anything(min);
        }
        let useless = |glob: &Glob| !glob.is_exact() && glob.anything_from() == Some(0);
        if globs.iter().any(useless) {
            return Self::Opaque;
        }
        let ascii = globs.iter().flat_map(Glob::texts).any(Text::folds_beyond_ascii);
        Self::Globs { literals: Literals::new(literals), globs, ascii }
    }

    fn needs_automaton(&self) -> bool {
        match self {
            Self::Literals(_) | Self::Anything(_) => false,
            Self::Globs { globs, ascii, .. } => *ascii || !globs.iter().all(Glob::is_exact),
            Self::Opaque => true,
        }
    }

    fn prefix(&self) -> String {
        match self {
            Self::Literals(literals) => common_prefix(literals.texts.iter().map(String::as_str)),
            Self::Globs { literals, globs, .. } => {
                let first = globs.iter().flat_map(Glob::first).map(Text::exact_front);
                common_prefix(first.chain(literals.texts.iter().map(String::as_str)))
            }
            Self::Anything(_) | Self::Opaque => String::new(),
        }
    }
}

/// The texts that `parts` match one after the other, if they are few.
fn literals_of(parts: &[&Node], limits: Limits) -> Option<Vec<String>> {
    let mut all = vec![Text::empty()];
    for part in parts {
        all = super::texts::product(all, &texts(part, Case::Expand, limits)?, limits)?;
    }
    all.into_iter().map(Text::into_exact).collect()
}

fn common_prefix<'t>(mut texts: impl Iterator<Item = &'t str>) -> String {
    let Some(mut common) = texts.next() else { return String::new() };
    for text in texts {
        let same = common.char_indices().zip(text.chars()).find(|((_, a), b)| a != b);
        let end = same.map_or(common.len().min(text.len()), |((at, _), _)| at);
        common = &common[..end];
    }
    String::from(common)
}

fn skips(text: &str, characters: u32) -> bool {
    text.chars().zip(1..).last().map_or(0, |(_, count)| count) >= characters
}

fn is_literal(text: &str) -> bool {
    !text.bytes().any(|b| b"\\.+*?()|[]{}^$".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// What is reduced, next to what is not.
    const PARTS: [&str; 44] = [
        "a",
        "b",
        "ab",
        "k",
        "s",
        "é",
        "1",
        "-",
        ".*",
        ".+",
        ".",
        ".?",
        ".{2}",
        ".{1,3}",
        "(.*)",
        ".*?",
        "(a|b)",
        "(ab|a)",
        "(a|)",
        "(?:é|k)",
        "[ab]",
        "[^a]",
        "[k-s]",
        "a?",
        "b{2}",
        "(ab){1,2}",
        "a*",
        "",
        "()",
        "^",
        "$",
        "(?i)",
        "(?-i)",
        "(?i:ab)",
        "(?i:k)",
        "(?i:1-)",
        "(?-s).",
        "(?-s:.*)",
        r"\b",
        "[^\\x00-\\x{10FFFF}]",
        "[aA]",
        "(?i:é)",
        "(a|b.*)",
        "(?i:s).*",
    ];

    const TEXT: [&str; 16] =
        ["a", "b", "A", "B", "k", "K", "\u{212A}", "s", "S", "ſ", "é", "É", "1", "-", "\n", "☺"];

    fn expression() -> impl Strategy<Value = String> {
        let alternative = vec(select(PARTS.to_vec()), 0..5).prop_map(|parts| parts.concat());
        vec(alternative, 1..4).prop_map(|alternatives| alternatives.join("|"))
    }

    fn text() -> impl Strategy<Value = String> {
        vec(select(TEXT.to_vec()), 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn shapes_match_as_the_automaton_does(
            expression in expression(),
            texts in vec(text(), 20),
        ) {
            let pattern = Pattern::new(&expression).unwrap();
            let Parsed { node, height, .. } = parse(&expression, true).unwrap();
            let automaton = Automaton::new(node, height).unwrap();
            for text in &texts {
                let expected = automaton.matches(text);
                prop_assert_eq!(pattern.matches(text), expected, "{:?} {:?}", expression, text);
                if expected {
                    prop_assert!(text.starts_with(pattern.prefix()), "{:?} {:?}", expression, text);
                }
                if let Some(literals) = pattern.literals() {
                    prop_assert_eq!(literals.contains(text), expected, "{:?} {:?}", expression, text);
                }
            }
            for literal in pattern.literals().unwrap_or_default() {
                prop_assert!(automaton.matches(literal), "{:?} {:?}", expression, literal);
            }
        }
    }

    fn check_literals(expression: &str, expected: Option<&[&str]>) {
        let pattern = Pattern::new(expression).unwrap();
        let literals = pattern.literals().map(|all| all.iter().map(String::as_str).collect());
        assert_eq!(literals, expected.map(<[&str]>::to_vec), "{expression}");
        if expected.is_some() {
            assert!(pattern.automaton.is_none(), "{expression}");
        }
    }

    #[test]
    fn sets() {
        check_literals("b|a|b", Some(&["a", "b"]));
        check_literals("(a|b)c", Some(&["ac", "bc"]));
        check_literals("[ab]x", Some(&["ax", "bx"]));
        check_literals("^(?:prod|staging)$", Some(&["prod", "staging"]));
        check_literals("(?P<env>prod|dev)-[12]", Some(&["dev-1", "dev-2", "prod-1", "prod-2"]));
        check_literals("(?i)ok", Some(&["OK", "Ok", "O\u{212A}", "oK", "ok", "o\u{212A}"]));
        check_literals("a?b{2}", Some(&["abb", "bb"]));
        check_literals(r"10\.0\.0\.1:9100", Some(&["10.0.0.1:9100"]));
        check_literals("^$", Some(&[""]));
        check_literals("[^\\x00-\\x{10FFFF}]", Some(&[]));
        check_literals("a.b", None);
        check_literals("[^a]", None);
        check_literals("a*", None);
        check_literals("(?i)production-eu-west", None);
        let many: Vec<_> = (0..2000).map(|number| format!("(pod-{number})")).collect();
        let pattern = Pattern::new(&many.join("|")).unwrap();
        assert_eq!(pattern.literals().unwrap().len(), 2000);
    }

    fn check_shape(expression: &str, prefix: &str, needs_automaton: bool) {
        let pattern = Pattern::new(expression).unwrap();
        assert_eq!(pattern.prefix(), prefix, "{expression}");
        assert_eq!(pattern.automaton.is_some(), needs_automaton, "{expression}");
    }

    #[test]
    fn prefixes_and_globs() {
        check_shape("app-.*", "app-", false);
        check_shape("app-(1|2|3).*", "app-", false);
        check_shape("app-1.*|app-2.+|ape", "ap", false);
        check_shape("(app-).*-x", "app-", false);
        check_shape(".*x.*y", "", false);
        check_shape("(.*)", "", false);
        check_shape("é.*|è.*", "", false);
        check_shape("(?i)1-ab.*", "1-", false);
        check_shape("(?i)kilo.*", "", true);
        check_shape("app-[0-9]+", "app-", true);
        check_shape("ab|abc", "ab", false);
        check_shape("a|b[0-9]*", "", true);
        let many: Vec<_> = (0..50_000).map(|number| format!("pod-{number}")).collect();
        check_shape(&format!("{}|pox-.*", many.join("|")), "po", false);
    }

    #[test]
    fn everything() {
        for expression in [".*", "(.*)", ".*.*", "^.*$", "a|.*", "(?:.*|b)"] {
            assert!(Pattern::new(expression).unwrap().is_anything(), "{expression}");
        }
        for expression in [".+", "(?-s).*", ".*a", "a*", ".?"] {
            assert!(!Pattern::new(expression).unwrap().is_anything(), "{expression}");
        }
    }
}
