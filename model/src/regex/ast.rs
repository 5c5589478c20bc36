//! An expression as it was parsed.

use regex_syntax::hir::Look;

use super::class::Class;

/// An expression or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Matches the empty text.
    Empty,
    /// Matches this text, whatever its case if `folds`.
    Literal { text: String, folds: bool },
    /// Matches one of these characters.
    Class(Class),
    /// Matches the empty text at some places.
    Look(Look),
    /// A numbered group; the first is 1.
    Capture { index: u32, sub: Box<Node> },
    /// Matches `sub` over and over; without a `max` as often as there is.
    Repeat { min: u32, max: Option<u32>, greedy: bool, sub: Box<Node> },
    /// Matches one after the other; two or more, none of them a `Concat`.
    Concat(Vec<Node>),
    /// Matches any, the earlier the rather; two or more, none of them an `Alternate`.
    Alternate(Vec<Node>),
}

/// A whole expression.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    /// The name of each numbered group, the first being 1.
    pub(super) names: Vec<Option<String>>,
    /// How deep the nodes are nested.
    pub(super) height: usize,
}
