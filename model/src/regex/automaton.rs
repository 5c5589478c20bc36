//! Compiles an expression to what searches in time linear in the text.

use std::thread;

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
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

/// Compiles to what answers only whether all of a text matches.
pub(super) fn whole(node: &Node, height: usize) -> Option<meta::Regex> {
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
