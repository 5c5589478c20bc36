//! Compiles an expression to what searches in time linear in the text.

use std::sync::OnceLock;
use std::thread;

use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Input, meta};
use regex_syntax::hir::{
    Capture, Class as HirClass, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition,
};

use super::ast::Node;
use super::class::Class;
use super::fold;

/// Largest compiled size of one expression; beyond it the expression is refused.
const BYTES_MAX: usize = 10 << 20;

/// What the places of all groups, kept for each state of a search, may roughly take.
const GROUP_BYTES_MAX: usize = 128 << 20;

/// From this depth on the compiler, which recurses, gets a stack of its own.
const DEEP: usize = 100;

/// Enough for the deepest expression, without optimisation.
const DEEP_STACK_BYTES: usize = 64 << 20;

/// Without automata that are complete before the first search: most expressions are compiled for a query and tried on few values, and
/// building one takes longer than parsing the rest of the query. The lazy one is about as fast.
fn base() -> meta::Config {
    meta::Config::new().dfa(false)
}

/// What answers only whether all of a text matches.
///
/// Where it is certain to be small, and needs no stack of its own, it is compiled when the first text is searched: many a query is parsed and has the texts that its
/// matchers select looked up, and compiling takes longer than parsing the rest of it.
#[derive(Debug)]
pub(super) struct Automaton {
    compiled: OnceLock<meta::Regex>,
    /// What to compile, and its height.
    source: Option<(Node, usize)>,
}

impl Automaton {
    /// `None` if it is too large, or needs a thread for its depth and none can be started.
    pub(super) fn new(node: Node, height: usize) -> Option<Self> {
        if height < DEEP && bytes_at_most(&node) <= BYTES_MAX {
            return Some(Self { compiled: OnceLock::new(), source: Some((node, height)) });
        }
        let compiled = whole(&node, height)?;
        Some(Self { compiled: OnceLock::from(compiled), source: None })
    }

    /// Whether all of `text` matches.
    ///
    /// # Panics
    /// Never: what is compiled late is small and needs no thread.
    pub(super) fn matches(&self, text: &str) -> bool {
        let automaton = self.compiled.get_or_init(|| {
            let source = self.source.as_ref();
            source.and_then(|(node, height)| whole(node, *height)).expect("its size was looked at")
        });
        automaton.is_match(Input::new(text).earliest(true))
    }
}

/// What the compiled size is at most.
fn bytes_at_most(node: &Node) -> usize {
    // What is around every expression.
    const ENVELOPE_BYTES: usize = 4096;
    node_bytes_at_most(node).saturating_add(ENVELOPE_BYTES)
}

fn node_bytes_at_most(node: &Node) -> usize {
    // A state takes less, with what it refers to.
    const STATE_BYTES: usize = 64;
    // A range is at most so many sequences of ranges of bytes, of at most four each.
    const STATES_PER_RANGE: usize = 4 * 16;
    let states = match node {
        Node::Empty | Node::Look(_) => 1,
        Node::Literal { text, folds: false } => text.len(),
        // A character has at most three others that it is folded with.
        Node::Literal { text, folds: true } => text.chars().count() * 4 * STATES_PER_RANGE,
        Node::Class(class) => class.ranges().len() * STATES_PER_RANGE,
        Node::Capture { sub, .. } => return node_bytes_at_most(sub).saturating_add(STATE_BYTES),
        Node::Repeat { min, max, sub, .. } => {
            // What has no upper limit is written once more.
            let times = max.unwrap_or(min.saturating_add(1)).max(1) as usize;
            return (node_bytes_at_most(sub).saturating_add(2 * STATE_BYTES)).saturating_mul(times);
        }
        Node::Concat(nodes) | Node::Alternate(nodes) => {
            let all = nodes.iter().map(node_bytes_at_most).fold(0, usize::saturating_add);
            return all.saturating_add((nodes.len() + 1).saturating_mul(STATE_BYTES));
        }
    };
    (states + 1).saturating_mul(STATE_BYTES)
}

/// Compiles to what answers only whether all of a text matches.
fn whole(node: &Node, height: usize) -> Option<meta::Regex> {
    let config = base().which_captures(WhichCaptures::Implicit).nfa_size_limit(Some(BYTES_MAX));
    compile(node, height, false, config)
}

/// Compiles to what finds the groups too.
pub(super) fn with_groups(node: &Node, height: usize, groups: usize) -> Option<meta::Regex> {
    // A search may keep two places per group and state, and states are as many as the compiled
    // size allows.
    let config = base()
        .which_captures(WhichCaptures::All)
        .nfa_size_limit(Some(BYTES_MAX.min(GROUP_BYTES_MAX / (groups + 1))));
    compile(node, height, true, config)
}

fn compile(node: &Node, height: usize, groups: bool, config: meta::Config) -> Option<meta::Regex> {
    let build = || {
        let mut hir = lower(node, groups);
        if !groups {
            hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
        }
        meta::Builder::new().configure(config).build_from_hir(&hir).ok()
    };
    if height < DEEP {
        return build();
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(DEEP_STACK_BYTES);
        thread.spawn_scoped(scope, build).ok()?.join().ok()?
    })
}

fn lower(node: &Node, groups: bool) -> Hir {
    match node {
        Node::Empty => Hir::empty(),
        Node::Literal { text, folds: false } => Hir::literal(text.as_bytes()),
        Node::Literal { text, folds: true } => Hir::concat(text.chars().map(any_case).collect()),
        Node::Class(class) => Hir::class(HirClass::Unicode(without_surrogates(class))),
        Node::Look(look) => Hir::look(*look),
        Node::Capture { index, sub } if groups => {
            let sub = Box::new(lower(sub, groups));
            Hir::capture(Capture { index: *index, name: None, sub })
        }
        Node::Capture { sub, .. } => lower(sub, groups),
        Node::Repeat { min, max, greedy, sub } => Hir::repetition(Repetition {
            min: *min,
            max: *max,
            greedy: *greedy,
            sub: Box::new(lower(sub, groups)),
        }),
        Node::Concat(nodes) => Hir::concat(nodes.iter().map(|node| lower(node, groups)).collect()),
        Node::Alternate(nodes) => {
            Hir::alternation(nodes.iter().map(|node| lower(node, groups)).collect())
        }
    }
}

fn any_case(c: char) -> Hir {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    for other in fold::others(c).into_iter().filter_map(char::from_u32) {
        class.push(ClassUnicodeRange::new(other, other));
    }
    Hir::class(HirClass::Unicode(class))
}

fn without_surrogates(class: &Class) -> ClassUnicode {
    // The first and the last character around them.
    let (before, after) = ('\u{D7FF}', '\u{E000}');
    ClassUnicode::new(class.ranges().iter().filter_map(|&(lo, hi)| {
        let lo = char::from_u32(lo).unwrap_or(after);
        let hi = char::from_u32(hi).unwrap_or(before);
        (lo <= hi).then(|| ClassUnicodeRange::new(lo, hi))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::ast::Parsed;
    use super::super::parser::parse;
    use super::*;

    /// Whether the expression compiles to no more than is said beforehand.
    fn is_within(expression: &str) -> bool {
        let Parsed { node, height, .. } = parse(expression, true).unwrap();
        let config = base().which_captures(WhichCaptures::Implicit);
        let config = config.nfa_size_limit(Some(bytes_at_most(&node)));
        compile(&node, height, false, config).is_some()
    }

    #[test]
    fn the_largest_parts_are_as_large_as_is_said() {
        let classes =
            [r"\pL", r"\PL", r"\p{Han}", r"(?i)\p{Lu}", r"(?i)\PN", "[^a]", ".", r"[^\x00]", r"\w"];
        let texts =
            ["", "a", "(?i)k", "(?i)ſtraßeΣ", "^$", r"\b", "日本", "(?i)日本", "()", "a|", "|"];
        for part in classes.into_iter().chain(texts) {
            for whole in [
                "(?:X)",
                "(?:X)*",
                "(?:X)+?",
                "((?:X)){3}",
                "(?:X){2,5}",
                "(?:X){0,7}X",
                "(?:X|X)X",
                "(?:(?:X){3}a){3,}",
            ] {
                let expression = whole.replace('X', part);
                assert!(is_within(&expression), "{expression}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_expression_is_larger_than_is_said(
            parts in vec(select(vec!["a", "é", "(?i)k", "(", ")", "|", "*", "+", "?", "{2}", "{3,}", "{0,4}", ".", "[a-z0-9]", r"\pN", "[^é]", r"\b", "^"]), 1..20),
        ) {
            let expression = parts.concat();
            if parse(&expression, true).is_ok() {
                prop_assert!(is_within(&expression), "{}", expression);
            }
        }
    }

    #[test]
    fn what_is_large_is_compiled_or_refused_at_once() {
        let new = |expression: &str| {
            let Parsed { node, height, .. } = parse(expression, true).unwrap();
            Automaton::new(node, height)
        };
        let small = new(".*x").unwrap();
        assert!(small.compiled.get().is_none());
        assert!(small.matches("yx") && !small.matches("xy"));
        assert!(small.compiled.get().is_some());
        let deep = new(&format!("{}x{}", "(?:y".repeat(DEEP), ")?".repeat(DEEP))).unwrap();
        assert!(deep.compiled.get().is_some() && deep.matches("y"));
        let larger = new(r"[^a]{999}[^b]{999}").unwrap();
        assert!(larger.compiled.get().is_some());
        assert!(new(r"(?:\pL{999}|\pN{998})").is_none());
    }
}
