//! Sets of code points, and the named ones of ASCII.
//!
//! Surrogates are members like any other until the set is compiled: Go negates over all of
//! 0–10FFFF, and no text has them.

use super::fold;

/// The largest code point.
pub(super) const RUNE_MAX: u32 = 0x10_FFFF;

/// A set of code points, as inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Class {
    /// Sorted, disjoint and not abutting once [`Self::normalize`] has run.
    ranges: Vec<(u32, u32)>,
}

impl Class {
    /// The set of these ranges, in any order.
    pub(super) fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut class = Self { ranges: ranges.into_iter().collect() };
        class.normalize();
        class
    }

    /// Every code point.
    pub(super) fn any() -> Self {
        Self { ranges: vec![(0, RUNE_MAX)] }
    }

    /// Every code point but the newline.
    pub(super) fn not_newline() -> Self {
        Self { ranges: vec![(0, 0x09), (0x0B, RUNE_MAX)] }
    }

    pub(super) fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether every character is a member.
    pub(super) fn is_any(&self) -> bool {
        self.ranges == [(0, RUNE_MAX)]
    }

    /// Adds a range, without keeping the set normal.
    pub(super) fn push(&mut self, lo: u32, hi: u32) {
        self.ranges.push((lo, hi));
    }

    /// Adds a range and, if `folds`, what differs from its members by case only.
    pub(super) fn push_folded(&mut self, lo: u32, hi: u32, folds: bool) {
        self.push(lo, hi);
        if folds {
            fold::for_each_in(lo, hi, |other| {
                if !(lo..=hi).contains(&other) {
                    self.push(other, other);
                }
            });
        }
    }

    /// Adds all of `other`.
    pub(super) fn extend(&mut self, other: &Self) {
        self.ranges.extend_from_slice(&other.ranges);
    }

    /// What is not a member, of a normal set.
    pub(super) fn negated(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut next = 0;
        for &(lo, hi) in &self.ranges {
            if next < lo {
                ranges.push((next, lo - 1));
            }
            next = hi + 1;
        }
        if next <= RUNE_MAX {
            ranges.push((next, RUNE_MAX));
        }
        Self { ranges }
    }

    /// The set and what differs from its members by case only.
    pub(super) fn folded(&self) -> Self {
        let mut folded = Self::default();
        for &(lo, hi) in &self.ranges {
            folded.push_folded(lo, hi, true);
        }
        folded.normalize();
        folded
    }

    /// Sorts, and joins what overlaps or abuts.
    pub(super) fn normalize(&mut self) {
        self.ranges.sort_unstable();
        let mut kept: usize = 0;
        for index in 0..self.ranges.len() {
            let (lo, hi) = self.ranges[index];
            if kept > 0 && lo <= self.ranges[kept - 1].1.saturating_add(1) {
                self.ranges[kept - 1].1 = self.ranges[kept - 1].1.max(hi);
            } else {
                self.ranges[kept] = (lo, hi);
                kept += 1;
            }
        }
        self.ranges.truncate(kept);
    }
}

type Ranges = &'static [(u8, u8)];

const DIGIT: Ranges = &[(b'0', b'9')];
const SPACE: Ranges = &[(b'\t', b'\n'), (0x0C, b'\r'), (b' ', b' ')];
const WORD: Ranges = &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];

/// The set that `\d`, `\s`, `\w` and their negations stand for.
pub(super) fn perl(letter: char, folds: bool) -> Option<Class> {
    let ranges = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    Some(ascii(ranges, letter.is_ascii_uppercase(), folds))
}

/// The set that `[:name:]` stands for; a `^` before the name negates.
pub(super) fn posix(name: &str, folds: bool) -> Option<Class> {
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges: Ranges = match name {
        "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        "ascii" => &[(0, 0x7F)],
        "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        "cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        "digit" => DIGIT,
        "graph" => &[(b'!', b'~')],
        "lower" => &[(b'a', b'z')],
        "print" => &[(b' ', b'~')],
        "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        "space" => &[(b'\t', b'\r'), (b' ', b' ')],
        "upper" => &[(b'A', b'Z')],
        "word" => WORD,
        "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    };
    Some(ascii(ranges, negated, folds))
}

fn ascii(ranges: Ranges, negated: bool, folds: bool) -> Class {
    let class = Class::new(ranges.iter().map(|&(lo, hi)| (u32::from(lo), u32::from(hi))));
    let class = if folds { class.folded() } else { class };
    if negated { class.negated() } else { class }
}
