//! Operations on two vectors: arithmetic, comparisons and set operators.
//!
//! Labels do not vary over the steps, so series are paired once. Whether a pairing is ambiguous does vary: two series of a group are
//! a conflict only at steps at which both have a sample.

use foldhash::{HashMap, HashMapExt};
use model::{Charge, Labels, LabelsBuilder, QueryContext};

use super::arithmetic::{Combination, changes_metric, trims};
use super::block::{
    ABSENT, Block, Merger, Series, entry_bytes, is_absent, is_present, without_metadata,
};
use super::buffer::Buffer;
use super::elements::Remark;
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::groups::Groups;
use super::plan::{Grouping, Join};
use super::row::{Cell, Histograms, Row, RowRef, any_present, put};
use super::steps::Steps;
use crate::ast::{BinaryOp, Cardinality, VectorMatching};

/// Evaluates the right operand and combines it with `left`.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    join: &Join<'_>,
    left: Block,
    steps: Steps,
) -> Result<Block, QueryFailure> {
    let before = evaluator.samples.held().saturating_sub(left.samples());
    let right = evaluator.collect(&join.right, steps)?;
    let mut groups = MatchGroups::new(join.matching, evaluator)?;
    let sides =
        Sides { left_groups: groups.of(&left)?, right_groups: groups.of(&right)?, left, right };
    let result = match join.op {
        BinaryOp::And => sides.keep_left(groups.len(), evaluator, true)?,
        BinaryOp::Unless => sides.keep_left(groups.len(), evaluator, false)?,
        BinaryOp::Or => sides.or(groups.len(), evaluator, steps)?,
        _ => sides.combine(join, &groups, evaluator, steps)?,
    };
    evaluator.samples.release_to(before, 0);
    evaluator.samples.hold(result.samples())?;
    Ok(result)
}

/// Match groups, numbered: series that agree in the labels that an operation matches on.
struct MatchGroups<'m> {
    matching: Grouping<'m>,
    groups: Groups,
    held: Charge,
}

impl<'m> MatchGroups<'m> {
    fn new(matching: &'m VectorMatching, evaluator: &Evaluator<'_>) -> Result<Self, QueryFailure> {
        let held = evaluator.context.budget.charge(0)?;
        let labels = matching.labels.iter().map(String::as_str).collect();
        let matching = Grouping { labels, without: !matching.on };
        Ok(Self { matching, groups: Groups::default(), held })
    }

    fn len(&self) -> usize {
        self.groups.len()
    }

    fn labels(&self, group: usize) -> &Labels {
        self.groups.labels(group)
    }

    /// The group of each row.
    fn of(&mut self, block: &Block) -> Result<Vec<usize>, QueryFailure> {
        // The group of each row, and the rows of each group.
        self.held.grow(2 * block.len() * size_of::<usize>())?;
        let mut groups = Vec::with_capacity(block.len());
        for (series, _) in block.rows() {
            let known = self.groups.len();
            let group = self.groups.of(&series.labels, &self.matching, &mut self.held)?;
            if group == known {
                self.held.grow(size_of::<Vec<usize>>())?;
            }
            groups.push(group);
        }
        Ok(groups)
    }
}

/// Both operands, with the group of each row.
struct Sides {
    left: Block,
    left_groups: Vec<usize>,
    right: Block,
    right_groups: Vec<usize>,
}

/// For each of `count` groups, the steps at which any of its rows has a sample.
fn presence(
    evaluator: &Evaluator<'_>,
    block: &Block,
    groups: &[usize],
    count: usize,
) -> Result<Flags, QueryFailure> {
    let width = block.width();
    let mut flags = Flags::new(evaluator, count * width)?;
    let present = &mut flags.set;
    for ((_, row), group) in block.rows().zip(groups) {
        for (present, value) in present[group * width..][..width].iter_mut().zip(row.values) {
            *present |= is_present(*value);
        }
    }
    Ok(flags)
}

/// One flag for each group and step, or for each step.
struct Flags {
    set: Vec<bool>,
    charge: Charge,
}

impl Flags {
    fn new(evaluator: &Evaluator<'_>, count: usize) -> Result<Self, QueryFailure> {
        let charge = evaluator.context.budget.charge(count)?;
        Ok(Self { set: vec![false; count], charge })
    }

    /// Adds `count` flags. What goes with them takes `bytes`.
    fn grow(&mut self, count: usize, bytes: usize) -> Result<(), QueryFailure> {
        let before = self.set.capacity();
        self.set.reserve(count);
        self.charge.grow(self.set.capacity() - before + bytes)?;
        self.set.resize(self.set.len() + count, false);
        Ok(())
    }
}

impl Sides {
    /// `and` (`present`) and `unless`: samples on the left whose group has (no) sample on the right.
    fn keep_left(
        mut self,
        groups: usize,
        evaluator: &Evaluator<'_>,
        present: bool,
    ) -> Result<Block, QueryFailure> {
        let on_right = presence(evaluator, &self.right, &self.right_groups, groups)?;
        let width = self.left.width();
        let mut kept = Block::new(width, evaluator.context)?;
        for index in 0..self.left.len() {
            evaluator.context.check()?;
            let on_right = &on_right.set[self.left_groups[index] * width..][..width];
            let series = self.left.series(index).clone();
            let mut row = self.left.take_row(index);
            for (step, on_right) in on_right.iter().enumerate() {
                if *on_right != present {
                    row.remove(step);
                }
            }
            if any_present(row.values) {
                kept.push(series, row)?;
            }
        }
        Ok(kept)
    }

    /// All of the left, and samples on the right whose group has none on the left.
    fn or(
        mut self,
        groups: usize,
        evaluator: &Evaluator<'_>,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        let on_left = presence(evaluator, &self.left, &self.left_groups, groups)?;
        let width = self.left.width();
        let mut merger = evaluator.merger(steps)?;
        for index in 0..self.left.len() {
            merger.push(self.left.series(index).clone(), self.left.take_row(index))?;
        }
        for index in 0..self.right.len() {
            evaluator.context.check()?;
            let on_left = &on_left.set[self.right_groups[index] * width..][..width];
            let series = self.right.series(index).clone();
            let mut row = self.right.take_row(index);
            for (step, on_left) in on_left.iter().enumerate() {
                if *on_left {
                    row.remove(step);
                }
            }
            if any_present(row.values) {
                merger.push(series, row)?;
            }
        }
        Ok(merger.into_block())
    }

    /// Arithmetic and comparisons.
    fn combine(
        self,
        join: &Join<'_>,
        groups: &MatchGroups<'_>,
        evaluator: &Evaluator<'_>,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        let swapped = join.matching.cardinality == Cardinality::OneToMany;
        let (many, many_groups, one, one_groups) = if swapped {
            (&self.right, &self.right_groups, &self.left, &self.left_groups)
        } else {
            (&self.left, &self.left_groups, &self.right, &self.right_groups)
        };
        let side = if swapped { "left" } else { "right" };
        // As in Prometheus, the fill value for the right is that for the "one" side, also where that is the left.
        let (fill_one, fill_many) = (join.matching.fill_right, join.matching.fill_left);
        let fills = fill_one.is_some() || fill_many.is_some();
        let context = evaluator.context;
        let conflict = check_one_side(context, many, (one, one_groups), groups, side, fills)?;
        let mut by_group = vec![Vec::new(); groups.len()];
        for (index, group) in one_groups.iter().enumerate() {
            by_group[*group].push(index);
        }
        let mut pairs = Pairs::new(join, evaluator, groups.len(), steps)?;
        if let Some((step, conflict)) = conflict {
            pairs.failure.is_conflict(step, conflict);
        }
        let on_one = match fill_one {
            Some(_) => Some(presence(evaluator, one, one_groups, groups.len())?),
            None => None,
        };
        // A row that stands in for one that is missing.
        let mut filled = if fills { Some(evaluator.empty_row(steps)?) } else { None };
        for (index, &group) in many_groups.iter().enumerate() {
            context.check()?;
            let side = (many.series(index), many.row(index));
            for &partner in &by_group[group] {
                pairs.combine(group, side, (one.series(partner), one.row(partner)))?;
            }
            if let (Some(fill), Some(on_one), Some(values)) = (fill_one, &on_one, &mut filled) {
                let matched = &on_one.set[group * steps.count..][..steps.count];
                fill_where_missing(values, fill, matched);
                let row = RowRef { values, histograms: Histograms::NONE };
                pairs.combine(group, side, (&Series::new(groups.labels(group).clone()), row))?;
            }
        }
        if let (Some(fill), Some(values)) = (fill_many, &mut filled) {
            for (index, &group) in one_groups.iter().enumerate() {
                context.check()?;
                let matched = &pairs.matched.set[group * steps.count..][..steps.count];
                fill_where_missing(values, fill, matched);
                let row = RowRef { values, histograms: Histograms::NONE };
                let series = Series::new(groups.labels(group).clone());
                pairs.combine(group, (&series, row), (one.series(index), one.row(index)))?;
            }
        }
        if let Some(error) = pairs.failure.error {
            return Err(error.into());
        }
        let results = pairs.results.into_block();
        for remark in pairs.remarks.last.into_iter().flatten() {
            evaluator.annotate(&remark.annotation(join.op), join.span);
        }
        Ok(results)
    }
}

/// Puts a value where there is no match.
fn fill_where_missing(values: &mut [f64], fill: f64, matched: &[bool]) {
    for (value, matched) in values.iter_mut().zip(matched) {
        *value = if *matched { ABSENT } else { fill };
    }
}

/// What is to be said about pairs with histograms, and about cutting floats.
struct Remarks {
    /// Of each step the last one alone, as in Prometheus. Empty if there was none.
    last: Vec<Option<Remark>>,
    /// The steps at which the current pair has no result, and so is no match. Empty if there is none.
    failed: Vec<bool>,
    held: Charge,
}

impl Remarks {
    /// Combines the cells of two rows where either is a histogram; the floats in `out` are combined already.
    fn combine(
        &mut self,
        combination: Combination,
        left: RowRef<'_>,
        right: RowRef<'_>,
        out: &mut [f64],
    ) -> Result<Histograms, QueryFailure> {
        let mut histograms = Histograms::default();
        self.failed.clear();
        let floats_only = left.histograms.is_empty() && right.histograms.is_empty();
        if floats_only && !trims(combination.op) {
            return Ok(histograms);
        }
        for step in 0..out.len() {
            let (Some(left), Some(right)) = (left.at(step), right.at(step)) else { continue };
            if matches!((left, right), (Cell::Float(_), Cell::Float(_))) && !trims(combination.op) {
                continue;
            }
            let (value, remark) = match combination.cells(left, right) {
                Ok(element) => (element.value, element.remark),
                Err(remark) => {
                    self.failed.resize(out.len(), false);
                    self.failed[step] = true;
                    (None, Some(remark))
                }
            };
            if let Some(remark) = remark {
                if self.last.is_empty() {
                    self.held.grow(out.len() * size_of::<(Option<Remark>, bool)>())?;
                }
                self.last.resize(out.len(), None);
                self.last[step] = Some(remark);
            }
            put(out, &mut histograms, step, value);
        }
        Ok(histograms)
    }
}

/// Each group must have one sample at most on the "one" side, at steps at which the other side has any sample at all, or is filled. Otherwise
/// the first step at which that is not so, and the error: of several errors that of the earliest step is the one to report.
fn check_one_side(
    context: &QueryContext,
    many: &Block,
    (one, one_groups): (&Block, &[usize]),
    groups: &MatchGroups<'_>,
    side: &'static str,
    fills: bool,
) -> Result<Option<(usize, ExecutionError)>, QueryFailure> {
    let mut held = context.budget.charge(groups.len() * size_of::<usize>())?;
    let mut counts = vec![0_usize; groups.len()];
    one_groups.iter().for_each(|group| counts[*group] += 1);
    if counts.iter().all(|count| *count <= 1) {
        return Ok(None);
    }
    let width = one.width();
    // Whether steps matter, and the groups of one step.
    held.grow(width + one.len() * 2 * size_of::<(usize, usize)>())?;
    let mut matters = vec![fills; width];
    for (_, row) in many.rows() {
        matters.iter_mut().zip(row.values).for_each(|(matters, v)| *matters |= is_present(*v));
    }
    // By step first: the earliest conflict is the one that is reported.
    for step in (0..width).filter(|step| matters[*step]) {
        let mut taken: HashMap<usize, usize> = HashMap::new();
        for (index, group) in one_groups.iter().enumerate() {
            if is_absent(one.row(index).values[step]) {
                continue;
            }
            if let Some(earlier) = taken.insert(*group, index) {
                let text = |index: usize| one.series(index).labels.to_string();
                let (a, b) = (text(index), text(earlier));
                let (first, second) = if a <= b { (a, b) } else { (b, a) };
                let group = groups.labels(*group).to_string();
                let error = ExecutionError::DuplicateMatch { group, side, first, second };
                return Ok(Some((step, error)));
            }
        }
    }
    Ok(None)
}

/// Combines pairs, collects the results and finds those that are ambiguous.
struct Pairs<'j> {
    join: &'j Join<'j>,
    evaluator: &'j Evaluator<'j>,
    results: Merger,
    width: usize,
    failure: Failure,
    /// By group and step, whether there is a result: for one-to-one matching, and where what has none is filled.
    matched: Flags,
    /// For group modifiers, whose results must differ within a group: by group and labels, numbers.
    by_labels: HashMap<(usize, Labels), usize>,
    /// By these numbers and step, whether there is a result.
    seen: Flags,
    remarks: Remarks,
    out: Buffer,
}

impl<'j> Pairs<'j> {
    fn new(
        join: &'j Join<'j>,
        evaluator: &'j Evaluator<'j>,
        groups: usize,
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let one_to_one = join.matching.cardinality == Cardinality::OneToOne;
        let needs_matched = one_to_one || join.matching.fill_left.is_some();
        let width = steps.count;
        let matched = Flags::new(evaluator, if needs_matched { groups * width } else { 0 })?;
        Ok(Self {
            join,
            evaluator,
            results: evaluator.merger(steps)?,
            width,
            failure: Failure { conflicts: width, duplicates: width, error: None },
            matched,
            by_labels: HashMap::new(),
            seen: Flags::new(evaluator, 0)?,
            remarks: Remarks {
                last: Vec::new(),
                failed: Vec::new(),
                held: evaluator.context.budget.charge(0)?,
            },
            out: evaluator.empty_row(steps)?,
        })
    }

    /// Combines a row of the "many" side with one of the "one" side.
    fn combine(
        &mut self,
        group: usize,
        (many, many_row): (&Series, RowRef<'_>),
        (one, one_row): (&Series, RowRef<'_>),
    ) -> Result<(), QueryFailure> {
        let Join { op, return_bool, matching, .. } = *self.join;
        let combination = Combination { op, return_bool, keeps_right: false };
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (left, right) = if swapped { (one_row, many_row) } else { (many_row, one_row) };
        self.out.fill(ABSENT);
        combination.rows(left.values, right.values, &mut self.out);
        let histograms = self.remarks.combine(combination, left, right, &mut self.out)?;
        let series = self.claim(group, many, one, (many_row.values, one_row.values))?;
        let mut row = Row { values: &mut self.out, histograms };
        (self.failure.duplicates..self.width).for_each(|step| row.remove(step));
        if any_present(row.values)
            && let (_, Some(step)) = self.results.push_unless_twice(series, row)?
        {
            self.failure.is_duplicate(step);
        }
        Ok(())
    }

    /// The series of the result of a pair, which must be the only one of its group at each step.
    fn claim(
        &mut self,
        group: usize,
        many: &Series,
        one: &Series,
        operands: (&[f64], &[f64]),
    ) -> Result<Series, QueryFailure> {
        // A name that is dropped on the spot is so before labels are included, which may bring another one.
        let delayed = self.evaluator.delayed_names;
        let drops = changes_metric(self.join.op) || (self.join.return_bool && !delayed);
        let mut series =
            Series::new(result_labels(&many.labels, &one.labels, self.join.matching, drops));
        if self.join.return_bool && delayed {
            series.drop_name(delayed);
        }
        let failed = &self.remarks.failed;
        let matters = self.failure.conflicts;
        let operands = (&operands.0[..matters], &operands.1[..matters]);
        if self.join.matching.cardinality == Cardinality::OneToOne {
            let matched = &mut self.matched.set[group * self.width..][..self.width];
            if let Err(step) = claim(matched, operands, failed) {
                self.failure.is_conflict(step, ExecutionError::ManyToOne);
            }
            return Ok(series);
        }
        let next = self.by_labels.len();
        let number = *self.by_labels.entry((group, series.labels.clone())).or_insert(next);
        if number == next {
            self.seen.grow(self.width, entry_bytes(&series.labels))?;
        }
        let seen = &mut self.seen.set[number * self.width..][..self.width];
        if let Err(step) = claim(seen, operands, failed) {
            self.failure.is_conflict(step, ExecutionError::GroupingNotUnique);
        }
        if let Some(matched) = self.matched.set.get_mut(group * self.width..)
            && !matched.is_empty()
        {
            matched.iter_mut().zip(&*seen).for_each(|(matched, seen)| *matched |= *seen);
        }
        Ok(series)
    }
}

/// Why an operation has no result. Prometheus goes step by step, so of several reasons that of the earliest step counts, and within a step
/// conflicts come before results of equal labels.
struct Failure {
    /// Conflicts matter at steps before this one.
    conflicts: usize,
    /// Results of equal labels matter at steps before this one.
    duplicates: usize,
    error: Option<ExecutionError>,
}

impl Failure {
    /// There is a conflict at a step at which it matters.
    fn is_conflict(&mut self, step: usize, error: ExecutionError) {
        (self.conflicts, self.duplicates) = (step, step);
        self.error = Some(error);
    }

    /// There are results of equal labels at a step at which they matter.
    fn is_duplicate(&mut self, step: usize) {
        (self.conflicts, self.duplicates) = (step + 1, step);
        self.error = Some(ExecutionError::DuplicateLabels);
    }
}

/// Marks the steps at which both operands have a sample; fails with the first that is marked already. Comparisons that filter the result away
/// count: whether a match is ambiguous does not depend on values. Pairs of kinds that have no result do not.
fn claim(taken: &mut [bool], (many, one): (&[f64], &[f64]), failed: &[bool]) -> Result<(), usize> {
    for (step, ((taken, a), b)) in taken.iter_mut().zip(many).zip(one).enumerate() {
        let has_result = failed.get(step) != Some(&true);
        if is_present(*a) && is_present(*b) && has_result && std::mem::replace(taken, true) {
            return Err(step);
        }
    }
    Ok(())
}

/// The labels of a result: those of the "many" side, as far as the operation keeps them.
fn result_labels(
    many: &Labels,
    one: &Labels,
    matching: &VectorMatching,
    drops_name: bool,
) -> Labels {
    let mut labels = if drops_name { without_metadata(many) } else { many.clone() };
    if matching.cardinality == Cardinality::OneToOne {
        let names: Vec<&str> = matching.labels.iter().map(String::as_str).collect();
        labels = if matching.on { labels.only(&names) } else { labels.without(&names) };
    }
    if matching.include.is_empty() {
        return labels;
    }
    let mut builder = LabelsBuilder::from_labels(&labels);
    for name in &matching.include {
        builder.set(name, one.get(name).unwrap_or_default());
    }
    builder.build()
}
