//! Which series satisfy a set of matchers, on any index from labels to series.
//!
//! A matcher that the empty string satisfies is also satisfied by series that lack the label, so it subtracts the series whose value
//! does not match; all others intersect.

use std::borrow::Cow;

use model::{Matcher, QueryContext, QueryError};

/// An index from label pairs to series, which are numbers in a fixed order.
pub(crate) trait LabelIndex {
    /// All series, ascending.
    fn all(&self) -> Result<Vec<u32>, QueryError>;

    /// The series with this pair, ascending.
    fn equal(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, QueryError>;

    /// The series with a value of label `name` that `accept` takes, ascending. A series has one value at most. No value without `prefix` is
    /// taken, so others need not be tried.
    fn matching(
        &self,
        name: &str,
        prefix: &str,
        accept: &mut dyn FnMut(&str) -> bool,
        context: &QueryContext,
    ) -> Result<Vec<u32>, QueryError>;
}

/// The series that satisfy all matchers, ascending.
pub(crate) fn select<I: LabelIndex>(
    index: &I,
    matchers: &[Matcher],
    context: &QueryContext,
) -> Result<Vec<u32>, QueryError> {
    context.check()?;
    let mut charge = context.budget.charge(0)?;
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for matcher in matchers.iter().filter(|matcher| !matcher.matches_everything()) {
        let subtracts = matcher.matches("");
        let list = candidates(index, matcher, subtracts, context)?;
        if let Cow::Owned(list) = &list {
            charge.grow(size_of_val(list.as_slice()))?;
        }
        if subtracts {
            unwanted.push(list);
        } else if list.is_empty() {
            return Ok(Vec::new());
        } else {
            wanted.push(list);
        }
    }
    wanted.sort_unstable_by_key(|list| list.len());
    let mut lists = wanted.into_iter();
    let mut series = match lists.next() {
        Some(shortest) => shortest.into_owned(),
        None => index.all()?,
    };
    charge.grow(size_of_val(series.as_slice()))?;
    for list in lists {
        retain_in(&mut series, &list, true);
    }
    for list in &unwanted {
        retain_in(&mut series, list, false);
    }
    Ok(series)
}

/// Series whose value satisfies the matcher, or, if it `subtracts`, does not.
fn candidates<'i, I: LabelIndex>(
    index: &'i I,
    matcher: &Matcher,
    subtracts: bool,
    context: &QueryContext,
) -> Result<Cow<'i, [u32]>, QueryError> {
    let name = matcher.name();
    // Only `=` and `=~` select their literals, and only `!=` and `!~` subtract them.
    let selects = matcher.is_negative() == subtracts;
    let literals = matcher.literals().filter(|_| selects);
    match literals {
        Some([only]) if !only.is_empty() => index.equal(name, only),
        Some(values) => {
            let mut series = Vec::new();
            for value in values.iter().filter(|value| !value.is_empty()) {
                series.extend_from_slice(&index.equal(name, value)?);
            }
            // Each list is ascending, and the stable sort merges what is ascending.
            series.sort();
            Ok(Cow::Owned(series))
        }
        None => {
            let mut accept = |value: &str| matcher.matches(value) != subtracts;
            let prefix = if selects { matcher.prefix() } else { "" };
            Ok(Cow::Owned(index.matching(name, prefix, &mut accept, context)?))
        }
    }
}

/// Keeps what is (or is not) in `list`; both are ascending.
pub(crate) fn retain_in(series: &mut Vec<u32>, list: &[u32], keep: bool) {
    let mut rest = list;
    series.retain(|&one| {
        rest = &rest[gallop(rest, one)..];
        (rest.first() == Some(&one)) == keep
    });
}

/// Position of the first element not less than `target`, found in steps that double: cheap when it is near.
fn gallop(list: &[u32], target: u32) -> usize {
    let mut step = 1;
    while step <= list.len() && list[step - 1] < target {
        step *= 2;
    }
    let start = step / 2;
    let end = step.min(list.len());
    start + list[start..end].partition_point(|&one| one < target)
}

#[cfg(test)]
mod tests {
    use model::{Labels, MatchOp};
    use proptest::prelude::*;

    use super::*;
    use crate::head::Head;

    fn head() -> Head {
        let mut head = crate::testing::head(1000);
        let sets: [&[(&str, &str)]; 6] = [
            &[("n", "1")],
            &[("i", "a"), ("n", "1")],
            &[("i", "b"), ("n", "1")],
            &[("n", "2")],
            &[("n", "2.5")],
            &[("i", "a"), ("j", "x"), ("n", "2")],
        ];
        for (series, labels) in (1..).zip(sets) {
            head.add_series(series, labels.iter().copied()).unwrap();
        }
        head
    }

    #[test]
    fn matchers_select_as_they_match() {
        let head = head();
        let names = ["n", "i", "j", "missing"];
        let values = [
            "", "1", "2", "a", "b", "x", "a|b", "a|", "1|2", ".*", ".+", "2.*", "2.+", "^$", "a.?",
        ];
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let mut all = vec![];
        for name in names {
            for value in values {
                all.extend(ops.map(|op| Matcher::new(name, op, value).unwrap()));
            }
        }
        let labels: Vec<Labels> = (0..6).map(|slot| head.labels.labels(slot)).collect();
        for (i, a) in all.iter().enumerate() {
            for b in &all[..=i] {
                let matchers = [a.clone(), b.clone()];
                let found = select(&head, &matchers, &QueryContext::unbounded()).unwrap();
                let expected: Vec<u32> = (0..6)
                    .filter(|&slot| {
                        matchers.iter().all(|m| m.matches_labels(&labels[slot as usize]))
                    })
                    .collect();
                assert_eq!(found, expected, "{matchers:?}");
            }
        }
    }

    #[test]
    fn without_matchers_all_are_selected() {
        let found = select(&head(), &[], &QueryContext::unbounded()).unwrap();
        assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn sets_are_intersected_and_subtracted(
            a in prop::collection::btree_set(0_u32..300, 0..100),
            b in prop::collection::btree_set(0_u32..300, 0..100),
        ) {
            let list: Vec<u32> = b.iter().copied().collect();
            let mut both: Vec<u32> = a.iter().copied().collect();
            retain_in(&mut both, &list, true);
            prop_assert!(both.iter().eq(a.intersection(&b)));
            let mut only: Vec<u32> = a.iter().copied().collect();
            retain_in(&mut only, &list, false);
            prop_assert!(only.iter().eq(a.difference(&b)));
        }
    }
}
