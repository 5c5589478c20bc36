//! Groups of series that have labels in common: those that an aggregation makes one of, or that operators match on.

use std::hash::BuildHasher;

use foldhash::HashMap;
use model::{Charge, Labels, METRIC_NAME};

use super::block::entry_bytes;
use super::failure::QueryFailure;
use super::plan::Grouping;

/// The labels that the series of a group have in common, by which it is found.
pub(super) fn group_labels(labels: &Labels, grouping: &Grouping<'_>) -> Labels {
    if grouping.without {
        let mut names = grouping.labels.clone();
        names.push(METRIC_NAME);
        labels.without(&names)
    } else {
        labels.only(&grouping.labels)
    }
}

/// The packed form of [`group_labels`]; it may be put together in `pieces`.
fn packed_in_common<'p>(
    labels: &'p Labels,
    grouping: &Grouping<'_>,
    pieces: &'p mut String,
) -> &'p str {
    let is_in_common = |name: &str| {
        let is_named = grouping.labels.contains(&name);
        if grouping.without { !is_named && name != METRIC_NAME } else { is_named }
    };
    labels.packed_kept(is_in_common, pieces)
}

/// Groups in the order in which their first series come.
#[derive(Debug, Default)]
pub(super) struct Groups {
    labels: Vec<Labels>,
    /// The newest group of a hash of labels. To look one up, no set of labels needs to be made.
    by_hash: HashMap<u64, usize>,
    /// For each group the one before of the same hash.
    older: Vec<Option<usize>>,
    /// Where labels in common are put together.
    pieces: String,
}

impl Groups {
    /// The group of a series with `labels`; a new one is the last.
    ///
    /// # Errors
    /// [`QueryFailure::OverBudget`]
    pub(super) fn of(
        &mut self,
        labels: &Labels,
        grouping: &Grouping<'_>,
        charge: &mut Charge,
    ) -> Result<usize, QueryFailure> {
        let in_common = packed_in_common(labels, grouping, &mut self.pieces);
        let hash = self.by_hash.hasher().hash_one(in_common);
        let newest = self.by_hash.get(&hash).copied();
        let mut known = newest;
        while let Some(group) = known {
            if self.labels[group].packed() == in_common {
                return Ok(group);
            }
            known = self.older[group];
        }
        let labels = group_labels(labels, grouping);
        charge.grow(size_of::<Labels>() + size_of::<Option<usize>>() + entry_bytes(&labels))?;
        self.by_hash.insert(hash, self.labels.len());
        self.older.push(newest);
        self.labels.push(labels);
        Ok(self.labels.len() - 1)
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// What the series of `group` have in common.
    pub(super) fn labels(&self, group: usize) -> &Labels {
        &self.labels[group]
    }

    /// The labels of all groups.
    pub(super) fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_and_without() {
        let labels = Labels::from_pairs([(METRIC_NAME, "m"), ("a", "1"), ("b", "2")]).unwrap();
        let check = |names: &[&'static str], without, expected: &str| {
            let grouping = Grouping { labels: names.to_vec(), without };
            let common = group_labels(&labels, &grouping);
            assert_eq!(common.to_string(), expected);
            let mut pieces = String::from("of another set");
            assert_eq!(packed_in_common(&labels, &grouping, &mut pieces), common.packed());
            let mut groups = Groups::default();
            let mut charge = model::Budget::unlimited().charge(0).unwrap();
            let mut of = |labels: &Labels| groups.of(labels, &grouping, &mut charge).unwrap();
            assert_eq!((of(&labels), of(&labels), of(&common)), (0, 0, 0));
            let other = Labels::from_pairs([("a", "3"), ("b", "4"), (METRIC_NAME, "n")]).unwrap();
            let is_apart = !expected.starts_with("{}");
            assert_eq!((of(&other), of(&labels)), (usize::from(is_apart), 0));
            assert_eq!(groups.len(), 1 + usize::from(is_apart));
            assert_eq!(*groups.labels(0), common);
        };
        check(&["a"], false, r#"{a="1"}"#);
        check(&["a"], true, r#"{b="2"}"#);
        check(&[], false, "{}");
        check(&[METRIC_NAME], false, r#"{__name__="m"}"#);
    }
}
