//! Operations on two vectors: arithmetic, comparisons and set operators.
//!
//! Labels do not vary over the steps, so series are paired once. Whether a pairing is ambiguous does vary: two series of a group are
//! a conflict only at steps at which both have a sample.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::{Charge, Labels, LabelsBuilder, METRIC_NAME};

use super::annotations::Annotation;
use super::arithmetic::{Combination, changes_metric, trims};
use super::block::{ABSENT, Block, Merger, Series, is_absent, is_present, without_metadata};
use super::evaluator::Evaluator;
use super::failure::{ExecutionError, QueryFailure};
use super::plan::Join;
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
    let mut groups = Groups::new(join.matching);
    let sides =
        Sides { left_groups: groups.of(&left), right_groups: groups.of(&right), left, right };
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
struct Groups<'m> {
    matching: &'m VectorMatching,
    ids: HashMap<Labels, usize>,
    labels: Vec<Labels>,
}

impl<'m> Groups<'m> {
    fn new(matching: &'m VectorMatching) -> Self {
        Self { matching, ids: HashMap::new(), labels: Vec::new() }
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    /// The group of each row.
    fn of(&mut self, block: &Block) -> Vec<usize> {
        let mut names: Vec<&str> = self.matching.labels.iter().map(String::as_str).collect();
        if !self.matching.on {
            names.push(METRIC_NAME);
        }
        let mut groups = Vec::with_capacity(block.len());
        for (series, _) in block.rows() {
            let labels = if self.matching.on {
                series.labels.only(&names)
            } else {
                series.labels.without(&names)
            };
            let next = self.labels.len();
            let group = *self.ids.entry(labels.clone()).or_insert(next);
            if group == next {
                self.labels.push(labels);
            }
            groups.push(group);
        }
        groups
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
        for (present, value) in present[group * width..][..width].iter_mut().zip(row) {
            *present |= is_present(*value);
        }
    }
    Ok(flags)
}

/// One flag for each group and step, or for each step.
struct Flags {
    set: Vec<bool>,
    /// Gives the bytes back.
    _charge: Charge,
}

impl Flags {
    fn new(evaluator: &Evaluator<'_>, count: usize) -> Result<Self, QueryFailure> {
        let charge = evaluator.context.budget.charge(count)?;
        Ok(Self { set: vec![false; count], _charge: charge })
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
            let on_right = &on_right.set[self.left_groups[index] * width..][..width];
            let row = self.left.row_mut(index);
            for (value, on_right) in row.iter_mut().zip(on_right) {
                if *on_right != present {
                    *value = ABSENT;
                }
            }
            push_if_any(&mut kept, self.left.series(index), self.left.row(index))?;
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
            merger.push(self.left.series(index).clone(), self.left.row(index))?;
        }
        for index in 0..self.right.len() {
            let on_left = &on_left.set[self.right_groups[index] * width..][..width];
            let row = self.right.row_mut(index);
            for (value, on_left) in row.iter_mut().zip(on_left) {
                if *on_left {
                    *value = ABSENT;
                }
            }
            let row = self.right.row(index);
            if row.iter().any(|v| is_present(*v)) {
                merger.push(self.right.series(index).clone(), row)?;
            }
        }
        Ok(merger.into_block())
    }

    /// Arithmetic and comparisons.
    fn combine(
        self,
        join: &Join<'_>,
        groups: &Groups<'_>,
        evaluator: &Evaluator<'_>,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        if trims(join.op) && self.left.len() > 0 && self.right.len() > 0 {
            let operator = join.op.as_str();
            evaluator.annotate(&Annotation::IncompatibleTypes { operator }, join.span);
        }
        let swapped = join.matching.cardinality == Cardinality::OneToMany;
        let (many, many_groups, one, one_groups) = if swapped {
            (&self.right, &self.right_groups, &self.left, &self.left_groups)
        } else {
            (&self.left, &self.left_groups, &self.right, &self.right_groups)
        };
        let side = if swapped { "left" } else { "right" };
        check_one_side(many, one, one_groups, groups, side)?;
        let mut by_group = vec![Vec::new(); groups.len()];
        for (index, group) in one_groups.iter().enumerate() {
            by_group[*group].push(index);
        }
        let combination =
            Combination { op: join.op, return_bool: join.return_bool, keeps_right: false };
        let mut pairs = Pairs::new(join, evaluator, groups.len(), steps)?;
        let mut out = evaluator.empty_row(steps)?;
        for (index, &group) in many_groups.iter().enumerate() {
            evaluator.context.check()?;
            for &partner in &by_group[group] {
                out.fill(ABSENT);
                if swapped {
                    combination.rows(one.row(partner), many.row(index), &mut out);
                } else {
                    combination.rows(many.row(index), one.row(partner), &mut out);
                }
                let rows = (many.row(index), one.row(partner));
                pairs.add(group, many.series(index), one.series(partner), rows, &out)?;
            }
        }
        Ok(pairs.results.into_block())
    }
}

fn push_if_any(block: &mut Block, series: &Series, row: &[f64]) -> Result<(), QueryFailure> {
    if row.iter().any(|v| is_present(*v)) {
        block.push(series.clone(), row)?;
    }
    Ok(())
}

/// Each group must have one sample at most on the "one" side, at steps at which the other side has any sample at all.
fn check_one_side(
    many: &Block,
    one: &Block,
    one_groups: &[usize],
    groups: &Groups<'_>,
    side: &'static str,
) -> Result<(), QueryFailure> {
    let mut counts = vec![0_usize; groups.len()];
    one_groups.iter().for_each(|group| counts[*group] += 1);
    if counts.iter().all(|count| *count <= 1) {
        return Ok(());
    }
    let width = one.width();
    let mut matters = vec![false; width];
    for (_, row) in many.rows() {
        matters.iter_mut().zip(row).for_each(|(matters, v)| *matters |= is_present(*v));
    }
    // By step first: the earliest conflict is the one that is reported.
    for step in (0..width).filter(|step| matters[*step]) {
        let mut taken: HashMap<usize, usize> = HashMap::new();
        for (index, group) in one_groups.iter().enumerate() {
            if is_absent(one.row(index)[step]) {
                continue;
            }
            if let Some(earlier) = taken.insert(*group, index) {
                let text = |index: usize| one.series(index).labels.to_string();
                let (a, b) = (text(index), text(earlier));
                let (first, second) = if a <= b { (a, b) } else { (b, a) };
                let group = groups.labels[*group].to_string();
                return Err(ExecutionError::DuplicateMatch { group, side, first, second }.into());
            }
        }
    }
    Ok(())
}

/// Collects the results of pairs and finds those that are ambiguous.
struct Pairs<'j> {
    join: &'j Join<'j>,
    evaluator: &'j Evaluator<'j>,
    results: Merger,
    width: usize,
    /// For one-to-one: by group and step, whether there is a result.
    matched: Flags,
    /// For group modifiers, whose results must differ within a group: by group and labels, the steps that have
    /// a result.
    by_labels: HashMap<(usize, Labels), Flags>,
}

impl<'j> Pairs<'j> {
    fn new(
        join: &'j Join<'j>,
        evaluator: &'j Evaluator<'j>,
        groups: usize,
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let one_to_one = join.matching.cardinality == Cardinality::OneToOne;
        let width = steps.count;
        let matched = Flags::new(evaluator, if one_to_one { groups * width } else { 0 })?;
        let results = evaluator.merger(steps)?;
        Ok(Self { join, evaluator, results, width, matched, by_labels: HashMap::new() })
    }

    fn add(
        &mut self,
        group: usize,
        many: &Series,
        one: &Series,
        operands: (&[f64], &[f64]),
        row: &[f64],
    ) -> Result<(), QueryFailure> {
        let mut series = Series::new(result_labels(&many.labels, &one.labels, self.join));
        if self.join.return_bool {
            series.drop_name(self.evaluator.delayed_names);
        }
        if self.join.matching.cardinality == Cardinality::OneToOne {
            let matched = &mut self.matched.set[group * self.width..][..self.width];
            claim(matched, operands).map_err(|()| ExecutionError::ManyToOne)?;
        } else {
            let seen = match self.by_labels.entry((group, series.labels.clone())) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Flags::new(self.evaluator, self.width)?),
            };
            claim(&mut seen.set, operands).map_err(|()| ExecutionError::GroupingNotUnique)?;
        }
        if row.iter().all(|v| is_absent(*v)) {
            return Ok(());
        }
        self.results.push(series, row).map(|_| ())
    }
}

/// Marks the steps at which both operands have a sample; fails if one is marked already. Comparisons that filter the result away
/// count: whether a match is ambiguous does not depend on values.
fn claim(taken: &mut [bool], (many, one): (&[f64], &[f64])) -> Result<(), ()> {
    for ((taken, a), b) in taken.iter_mut().zip(many).zip(one) {
        if is_present(*a) && is_present(*b) && std::mem::replace(taken, true) {
            return Err(());
        }
    }
    Ok(())
}

/// The labels of a result: those of the "many" side, as far as the operation keeps them.
fn result_labels(many: &Labels, one: &Labels, join: &Join<'_>) -> Labels {
    let matching = join.matching;
    let mut labels = if changes_metric(join.op) { without_metadata(many) } else { many.clone() };
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
