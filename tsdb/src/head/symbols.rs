//! Strings of the head, each once, as numbers; and pairs of them with the series that carry the pair.
//!
//! A series' labels are a list of pair ids, four bytes each. Nothing is removed: when series are dropped, the head builds
//! both tables anew from those that remain.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use super::hash_index::HashIndex;
use super::lean::LeanPush;
use crate::bytes::{Bytes, DecodeError};

/// Bytes of strings beyond which nothing more is interned.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// Interned strings.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    text: String,
    /// Where each symbol ends in `text`.
    ends: Vec<u32>,
    index: HashIndex,
    hasher: foldhash::fast::RandomState,
}

impl Symbols {
    #[inline]
    pub(crate) fn get(&self, symbol: u32) -> &str {
        let at = symbol as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.index.find(self.hash(text), |symbol| self.get(symbol) == text)
    }

    /// The symbol of `text`, new if need be; `None` when the table is full.
    pub(crate) fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        self.intern_new(text)
    }

    /// As [`intern`](Self::intern), for a string that is not there.
    fn intern_new(&mut self, text: &str) -> Option<u32> {
        let end = self.text.len().checked_add(text.len()).filter(|&end| end < TEXT_BYTES_MAX)?;
        let symbol = u32::try_from(self.ends.len()).ok()?;
        if self.text.capacity() < end {
            self.text.reserve_exact(text.len() + self.text.len() / 8 + 1024);
        }
        self.text.push_str(text);
        self.ends.lean_push(u32::try_from(end).ok()?);
        self.index.insert(self.hash(text), symbol);
        Some(symbol)
    }

    /// A table of `count` strings that a snapshot has.
    pub(crate) fn restore(count: u32, bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        if count as usize > bytes.len() {
            return Err(DecodeError::End);
        }
        let index = HashIndex::with_capacity(count as usize);
        let mut symbols = Self { index, ..Self::default() };
        for _ in 0..count {
            symbols.intern_new(bytes.str()?).ok_or(DecodeError::Range)?;
        }
        Ok(symbols)
    }

    /// Whether strings of `bytes` can be added.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.text.len() + bytes < TEXT_BYTES_MAX && self.ends.len() + bytes < u32::MAX as usize
    }

    /// How many strings there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>() + self.index.bytes()
    }

    fn hash(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// The series that carry a pair, ascending.
#[derive(Clone, Debug)]
pub(crate) enum Postings {
    /// Most pairs of a label like `pod_uid` have few series, many have one.
    One(u32),
    Many(Vec<u32>),
}

impl Postings {
    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn push(&mut self, slot: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, slot]),
            Self::Many(slots) => slots.lean_push(slot),
        }
    }
}

/// One label of one or more series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: u32,
    pub(crate) value: u32,
}

/// Name and value pairs.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// Close together: queries look at those of each series.
    pairs: Vec<Pair>,
    /// The series of each.
    series: Vec<Postings>,
    index: HashIndex,
    hasher: foldhash::fast::RandomState,
    /// For each label name, the pairs with it in order of appearance. Names are few.
    by_name: Vec<(u32, Vec<u32>)>,
    /// In how many postings series are listed.
    postings: usize,
}

impl Pairs {
    #[inline]
    pub(crate) fn get(&self, pair: u32) -> Pair {
        self.pairs[pair as usize]
    }

    /// The series that carry a pair, ascending.
    pub(crate) fn series(&self, pair: u32) -> &[u32] {
        self.series[pair as usize].as_slice()
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn find(&self, name: u32, value: u32) -> Option<u32> {
        self.index.find(self.hash(name, value), |pair| self.get(pair) == Pair { name, value })
    }

    /// Notes that the series in `slot`, larger than any before, carries the pair.
    pub(crate) fn add(&mut self, name: u32, value: u32, slot: u32) -> Option<u32> {
        self.postings += 1;
        if let Some(pair) = self.find(name, value) {
            self.series[pair as usize].push(slot);
            return Some(pair);
        }
        let pair = u32::try_from(self.pairs.len()).ok().filter(|&pair| pair < u32::MAX)?;
        self.pairs.lean_push(Pair { name, value });
        self.series.lean_push(Postings::One(slot));
        self.index.insert(self.hash(name, value), pair);
        match self.by_name.iter_mut().find(|(known, _)| *known == name) {
            Some((_, pairs)) => pairs.lean_push(pair),
            None => self.by_name.push((name, vec![pair])),
        }
        Some(pair)
    }

    /// A table of `count` pairs that a snapshot has, of `symbols` strings, without postings.
    pub(crate) fn restore(
        count: u32,
        symbols: usize,
        bytes: &mut Bytes<'_>,
    ) -> Result<Self, DecodeError> {
        if count as usize > bytes.len() / 8 {
            return Err(DecodeError::End);
        }
        let index = HashIndex::with_capacity(count as usize);
        let mut pairs = Self { index, ..Self::default() };
        pairs.pairs.reserve_exact(count as usize);
        pairs.series.reserve_exact(count as usize);
        let mut names: HashMap<u32, usize, foldhash::fast::RandomState> = HashMap::default();
        for pair in 0..count {
            let (name, value) = (bytes.be32()?, bytes.be32()?);
            if name as usize >= symbols || value as usize >= symbols {
                return Err(DecodeError::Invalid("symbol is unknown"));
            }
            pairs.pairs.push(Pair { name, value });
            pairs.series.push(Postings::Many(Vec::new()));
            pairs.index.insert(pairs.hash(name, value), pair);
            let at = *names.entry(name).or_insert_with(|| {
                pairs.by_name.push((name, Vec::new()));
                pairs.by_name.len() - 1
            });
            pairs.by_name[at].1.lean_push(pair);
        }
        Ok(pairs)
    }

    /// Fills the postings of restored pairs: `ids` has the pairs of all series, one after another, and `ends` where each ends.
    pub(crate) fn restore_postings(&mut self, ids: &[u32], ends: &[u32]) {
        self.postings = ids.len();
        let mut counts = vec![0_u32; self.pairs.len()];
        ids.iter().for_each(|&id| counts[id as usize] += 1);
        for (series, &count) in self.series.iter_mut().zip(&counts) {
            if count > 1 {
                *series = Postings::Many(Vec::with_capacity(count as usize));
            }
        }
        let mut start = 0;
        for (slot, &end) in (0..).zip(ends) {
            for &id in &ids[start as usize..end as usize] {
                match &mut self.series[id as usize] {
                    Postings::Many(slots) if counts[id as usize] > 1 => slots.push(slot),
                    only => *only = Postings::One(slot),
                }
            }
            start = end;
        }
    }

    /// The pairs with label `name`, in no useful order.
    pub(crate) fn with_name(&self, name: u32) -> &[u32] {
        let found = self.by_name.iter().find(|(known, _)| *known == name);
        found.map_or(&[], |(_, pairs)| pairs.as_slice())
    }

    /// Label names with their pairs.
    pub(crate) fn names(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.by_name.iter().map(|(name, pairs)| (*name, pairs.as_slice()))
    }

    /// Bytes held, about: each posting counts once.
    pub(crate) fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<Pair>()
            + self.series.capacity() * size_of::<Postings>()
            + self.postings * size_of::<u32>()
            + self.pairs.len() * size_of::<u32>()
            + self.index.bytes()
    }

    fn hash(&self, name: u32, value: u32) -> u64 {
        self.hasher.hash_one(u64::from(name) << 32 | u64::from(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_interned_once() {
        let mut symbols = Symbols::default();
        let texts: Vec<String> = (0..5000).map(|i| format!("text-{i}")).collect();
        let ids: Vec<u32> = texts.iter().map(|text| symbols.intern(text).unwrap()).collect();
        for (text, &id) in texts.iter().zip(&ids) {
            assert_eq!(symbols.intern(text), Some(id));
            assert_eq!(symbols.get(id), text);
        }
        assert_eq!(symbols.find("other"), None);
        assert_eq!(symbols.intern(""), Some(5000));
        assert_eq!(symbols.get(5000), "");
    }

    #[test]
    fn pairs_collect_their_series() {
        let mut pairs = Pairs::default();
        let a = pairs.add(1, 2, 0).unwrap();
        let b = pairs.add(1, 3, 1).unwrap();
        assert_eq!(pairs.add(1, 2, 2), Some(a));
        assert_eq!(pairs.series(a), [0, 2]);
        assert_eq!(pairs.series(b), [1]);
        assert_eq!(pairs.with_name(1), [a, b]);
        assert_eq!(pairs.find(2, 1), None);
    }
}
