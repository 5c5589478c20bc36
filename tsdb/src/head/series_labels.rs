//! Which labels each series of the head has, and which series has given labels.

use std::hash::BuildHasher;

use model::{Labels, LabelsPacker};

use super::hash_index::HashIndex;
use super::lean::LeanPush;
use super::symbols::{Pairs, Symbols};
use crate::bytes::{Bytes, DecodeError};

/// Spare strings and pairs without which no new series is admitted.
const ROOM_BYTES: usize = 64 << 20;

/// Labels by slot, and the indexes over them.
#[derive(Debug, Default)]
pub(crate) struct SeriesLabels {
    pub(crate) symbols: Symbols,
    pub(crate) pairs: Pairs,
    /// The pair ids of all series, one series after another, in order of label names.
    ids: Vec<u32>,
    /// Where the ids of each series end.
    ends: Vec<u32>,
    /// Slots by the hash of their pair ids.
    by_labels: HashIndex,
    hasher: foldhash::fast::RandomState,
    /// How often symbols and pairs were numbered anew.
    numbering: u64,
}

/// Puts together labels of series of one selection. Series that follow each other are most often of one metric or of one container, so what the last one
/// had is looked at first.
#[derive(Debug, Default)]
pub(crate) struct LabelsReader {
    packer: LabelsPacker,
    /// How often symbols and pairs had been numbered anew when the last labels were put together.
    numbering: Option<u64>,
    /// The pairs of the last labels, and where each ends in their packed form.
    ids: Vec<u32>,
    ends: Vec<usize>,
    /// Those of the next, while they are put together.
    next: (Vec<u32>, Vec<usize>),
    /// The symbols of the wanted names, once they were looked up in this numbering.
    wanted: Option<Vec<u32>>,
    /// Where among the pairs of the last series those of the wanted names were, if it had them all.
    places: Vec<u32>,
    /// The last labels of wanted names.
    last: Option<Labels>,
}

impl LabelsReader {
    /// Forgets what was put together in another numbering.
    fn start(&mut self, numbering: u64) {
        self.numbering = Some(numbering);
        self.ids.clear();
        self.ends.clear();
        self.wanted = None;
        self.places.clear();
        self.last = None;
    }
}

impl SeriesLabels {
    /// Whether a batch that brings `bytes` of labels will find room.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let ids_left = (u32::MAX as usize).saturating_sub(self.ids.len());
        bytes < ROOM_BYTES
            && ids_left > ROOM_BYTES
            && self.symbols.has_room(ROOM_BYTES)
            && self.pairs.len() < u32::MAX as usize - ROOM_BYTES
    }

    /// The series with these labels, sorted by name.
    pub(crate) fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u32> {
        let mut ids = Vec::with_capacity(16);
        for (name, value) in labels {
            ids.push(self.pairs.find(self.symbols.find(name)?, self.symbols.find(value)?)?);
        }
        self.by_labels.find(self.hasher.hash_one(&ids[..]), |slot| self.pair_ids(slot) == ids)
    }

    /// Adds a series with these labels, sorted by name, that no series has yet; `None` when the tables are full.
    pub(crate) fn add<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<u32> {
        let slot = u32::try_from(self.ends.len()).ok().filter(|&slot| slot < u32::MAX - 1)?;
        let start = self.ids.len();
        for (name, value) in labels {
            let (name, value) = (self.symbols.intern(name)?, self.symbols.intern(value)?);
            self.ids.lean_push(self.pairs.add(name, value, slot)?);
        }
        self.ends.lean_push(u32::try_from(self.ids.len()).ok()?);
        let hash = self.hasher.hash_one(&self.ids[start..]);
        self.by_labels.insert(hash, slot);
        Some(slot)
    }

    /// The pairs of a series in order of label names.
    #[inline]
    pub(crate) fn pair_ids(&self, slot: u32) -> &[u32] {
        let at = slot as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start as usize..self.ends[at] as usize]
    }

    /// The first pair of the series in slot `at`; 0 if it has none.
    #[inline]
    pub(crate) fn first_pair(&self, at: usize) -> u32 {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ids.get(start as usize).copied().unwrap_or(0)
    }

    /// The labels of a series as strings.
    pub(crate) fn pairs_of(&self, slot: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pair_ids(slot).iter().map(|&id| self.pair(id))
    }

    /// A pair as strings.
    pub(crate) fn pair(&self, id: u32) -> (&str, &str) {
        let pair = self.pairs.get(id);
        (self.symbols.get(pair.name), self.symbols.get(pair.value))
    }

    pub(crate) fn labels(&self, slot: u32) -> Labels {
        self.labels_with(slot, &mut LabelsReader::default())
    }

    /// [`labels`](Self::labels) for many series.
    pub(crate) fn labels_with(&self, slot: u32, reader: &mut LabelsReader) -> Labels {
        if reader.numbering != Some(self.numbering) {
            reader.start(self.numbering);
        }
        reader.next.0.extend_from_slice(self.pair_ids(slot));
        // The pairs that are remembered are no longer those of wanted names.
        reader.last = None;
        self.put_together(reader)
    }

    /// Those labels of a series that have one of these names, always the same for one reader.
    pub(crate) fn labels_named(
        &self,
        slot: u32,
        names: &[String],
        reader: &mut LabelsReader,
    ) -> Labels {
        if reader.numbering != Some(self.numbering) {
            reader.start(self.numbering);
        }
        self.find_wanted(self.pair_ids(slot), names, reader);
        if let Some(last) = &reader.last
            && reader.next.0 == reader.ids
        {
            reader.next.0.clear();
            return last.clone();
        }
        let labels = self.put_together(reader);
        reader.last = Some(labels.clone());
        labels
    }

    /// Collects the pairs of wanted names among `ids`.
    fn find_wanted(&self, ids: &[u32], names: &[String], reader: &mut LabelsReader) {
        let LabelsReader { wanted, places, next: (found, _), .. } = reader;
        let symbols = || names.iter().filter_map(|name| self.symbols.find(name)).collect();
        let wanted = &*wanted.get_or_insert_with(symbols);
        let is_wanted = |id: u32| wanted.contains(&self.pairs.get(id).name);
        // A series has a name once: where all were found, others have none.
        for &place in &*places {
            match ids.get(place as usize) {
                Some(&id) if is_wanted(id) => found.push(id),
                _ => break,
            }
        }
        if found.len() == wanted.len() {
            return;
        }
        found.clear();
        places.clear();
        for (place, &id) in (0..).zip(ids) {
            if is_wanted(id) {
                found.push(id);
                places.push(place);
            }
        }
    }

    /// Labels with the pairs in `reader.next`. What is where it was in the last ones is copied.
    fn put_together(&self, reader: &mut LabelsReader) -> Labels {
        let LabelsReader { packer, ids: before, ends: ends_before, next: (ids, ends), .. } = reader;
        let mut at = 0;
        while at < ids.len() {
            let same = ids[at..].iter().zip(before.iter().skip(at)).take_while(|(a, b)| a == b);
            let same = at + same.count();
            if same > at {
                let start = at.checked_sub(1).map_or(0, |last| ends_before[last]);
                let from = packer.len();
                packer.push_again(start..ends_before[same - 1]);
                ends.extend(ends_before[at..same].iter().map(|end| from + end - start));
                at = same;
            } else {
                let (name, value) = self.pair(ids[at]);
                packer.push(name, value);
                ends.push(packer.len());
                at += 1;
            }
        }
        std::mem::swap(before, ids);
        std::mem::swap(ends_before, ends);
        ids.clear();
        ends.clear();
        packer.take()
    }

    /// The pairs with label `name`.
    pub(crate) fn pairs_named(&self, name: &str) -> &[u32] {
        self.symbols.find(name).map_or(&[], |symbol| self.pairs.with_name(symbol))
    }

    /// Tables of strings and pairs as a snapshot has them, without series.
    pub(crate) fn restore_tables(
        symbols: u32,
        pairs: u32,
        bytes: &mut Bytes<'_>,
    ) -> Result<Self, DecodeError> {
        let symbols = Symbols::restore(symbols, bytes)?;
        let count = pairs;
        let pairs = Pairs::restore(count, symbols.len(), bytes)?;
        if (0..count).any(|id| symbols.get(pairs.get(id).value).is_empty()) {
            return Err(DecodeError::Invalid("label value is empty"));
        }
        Ok(Self { symbols, pairs, ..Self::default() })
    }

    /// Adds a series with these pairs, sorted by name; it cannot be found before [`finish_restoring`](Self::finish_restoring).
    pub(crate) fn restore_series(&mut self, ids: &[u32]) -> Result<u32, DecodeError> {
        let slot = u32::try_from(self.ends.len()).map_err(|_| DecodeError::Range)?;
        if ids.iter().any(|&id| id as usize >= self.pairs.len()) {
            return Err(DecodeError::Invalid("label pair is unknown"));
        }
        ids.iter().for_each(|&id| self.ids.lean_push(id));
        self.ends.lean_push(u32::try_from(self.ids.len()).map_err(|_| DecodeError::Range)?);
        Ok(slot)
    }

    /// Builds the indexes over the series that were restored.
    ///
    /// # Errors
    /// When the names of a series are not ascending.
    pub(crate) fn finish_restoring(&mut self) -> Result<(), DecodeError> {
        self.check_names()?;
        self.pairs.restore_postings(&self.ids, &self.ends);
        self.by_labels = HashIndex::with_capacity(self.ends.len());
        let mut start = 0;
        for (slot, &end) in (0..).zip(&self.ends) {
            let ids = &self.ids[start as usize..end as usize];
            self.by_labels.insert(self.hasher.hash_one(ids), slot);
            start = end;
        }
        Ok(())
    }

    /// Checks that the names of each series are ascending, and so distinct: by their rank among all names, which are few.
    fn check_names(&self) -> Result<(), DecodeError> {
        let count = u32::try_from(self.pairs.len()).map_err(|_| DecodeError::Range)?;
        let mut names: Vec<u32> = (0..count).map(|id| self.pairs.get(id).name).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.sort_unstable_by_key(|&name| self.symbols.get(name));
        let mut ranks = vec![0_u32; self.symbols.len()];
        let (mut rank, mut before) = (0, None);
        for name in distinct {
            let text = self.symbols.get(name);
            rank += u32::from(before.replace(text) != Some(text));
            ranks[name as usize] = rank;
        }
        names.iter_mut().for_each(|name| *name = ranks[*name as usize]);
        let mut start = 0;
        for &end in &self.ends {
            let ids = &self.ids[start as usize..end as usize];
            if !ids.is_sorted_by(|&a, &b| names[a as usize] < names[b as usize]) {
                return Err(DecodeError::Invalid("label names are not ascending"));
            }
            start = end;
        }
        Ok(())
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        (self.ids.capacity() + self.ends.capacity()) * size_of::<u32>()
            + self.by_labels.bytes()
            + self.symbols.bytes()
            + self.pairs.bytes()
    }

    /// The tables with nothing but the series in `slots`, renumbered in this order.
    pub(crate) fn rebuilt(&self, slots: &[u32]) -> Self {
        let mut rebuilt = Self { numbering: self.numbering + 1, ..Self::default() };
        for &slot in slots {
            rebuilt.add(self.pairs_of(slot)).expect("a part of what fits fits");
        }
        rebuilt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::put_str;

    #[test]
    fn readers_put_together_what_is_wanted_through_renumbering() {
        let mut labels = SeriesLabels::default();
        let sets = [
            [("__name__", "m"), ("job", "a"), ("pod", "p0")],
            [("__name__", "n"), ("job", "a"), ("pod", "p0")],
            [("__name__", "n"), ("job", "b"), ("pod", "p0")],
        ];
        for set in sets {
            labels.add(set.into_iter()).unwrap();
        }
        let names = ["job", "pod", "zone"].map(String::from);
        let mut reader = LabelsReader::default();
        let wanted = |set: [(&str, &str); 3]| Labels::from_pairs(set.into_iter().skip(1)).unwrap();
        let whole = |set: [(&str, &str); 3]| Labels::from_pairs(set).unwrap();
        let mut check = |labels: &SeriesLabels, slots: &[u32], sets: &[[(&str, &str); 3]]| {
            for (&slot, &set) in slots.iter().zip(sets) {
                assert_eq!(labels.labels_named(slot, &names, &mut reader), wanted(set));
                assert_eq!(labels.labels(slot), whole(set));
            }
        };
        check(&labels, &[0, 1, 2, 1, 0], &[sets[0], sets[1], sets[2], sets[1], sets[0]]);
        // Symbols and pairs have other numbers from here on.
        let labels = labels.rebuilt(&[2, 1]);
        check(&labels, &[0, 1, 0], &[sets[2], sets[1], sets[2]]);
        let labels = labels.rebuilt(&[1]);
        check(&labels, &[0], &[sets[1]]);
    }

    #[test]
    fn labels_are_put_together_whatever_the_last_ones_were() {
        let mut labels = SeriesLabels::default();
        // Every way in which four names have no value or one of two.
        let sets = (0..81_u32).map(|i| {
            let values =
                ["a", "b", "c", "d"].into_iter().zip([i / 27, i / 9 % 3, i / 3 % 3, i % 3]);
            let texts = [
                "",
                "x",
                "a longer value of more than sixty-three bytes, whose length has two digits",
            ];
            let pairs = values.map(|(name, value)| (name, texts[value as usize]));
            pairs.filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>()
        });
        let sets: Vec<_> = sets.collect();
        for set in &sets {
            labels.add(set.iter().copied()).unwrap();
        }
        for names in [&["a"][..], &["b", "d"], &["a", "b", "c", "d"], &["c", "c"], &["e"], &[]] {
            let names: Vec<String> = names.iter().map(|name| String::from(*name)).collect();
            let of = |set: &[(&str, &str)], named: bool| {
                let is_wanted = |pair: &&(&str, &str)| !named || names.iter().any(|n| n == pair.0);
                Labels::from_pairs(set.iter().filter(is_wanted).copied()).unwrap()
            };
            let mut readers: [LabelsReader; 3] = Default::default();
            let [whole, part, both] = &mut readers;
            for (first, one) in (0..).zip(&sets) {
                for (second, other) in (0..).zip(&sets) {
                    for (slot, set) in [(first, one), (second, other)] {
                        for reader in [&mut *whole, &mut *both] {
                            assert_eq!(labels.labels_with(slot, reader), of(set, false));
                        }
                        for reader in [&mut *part, &mut *both] {
                            assert_eq!(labels.labels_named(slot, &names, reader), of(set, true));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tables_without_values_are_not_restored() {
        let mut tables = vec![];
        put_str(&mut tables, "a");
        put_str(&mut tables, "");
        tables.extend([0_u32, 1].iter().flat_map(|symbol| symbol.to_be_bytes()));
        assert!(SeriesLabels::restore_tables(2, 1, &mut Bytes::new(&tables)).is_err());
    }

    #[test]
    fn restored_series_have_ascending_names() {
        // Two symbols with one text are what only a damaged snapshot has.
        let mut tables = vec![];
        for symbol in ["a", "b", "x", "y", "b"] {
            put_str(&mut tables, symbol);
        }
        for pair in [[0_u32, 2], [1, 2], [1, 3], [4, 3]] {
            tables.extend(pair.iter().flat_map(|symbol| symbol.to_be_bytes()));
        }
        for (ids, is_right) in [
            (&[0_u32, 1][..], true),
            (&[0, 2], true),
            (&[], true),
            (&[1, 0], false),
            (&[1, 2], false),
            (&[1, 3], false),
            (&[3, 1], false),
        ] {
            let mut labels = SeriesLabels::restore_tables(5, 4, &mut Bytes::new(&tables)).unwrap();
            labels.restore_series(&[0]).unwrap();
            labels.restore_series(ids).unwrap();
            assert_eq!(labels.finish_restoring().is_ok(), is_right, "{ids:?}");
        }
    }
}
