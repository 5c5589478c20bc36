//! Writes down what operations did, for [`Explained`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::arithmetic::Filter;
use super::block::Sink;
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::plan::{Aggregation, Look, Map, Selector, Source, Stage, VectorPlan};
use super::steps::Steps;
use crate::explain::Explained;

/// Operations in a pipeline that are named.
const NAMED_MAX: usize = 8;

/// What has been written down so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Operands come after what they are operands of.
    nodes: RefCell<Vec<Node>>,
    /// Where the node of an operation is, by its plan, which tells operations apart, and its parent: one may be evaluated several times.
    known: RefCell<HashMap<(*const (), Option<usize>), usize>>,
    current: Cell<Option<usize>>,
}

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    explained: Explained,
}

impl Record {
    /// The current operation found `series`.
    pub(super) fn selected(&self, series: usize) {
        if let Some(at) = self.current.get() {
            self.nodes.borrow_mut()[at].explained.series_selected += series as u64;
        }
    }

    fn enter(&self, plan: &VectorPlan<'_>) -> usize {
        let (parent, address) = (self.current.get(), std::ptr::from_ref(plan).cast::<()>());
        let mut nodes = self.nodes.borrow_mut();
        let at = *self.known.borrow_mut().entry((address, parent)).or_insert_with(|| {
            let explained = Explained { operation: describe(plan), ..Explained::default() };
            nodes.push(Node { parent, explained });
            nodes.len() - 1
        });
        self.current.set(Some(at));
        at
    }

    /// The tree of all operations; the root stands for the query.
    pub(super) fn into_tree(self, operation: String) -> Explained {
        let mut nodes = self.nodes.into_inner();
        let mut root = Explained { operation, ..Explained::default() };
        while let Some(Node { parent, mut explained, .. }) = nodes.pop() {
            explained.operands.reverse();
            match parent {
                Some(parent) => nodes[parent].explained.operands.push(explained),
                None => {
                    root.samples_read += explained.samples_read;
                    root.series += explained.series;
                    root.samples += explained.samples;
                    root.bytes = root.bytes.max(explained.bytes);
                    root.seconds += explained.seconds;
                    root.operands.push(explained);
                }
            }
        }
        root.operands.reverse();
        root
    }
}

/// Evaluates a plan and writes down what it did.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    record: &Record,
    plan: &VectorPlan<'_>,
    steps: Steps,
    filter: Option<Filter>,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let outer = record.current.get();
    let node = record.enter(plan);
    let budget = &evaluator.context.budget;
    let (start, used_before) = (Instant::now(), budget.bytes_used());
    let read_before = evaluator.samples.stats().samples_decoded;
    // Of those who take the results.
    let (mut their_time, mut their_bytes) = (Duration::ZERO, 0_u64);
    let (mut series, mut samples, mut bytes) = (0, 0, 0);
    let result = evaluator.stream_plan(plan, steps, filter, &mut |of, row| {
        series += 1;
        samples += row.samples();
        let used = budget.bytes_used();
        bytes = bytes.max(used.saturating_sub(used_before + their_bytes));
        record.current.set(outer);
        let handed_on = Instant::now();
        let result = sink(of, row);
        their_time += handed_on.elapsed();
        their_bytes += budget.bytes_used().saturating_sub(used);
        record.current.set(Some(node));
        result
    });
    record.current.set(outer);
    let explained = &mut record.nodes.borrow_mut()[node].explained;
    explained.series += series;
    explained.samples += samples;
    explained.bytes = explained.bytes.max(bytes);
    explained.samples_read += evaluator.samples.stats().samples_decoded - read_before;
    explained.seconds += start.elapsed().saturating_sub(their_time).as_secs_f64();
    result
}

fn describe(plan: &VectorPlan<'_>) -> String {
    match plan {
        VectorPlan::Selector(selector) => selector_text(selector),
        VectorPlan::Timestamps(selector) => format!("timestamp({})", selector_text(selector)),
        VectorPlan::StartTimestamps(selector) => {
            format!("start_timestamp({})", selector_text(selector))
        }
        VectorPlan::Smoothed(selector) => format!("{} smoothed", selector_text(selector)),
        VectorPlan::Nothing(_) | VectorPlan::Failing(_) => String::from("nothing"),
        VectorPlan::Window(window) => {
            format!("{:?} of {}", window.function, source_text(&window.source))
        }
        VectorPlan::AbsentOverTime(source, _) => {
            format!("absent_over_time({})", source_text(source))
        }
        VectorPlan::Absent(..) => String::from("absent"),
        VectorPlan::FromScalar(_) => String::from("vector"),
        VectorPlan::Date(part) => format!("{part:?} of the step"),
        VectorPlan::Pipeline(_, stages) => pipeline_text(&stages.list),
        VectorPlan::Aggregate(aggregation) => aggregation_text(aggregation),
        VectorPlan::Histogram(_) => String::from("function of histograms"),
        VectorPlan::Sort(..) => String::from("sort"),
        VectorPlan::Relabel(..) => String::from("relabel"),
        VectorPlan::Info(_) => String::from("info"),
        VectorPlan::Once(_) => String::from("once for all steps"),
        VectorPlan::Shared(_) => String::from("once for all that read the same"),
    }
}

fn selector_text(selector: &Selector<'_>) -> String {
    let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}{}", matchers.join(","), look_text(selector.look))
}

fn look_text(look: Look) -> String {
    let at = look.at.map_or_else(String::new, |t| format!(" @ {t} ms"));
    let offset =
        if look.offset == 0 { String::new() } else { format!(" offset {} ms", look.offset) };
    at + &offset
}

fn source_text(source: &Source<'_>) -> String {
    match source {
        Source::Selector { selector, range } => {
            format!("{}[{range} ms]", selector_text(selector))
        }
        Source::Subquery(subquery) => {
            let (range, interval) = (subquery.range, subquery.interval);
            format!("subquery [{range} ms:{interval} ms]{}", look_text(subquery.look))
        }
    }
}

fn aggregation_text(aggregation: &Aggregation<'_>) -> String {
    let grouping = &aggregation.grouping;
    let labels = grouping.labels.join(", ");
    let op = aggregation.op.as_str();
    match (grouping.without, labels.is_empty()) {
        (true, _) => format!("{op} without ({labels})"),
        (false, false) => format!("{op} by ({labels})"),
        (false, true) => String::from(op),
    }
}

fn pipeline_text(stages: &[Stage<'_>]) -> String {
    let name = |stage: &Stage<'_>| match stage {
        Stage::Map(Map::Scalar(operation)) => {
            let op = operation.op.as_str();
            if operation.scalar_left { format!("scalar {op}") } else { format!("{op} scalar") }
        }
        Stage::Map(Map::Function(_)) => String::from("function"),
        Stage::Map(Map::OfHistogram(_)) => String::from("function of histograms"),
        Stage::Map(Map::Negate) => String::from("-"),
        Stage::Map(Map::Round(_)) => String::from("round"),
        Stage::Map(Map::Clamp(..)) => String::from("clamp"),
        Stage::Map(Map::Date(part)) => format!("{part:?}"),
        Stage::Map(Map::StepTime) => String::from("timestamp"),
        Stage::Distinct => String::from("distinct"),
        Stage::Join(join) => format!("{} vector", join.op.as_str()),
    };
    let mut names: Vec<String> = stages.iter().take(NAMED_MAX).map(name).collect();
    if stages.len() > NAMED_MAX {
        names.push(format!("and {} more", stages.len() - NAMED_MAX));
    }
    names.join(", ")
}
