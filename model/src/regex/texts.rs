//! The texts that a part of an expression matches, where they are few.

use memchr::arch::all::is_equal;
use memchr::memmem::Finder;

use super::ast::Node;
use super::fold;

/// A text to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    text: String,
    /// Whether case does not matter; then the text is ASCII and in lower case.
    folds: bool,
}

impl Text {
    pub(super) fn empty() -> Self {
        Self { text: String::new(), folds: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text, if its case matters.
    pub(super) fn into_exact(self) -> Option<String> {
        (!self.folds).then_some(self.text)
    }

    /// The part at the front that every match has as it stands.
    pub(super) fn exact_front(&self) -> &str {
        let letter = |c: char| self.folds && c.is_ascii_alphabetic();
        &self.text[..self.text.find(letter).unwrap_or(self.text.len())]
    }

    /// Whether a character beyond ASCII may match: the Kelvin sign and the long s.
    pub(super) fn folds_beyond_ascii(&self) -> bool {
        self.folds && self.text.contains(['k', 's'])
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn equals(&self, text: &str) -> bool {
        self.len() == text.len() && self.is(text.as_bytes())
    }

    pub(super) fn starts(&self, text: &str) -> bool {
        text.len() >= self.len() && self.is(&text.as_bytes()[..self.len()])
    }

    pub(super) fn ends(&self, text: &str) -> bool {
        text.len() >= self.len() && self.is(&text.as_bytes()[text.len() - self.len()..])
    }

    /// Where the first occurrence ends; `finder` is the one of this text.
    pub(super) fn find_end(&self, finder: &Finder<'_>, text: &str) -> Option<usize> {
        let text = text.as_bytes();
        let start = if self.folds && !self.is_empty() {
            text.windows(self.len()).position(|window| self.is(window))
        } else {
            finder.find(text)
        };
        start.map(|start| start + self.len())
    }

    /// What finds the text, if its case matters.
    pub(super) fn finder(&self) -> Finder<'static> {
        Finder::new(self.text.as_bytes()).into_owned()
    }

    /// The comparison is inlined: a call for a few bytes costs more than all else.
    fn is(&self, bytes: &[u8]) -> bool {
        let own = self.text.as_bytes();
        if self.folds { own.eq_ignore_ascii_case(bytes) } else { is_equal(own, bytes) }
    }

    /// Appends `other`, if one of the two ways to compare suits both.
    fn append(&mut self, other: &Self) -> Option<()> {
        if self.folds != other.folds {
            let exact = if self.folds { other } else { &*self };
            if exact.text.bytes().any(|b| !b.is_ascii() || b.is_ascii_alphabetic()) {
                return None;
            }
            self.folds = !self.text.is_empty() || !other.text.is_empty();
        }
        self.text.push_str(&other.text);
        Some(())
    }
}

/// What becomes of texts whose case does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Every spelling is a text of its own.
    Expand,
    /// They stay one text.
    Keep,
}

/// How many texts to make at most, and of how many bytes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) texts: usize,
    pub(super) bytes: usize,
}

/// The texts that `node` matches, as a part of an expression; `None` when they are too many, or
/// it depends on where it stands.
pub(super) fn texts(node: &Node, case: Case, limits: Limits) -> Option<Vec<Text>> {
    match node {
        Node::Empty => Some(vec![Text::empty()]),
        Node::Look(_) | Node::Repeat { max: None, .. } => None,
        Node::Literal { text, folds } => literal(text, *folds, case, limits),
        Node::Class(class) => {
            let count = |&(lo, hi): &(u32, u32)| usize::try_from(hi - lo).unwrap_or(usize::MAX);
            let mut left = limits.texts;
            for range in class.ranges() {
                left = left.checked_sub(count(range).checked_add(1)?)?;
            }
            let members = class.ranges().iter().flat_map(|&(lo, hi)| lo..=hi);
            let text = |c: char| Text { text: String::from(c), folds: false };
            Some(members.filter_map(char::from_u32).map(text).collect())
        }
        Node::Capture { sub, .. } => texts(sub, case, limits),
        Node::Repeat { min, max: Some(max), sub, .. } => {
            let one = texts(sub, case, limits)?;
            let mut all = if *min == 0 { vec![Text::empty()] } else { Vec::new() };
            let mut repeated = vec![Text::empty()];
            for count in 1..=*max {
                repeated = product(repeated, &one, limits)?;
                if count >= *min {
                    all.extend_from_slice(&repeated);
                    check(&all, limits)?;
                }
            }
            Some(all)
        }
        Node::Concat(nodes) => {
            let mut all = vec![Text::empty()];
            for node in nodes {
                all = product(all, &texts(node, case, limits)?, limits)?;
            }
            Some(all)
        }
        Node::Alternate(nodes) => {
            let mut all = Vec::new();
            let mut left = limits;
            for node in nodes {
                let texts = texts(node, case, left)?;
                left.texts = left.texts.checked_sub(texts.len())?;
                left.bytes = left.bytes.checked_sub(bytes(&texts))?;
                all.extend(texts);
            }
            Some(all)
        }
    }
}

/// Every one of `left` followed by every one of `right`.
pub(super) fn product(left: Vec<Text>, right: &[Text], limits: Limits) -> Option<Vec<Text>> {
    let (count, factor) = (left.len().checked_mul(right.len())?, (left.len(), right.len()));
    let size =
        bytes(&left).checked_mul(factor.1)?.checked_add(bytes(right).checked_mul(factor.0)?)?;
    if count > limits.texts || size > limits.bytes {
        return None;
    }
    let mut left = left;
    if let [only] = right {
        for text in &mut left {
            text.append(only)?;
        }
        return Some(left);
    }
    let mut all = Vec::with_capacity(count);
    for front in &left {
        for back in right {
            let mut text = front.clone();
            text.append(back)?;
            all.push(text);
        }
    }
    Some(all)
}

fn literal(text: &str, folds: bool, case: Case, limits: Limits) -> Option<Vec<Text>> {
    if !folds {
        return Some(vec![Text { text: String::from(text), folds: false }]);
    }
    if case == Case::Keep {
        let text = text.is_ascii().then(|| text.to_ascii_lowercase())?;
        return Some(vec![Text { text, folds: true }]);
    }
    let mut all = vec![Text::empty()];
    for c in text.chars() {
        let others = fold::others(c).into_iter().filter_map(char::from_u32);
        let spellings: Vec<_> = std::iter::once(c)
            .chain(others)
            .map(|c| Text { text: String::from(c), folds: false })
            .collect();
        all = product(all, &spellings, limits)?;
    }
    Some(all)
}

fn bytes(texts: &[Text]) -> usize {
    texts.iter().map(Text::len).sum()
}

fn check(texts: &[Text], limits: Limits) -> Option<()> {
    (texts.len() <= limits.texts && bytes(texts) <= limits.bytes).then_some(())
}
