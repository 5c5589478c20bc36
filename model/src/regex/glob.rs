//! Texts with gaps of anything between them, as `prefix.*middle.*suffix`.
//!
//! Since a gap takes any number of characters from its least one on, the earliest place for each
//! text in turn is as good as any other: no search ever goes back.

use memchr::memmem::Finder;
use regex_syntax::hir::Look;

use super::ast::Node;
use super::texts::{Case, Limits, Text, product, texts};

/// How many texts one place of a glob may have: beyond, the automaton is as fast.
const LIMITS: Limits = Limits { texts: 16, bytes: 4 << 10 };

/// What a text looks like from afar.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    first: Vec<Text>,
    /// Each with the least number of characters before it; the last one ends the text.
    rest: Vec<(u32, Vec<Text>)>,
    /// What finds the texts between the first and the last.
    finders: Vec<Vec<Finder<'static>>>,
    /// Whether what has this look matches, rather than may match.
    exact: bool,
}

/// A stretch of an expression that is no text.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    /// It takes at least so many characters.
    min: u32,
    /// It may take any more.
    unbounded: bool,
    /// It does not take whatever there is.
    opaque: bool,
}

impl Glob {
    /// The look of what `parts` match one after the other, from the start of a text to its end.
    pub(super) fn new(parts: &[&Node]) -> Self {
        let mut glob = Self::of_texts(vec![Text::empty()]);
        let mut open: Option<Stretch> = None;
        for part in parts {
            if glob.extend(part, open) {
                open = None;
                continue;
            }
            open = Some(open.unwrap_or_default().followed_by(part));
        }
        if let Some(stretch) = open {
            glob.push(stretch, vec![Text::empty()]);
        }
        if !glob.exact {
            // The automaton is as fast as a search for what lies between.
            glob.rest.drain(..glob.rest.len() - 1);
        }
        let middle = glob.rest.split_last().map_or(&[] as &[_], |(_, middle)| middle);
        glob.finders =
            middle.iter().map(|(_, texts)| texts.iter().map(Text::finder).collect()).collect();
        glob
    }

    /// Those of `texts`, and nothing else.
    pub(super) fn of_texts(texts: Vec<Text>) -> Self {
        Self { first: texts, rest: Vec::new(), finders: Vec::new(), exact: true }
    }

    /// Whether what has this look matches, rather than may match.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// If everything has this look, from the least number of characters on: that number.
    pub(super) fn anything_from(&self) -> Option<u32> {
        match self.rest.as_slice() {
            [(min, last)] if has_empty(&self.first) && has_empty(last) => Some(*min),
            _ => None,
        }
    }

    /// The texts that it may start with.
    pub(super) fn first(&self) -> &[Text] {
        &self.first
    }

    /// All its texts.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.first.iter().chain(self.rest.iter().flat_map(|(_, texts)| texts))
    }

    /// Whether `text` has this look.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(((min, last), middle)) = self.rest.split_last() else {
            return self.first.iter().any(|first| first.equals(text));
        };
        let starts = self.first.iter().filter(|first| first.starts(text));
        let Some(start) = starts.map(Text::len).min() else { return false };
        let mut left = &text[start..];
        for ((min, texts), finders) in middle.iter().zip(&self.finders) {
            let Some(searched) = skip(left, *min) else { return false };
            let texts = texts.iter().zip(finders);
            let ends = texts.filter_map(|(text, finder)| text.find_end(finder, searched));
            let Some(end) = ends.min() else { return false };
            left = &searched[end..];
        }
        skip(left, *min).is_some_and(|left| last.iter().any(|last| last.ends(left)))
    }

    /// Adds a part that matches only a few texts, after a stretch if one is open.
    fn extend(&mut self, part: &Node, open: Option<Stretch>) -> bool {
        let Some(texts) = texts(part, Case::Keep, LIMITS) else { return false };
        if let Some(stretch) = open {
            self.push(stretch, texts);
            return true;
        }
        let last = self.rest.last_mut().map_or(&mut self.first, |(_, texts)| texts);
        match product(last.clone(), &texts, LIMITS) {
            Some(joined) => *last = joined,
            None => return false,
        }
        true
    }

    fn push(&mut self, stretch: Stretch, texts: Vec<Text>) {
        self.exact &= stretch.unbounded && !stretch.opaque;
        self.rest.push((stretch.min, texts));
    }
}

impl Stretch {
    fn followed_by(mut self, part: &Node) -> Self {
        match part {
            Node::Class(class) if class.is_any() => self.min = self.min.saturating_add(1),
            Node::Repeat { min, max, sub, .. } if is_any(sub) => {
                self.min = self.min.saturating_add(*min);
                self.unbounded |= max.is_none();
            }
            _ => self.opaque = true,
        }
        self
    }
}

/// The alternatives of a whole expression, each as the parts that it matches one after the other.
pub(super) fn alternatives(node: &Node) -> Vec<Vec<&Node>> {
    let mut parts = Vec::new();
    flatten(node, &mut parts);
    // Here these say nothing new.
    let start = parts.iter().take_while(|part| matches!(part, Node::Look(Look::Start))).count();
    parts.drain(..start);
    while matches!(parts.last(), Some(Node::Look(Look::End))) {
        parts.pop();
    }
    match parts.as_slice() {
        [Node::Alternate(nodes)] => nodes.iter().flat_map(alternatives).collect(),
        _ => vec![parts],
    }
}

fn flatten<'n>(node: &'n Node, parts: &mut Vec<&'n Node>) {
    match node {
        Node::Capture { sub, .. } => flatten(sub, parts),
        Node::Concat(nodes) => nodes.iter().for_each(|node| flatten(node, parts)),
        Node::Empty => {}
        node => parts.push(node),
    }
}

fn is_any(node: &Node) -> bool {
    match node {
        Node::Class(class) => class.is_any(),
        Node::Capture { sub, .. } => is_any(sub),
        _ => false,
    }
}

fn has_empty(texts: &[Text]) -> bool {
    texts.iter().any(Text::is_empty)
}

/// What follows so many characters; `None` if there are fewer.
fn skip(text: &str, characters: u32) -> Option<&str> {
    let mut left = text.chars();
    for _ in 0..characters {
        left.next()?;
    }
    Some(left.as_str())
}
