//! Label sets: sorted, packed into one string, cheap to clone, hash and compare for equality.
//!
//! A set is one reference-counted string: for each label, in name order, the length of the name, the
//! name, the length of the value, the value. Lengths are written in base 64, least significant digit
//! first, one character a digit, with 0x40 set on all but the last. Every length character is ASCII,
//! hence the whole is valid UTF-8 and reading a label is a plain slice of a `str`, without `unsafe` and
//! without validating again. The encoding is canonical, so equality is a `memcmp`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use xxhash_rust::xxh64::xxh64;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

const DIGIT_BITS: u32 = 6;
const DIGIT_MASK: usize = 0x3f;
const MORE: u8 = 0x40;

/// One name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'a> {
    /// Unique within its set.
    pub name: &'a str,
    /// Never empty: an empty value means that the label is absent.
    pub value: &'a str,
}

/// Why a list of pairs is not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The same name occurs twice.
    #[error("label name {0:?} is not unique")]
    Duplicate(String),
}

/// An immutable set of labels, sorted by name.
///
/// Cloning copies a pointer. Order compares label by label, as Prometheus sorts series.
#[derive(Clone)]
pub struct Labels(Arc<str>);

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels(Arc::from("")));
        EMPTY.clone()
    }

    /// Builds a set from pairs in any order; pairs with an empty value are left out.
    ///
    /// # Errors
    /// [`LabelsError::Duplicate`] when a name occurs twice.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> =
            pairs.into_iter().filter(|(_, v)| !v.as_ref().is_empty()).collect();
        pairs.sort_unstable_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        for pair in pairs.windows(2) {
            if pair[0].0.as_ref() == pair[1].0.as_ref() {
                return Err(LabelsError::Duplicate(String::from(pair[0].0.as_ref())));
            }
        }
        let mut packer = LabelsPacker::default();
        pairs.iter().for_each(|(name, value)| packer.push(name.as_ref(), value.as_ref()));
        Ok(packer.take())
    }

    /// Builds a set from pairs that are sorted by name, each name once and no value empty; `None` if they are not.
    #[must_use]
    pub fn from_sorted_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut packer = LabelsPacker::default();
        let mut previous = None;
        for (name, value) in pairs {
            if value.is_empty() || previous.is_some_and(|previous| previous >= name) {
                return None;
            }
            previous = Some(name);
            packer.push(name, value);
        }
        Some(packer.take())
    }

    /// The value of label `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        // Names are sorted, so the search may stop at the first that is not smaller.
        let found = self.iter().find(|label| label.name >= name)?;
        (found.name == name).then_some(found.value)
    }

    /// The metric name, empty when there is none.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// The labels in name order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set without the labels named in `names`.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        self.keeping(|name| !names.contains(&name))
    }

    /// The set with nothing but the labels named in `names`.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        self.keeping(|name| names.contains(&name))
    }

    /// The labels whose names `keep` accepts.
    fn keeping(&self, keep: impl Fn(&str) -> bool) -> Self {
        match self.packed_kept(keep, &mut String::new()) {
            kept if kept.len() == self.0.len() => self.clone(),
            "" => Self::empty(),
            kept => Self(Arc::from(kept)),
        }
    }

    /// The packed form, which is that of no other set.
    #[must_use]
    pub fn packed(&self) -> &str {
        &self.0
    }

    /// The [packed form](Self::packed) of the set with nothing but the labels whose names `keep` accepts, without making that set. What stays is
    /// packed as it was; where it does not lie together, it is put together in `pieces`.
    pub fn packed_kept<'p>(
        &'p self,
        keep: impl Fn(&str) -> bool,
        pieces: &'p mut String,
    ) -> &'p str {
        let packed = &*self.0;
        pieces.clear();
        let (mut from, mut to, mut rest) = (0, 0, packed);
        while !rest.is_empty() {
            let start = packed.len() - rest.len();
            let (name, after) = split_prefixed(rest);
            (_, rest) = split_prefixed(after);
            if !keep(name) {
                continue;
            }
            if to != start {
                pieces.push_str(&packed[from..to]);
                from = start;
            }
            to = packed.len() - rest.len();
        }
        if pieces.is_empty() {
            return &packed[from..to];
        }
        pieces.push_str(&packed[from..to]);
        pieces
    }

    /// A hash that is the same in every process: XXH64 of the packed form.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        xxh64(self.0.as_bytes(), 0)
    }

    /// Bytes of the packed form, for accounting.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Memory in which label sets are put together, one after the other.
#[derive(Debug, Default)]
pub struct LabelsPacker {
    packed: String,
    /// The set that was taken last.
    taken: String,
    /// Where the name of the newest label that was pushed lies.
    newest: Range<usize>,
}

impl LabelsPacker {
    /// Adds a label. Its name must be greater than those added since the last [`take`](Self::take), its value not empty: sets of which
    /// that is not true are not equal to others with the same labels.
    #[inline]
    pub fn push(&mut self, name: &str, value: &str) {
        debug_assert!(self.newest.is_empty() || self.packed[self.newest.clone()] < *name);
        debug_assert!(!value.is_empty());
        push_prefixed(&mut self.packed, name);
        self.newest = self.packed.len() - name.len()..self.packed.len();
        push_prefixed(&mut self.packed, value);
    }

    /// Adds labels of the set that was taken last: those that lie in `bytes` of its packed form, whose lengths are what [`len`](Self::len) was while
    /// it was put together. As with [`push`](Self::push), their names must be greater than those added before.
    #[inline]
    pub fn push_again(&mut self, bytes: Range<usize>) {
        self.packed.push_str(&self.taken[bytes]);
    }

    /// Bytes of the packed form so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// Whether no label was added since the last set was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The set of the labels added, after which there is none.
    #[must_use]
    pub fn take(&mut self) -> Labels {
        std::mem::swap(&mut self.packed, &mut self.taken);
        self.packed.clear();
        self.newest = 0..0;
        if self.taken.is_empty() {
            return Labels::empty();
        }
        Labels(Arc::from(&*self.taken))
    }
}

#[inline]
fn push_prefixed(packed: &mut String, text: &str) {
    let mut rest = text.len();
    loop {
        let digit = u8::try_from(rest & DIGIT_MASK).expect("masked to six bits");
        rest >>= DIGIT_BITS;
        packed.push(char::from(if rest == 0 { digit } else { digit | MORE }));
        if rest == 0 {
            break;
        }
    }
    packed.push_str(text);
}

/// Takes one length-prefixed text off the front.
#[inline]
fn split_prefixed(packed: &str) -> (&str, &str) {
    match packed.as_bytes()[0] {
        // Most are short.
        len if len & MORE == 0 => packed[1..].split_at(usize::from(len)),
        _ => split_long(packed),
    }
}

/// As [`split_prefixed`], of a text whose length has several digits.
fn split_long(packed: &str) -> (&str, &str) {
    let bytes = packed.as_bytes();
    let (mut len, mut at) = (usize::from(bytes[0]) & DIGIT_MASK, 1);
    while bytes[at - 1] & MORE != 0 {
        len |=
            (usize::from(bytes[at]) & DIGIT_MASK) << (DIGIT_BITS * u32::try_from(at).unwrap_or(0));
        at += 1;
    }
    (&packed[at..at + len], &packed[at + len..])
}

/// The labels of a set in name order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Label<'a>;

    #[inline]
    fn next(&mut self) -> Option<Label<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, rest) = split_prefixed(self.rest);
        let (value, rest) = split_prefixed(rest);
        self.rest = rest;
        Some(Label { name, value })
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = Label<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.0, &*other.0);
        let same = common_prefix(a.as_bytes(), b.as_bytes());
        if same == a.len() || same == b.len() {
            return a.len().cmp(&b.len());
        }
        // Texts that end before the first difference are equal, so that only their lengths need to be looked at.
        let mut at = 0;
        loop {
            let (text, rest) = split_prefixed(&a[at..]);
            let end = a.len() - rest.len();
            if end > same {
                return text.cmp(split_prefixed(&b[at..]).0);
            }
            at = end;
        }
    }
}

/// How many bytes the two begin with in common.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let (a_steps, b_steps) = (a.as_chunks::<STEP>().0, b.as_chunks::<STEP>().0);
    let steps = a_steps.iter().zip(b_steps).take_while(|(a, b)| a == b).count();
    let start = steps * STEP;
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

/// `{__name__="up", job="node"}`, with values quoted as Go's `%q` quotes ordinary text.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, label) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(label.name) {
                f.write_str(label.name)?;
            } else {
                write_quoted(f, label.name)?;
            }
            f.write_str("=")?;
            write_quoted(f, label.value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes `text` in double quotes with `\\`, `\"`, `\n`, `\r`, `\t` and other controls escaped.
pub(crate) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Changes a label set: start from one, set and remove labels, build another.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Starts without labels.
    #[must_use]
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Starts with the labels of `base`.
    #[must_use]
    pub fn from_labels(base: &Labels) -> Self {
        let pairs = base.iter().map(|l| (String::from(l.name), String::from(l.value))).collect();
        Self { pairs }
    }

    /// The value of `name` so far.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Sets `name` to `value`, replacing what it was; an empty value removes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        if value.is_empty() {
            return self.remove(name);
        }
        match self.pairs.iter_mut().find(|(n, _)| n == name) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((String::from(name), value)),
        }
        self
    }

    /// Removes `name` if it is there.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The set of what was set and not removed.
    #[must_use]
    pub fn build(&self) -> Labels {
        let mut pairs: Vec<_> = self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        pairs.sort_unstable();
        let mut packer = LabelsPacker::default();
        pairs.into_iter().for_each(|(name, value)| packer.push(name, value));
        packer.take()
    }
}

/// Whether `name` matches `[a-zA-Z_][a-zA-Z0-9_]*`: it needs no quotes in PromQL or exposition.
#[must_use]
pub fn is_legacy_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` matches `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[must_use]
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn pairs_are_sorted_and_empty_values_left_out() {
        let set = labels(&[("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(set.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(set.len(), 2);
        assert_eq!(set.get("a"), Some("1"));
        assert_eq!(set.get("c"), None);
    }

    #[test]
    fn sorted_pairs_are_taken_as_they_are() {
        let build = |pairs: &[(&'static str, &'static str)]| {
            Labels::from_sorted_pairs(pairs.iter().copied())
        };
        assert_eq!(build(&[("a", "1"), ("b", "2")]), Some(labels(&[("a", "1"), ("b", "2")])));
        assert_eq!(build(&[]), Some(Labels::empty()));
        for wrong in [[("b", "1"), ("a", "2")], [("a", "1"), ("a", "2")], [("a", "1"), ("b", "")]] {
            assert_eq!(build(&wrong), None);
        }
    }

    #[test]
    fn what_two_sets_have_in_common_is_packed_once() {
        let mut packer = LabelsPacker::default();
        assert_eq!(packer.take(), Labels::empty());
        packer.push("a", "1");
        let first = packer.len();
        packer.push("b", "2");
        let second = packer.len();
        packer.push("d", "4");
        let end = packer.len();
        assert_eq!(packer.take(), labels(&[("a", "1"), ("b", "2"), ("d", "4")]));
        assert!(packer.is_empty());
        packer.push_again(first..second);
        packer.push("c", "3");
        packer.push_again(second..end);
        assert_eq!(packer.take(), labels(&[("b", "2"), ("c", "3"), ("d", "4")]));
        packer.push_again(0..second - first);
        assert_eq!(packer.take(), labels(&[("b", "2")]));
    }

    #[test]
    fn a_name_may_occur_once() {
        let twice = Labels::from_pairs([("a", "1"), ("a", "2")]);
        assert_eq!(twice, Err(LabelsError::Duplicate(String::from("a"))));
    }

    #[test]
    fn lengths_of_every_size_survive_packing() {
        for len in [0, 1, 63, 64, 65, 4095, 4096, 4097, 300_000] {
            let value = "é".repeat(len) + "x";
            let name = "n".repeat(len + 1);
            let set = labels(&[(name.as_str(), value.as_str()), ("zz", "end")]);
            assert_eq!(set.get(&name), Some(value.as_str()), "length {len}");
            assert_eq!(set.get("zz"), Some("end"), "length {len}");
        }
    }

    #[test]
    fn order_is_by_label_not_by_packed_bytes() {
        // Packed, "aaa" starts with a larger length than "b".
        assert!(labels(&[("aaa", "1")]) < labels(&[("b", "1")]));
        assert!(labels(&[("a", "10")]) < labels(&[("a", "9")]));
        assert!(labels(&[("a", "1")]) < labels(&[("a", "1"), ("b", "1")]));
        assert!(Labels::empty() < labels(&[("a", "1")]));
    }

    #[test]
    fn order_is_that_of_the_pairs() {
        // Lengths of one and of two characters, prefixes of each other, and differences behind a long common part.
        let long = "x".repeat(70);
        let values = ["1", "10", "2", "é", &long, &long[1..], &(long.clone() + "a"), "~"];
        let names = ["a", "aa", "b", &long];
        let mut sets: Vec<Vec<(&str, &str)>> = vec![vec![]];
        for name in names {
            for value in values {
                sets.push(vec![(name, value)]);
                sets.push(vec![("_", &long), (name, value)]);
                sets.extend(values.map(|other| vec![(name, value), ("zz", other)]));
            }
        }
        for a in &sets {
            for b in &sets {
                assert_eq!(labels(a).cmp(&labels(b)), a.cmp(b), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn sets_can_be_narrowed() {
        let set = labels(&[(METRIC_NAME, "m"), ("a", "1"), ("b", "2")]);
        assert_eq!(set.without(&[METRIC_NAME, "b"]), labels(&[("a", "1")]));
        assert_eq!(set.only(&["b", "nope"]), labels(&[("b", "2")]));
        assert_eq!(set.without(&["nope"]), set);
        assert_eq!(set.only(&[]), Labels::empty());
    }

    #[test]
    fn any_part_of_a_set_is_as_if_made_of_its_labels() {
        let long = "x".repeat(100);
        let pairs = [("A", "1"), (METRIC_NAME, "m"), ("a", long.as_str()), ("b", "é"), ("cc", "")];
        let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        for set in 0..32_u32 {
            let of = |mask: u32| {
                let chosen = (0..5).filter(|at| mask & 1 << at != 0).map(|at| pairs[at]);
                chosen.collect::<Vec<_>>()
            };
            let whole = labels(&of(set));
            for mask in 0..32_u32 {
                let named: Vec<&str> =
                    (0..5).filter(|at| mask & 1 << at != 0).map(|at| names[at]).collect();
                assert_eq!(whole.only(&named), labels(&of(set & mask)), "{whole} only {named:?}");
                let rest = labels(&of(set & !mask));
                assert_eq!(whole.without(&named), rest, "{whole} without {named:?}");
            }
        }
    }

    #[test]
    fn a_builder_replaces_and_removes() {
        let mut builder = LabelsBuilder::from_labels(&labels(&[("a", "1"), ("b", "2")]));
        builder.set("a", "9").set("c", "3").set("b", "");
        assert_eq!(builder.build(), labels(&[("a", "9"), ("c", "3")]));
    }

    #[test]
    fn unusual_names_are_quoted() {
        assert_eq!(labels(&[("my.name", "a\"b\n")]).to_string(), r#"{"my.name"="a\"b\n"}"#);
    }
}
