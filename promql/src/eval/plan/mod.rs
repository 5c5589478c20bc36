//! What a query does, with everything resolved that does not depend on samples: durations are
//! milliseconds, context functions are numbers, parentheses are gone, and what does not vary over time is
//! marked to be evaluated once.
//!
//! Scalars and vectors are plans of different types, so that an operator cannot be handed the wrong one. A
//! chain of operations on a vector is a flat list of stages, however long.

mod call;
mod duration;
mod planner;
mod sharing;

use model::{FloatHistogram, Labels, Matcher, Timestamp};

use super::dates::DatePart;
use super::failure::ExecutionError;
use super::relabel::Relabel;
use crate::ast::{AggregateOp, BinaryOp, RangeExtension, Span, VectorMatching};

pub(super) use planner::{PlanContext, plan};

/// A whole query.
#[derive(Debug)]
pub(super) enum Plan<'q> {
    /// Evaluates to a number per step.
    Scalar(ScalarPlan<'q>),
    /// Evaluates to a vector per step.
    Vector(VectorPlan<'q>),
    /// Evaluates to ranges of samples; instant queries only.
    Matrix(Source<'q>),
    /// A string.
    Text(&'q str),
}

/// One number per step.
#[derive(Debug)]
pub(super) enum ScalarPlan<'q> {
    /// The same at all steps.
    Constant(f64),
    /// `time()`
    Time,
    /// `scalar(v)`
    FromVector(Box<VectorPlan<'q>>),
    /// `first op a op b …`, from left to right.
    Chain(Box<ScalarPlan<'q>>, Vec<(BinaryOp, ScalarPlan<'q>)>),
    /// `-s`
    Negate(Box<ScalarPlan<'q>>),
    /// `max_of(a, b)`
    Max(Box<ScalarPlan<'q>>, Box<ScalarPlan<'q>>),
    /// `min_of(a, b)`
    Min(Box<ScalarPlan<'q>>, Box<ScalarPlan<'q>>),
    /// Evaluated at the first step, the same at all others.
    Once(Box<ScalarPlan<'q>>),
}

/// A vector per step.
#[derive(Debug)]
pub(super) enum VectorPlan<'q> {
    /// `up`
    Selector(Selector<'q>),
    /// `timestamp(up)`: the samples' own times.
    Timestamps(Selector<'q>),
    /// `start_timestamp(up)`
    StartTimestamps(Selector<'q>),
    /// `up smoothed`
    Smoothed(Selector<'q>),
    /// No series, whatever those of the operand are.
    Nothing(Box<VectorPlan<'q>>),
    /// Cannot be evaluated, for a reason that is found out when it is.
    Failing(ExecutionError),
    /// `rate(x[5m])`
    Window(Box<Window<'q>>),
    /// `absent_over_time(x[5m])`
    AbsentOverTime(Box<Source<'q>>, Labels),
    /// `absent(v)`
    Absent(Box<VectorPlan<'q>>, Labels),
    /// `vector(s)`
    FromScalar(Box<ScalarPlan<'q>>),
    /// `hour()`: of the step's own time.
    Date(DatePart),
    /// A vector and what is done with it.
    Pipeline(Box<VectorPlan<'q>>, Stages<'q>),
    /// `sum(v)`
    Aggregate(Box<Aggregation<'q>>),
    /// `histogram_quantile(q, v)` and its relatives.
    Histogram(Box<Histogram<'q>>),
    /// `sort(v)`
    Sort(Box<VectorPlan<'q>>, Sorting<'q>, Span),
    /// `label_replace(v, …)`, `label_join(v, …)`
    Relabel(Box<VectorPlan<'q>>, Relabel<'q>),
    /// `info(v)`
    Info(Box<Info<'q>>),
    /// Evaluated at the first step, the same at all others.
    Once(Box<VectorPlan<'q>>),
    /// Occurs several times in the query.
    Shared(Box<Shared<'q>>),
}

/// One of several parts of a query that read the same and mean the same.
#[derive(Debug)]
pub(super) struct Shared<'q> {
    /// Number of what they have in common.
    pub(super) part: usize,
    /// How many there are; two at least.
    pub(super) occurrences: usize,
    /// Where the expressions of this one start in the query. Those of the others come in the same order.
    pub(super) starts: Vec<usize>,
    pub(super) input: VectorPlan<'q>,
}

/// Labels of info series are added.
#[derive(Debug)]
pub(super) struct Info<'q> {
    pub(super) input: VectorPlan<'q>,
    /// Which metrics are info metrics: conditions on the name.
    pub(super) names: Vec<Matcher>,
    /// Which labels are added, and which values they must have. All are if there is none.
    pub(super) data: Vec<&'q Matcher>,
    /// The time that info series are looked at.
    pub(super) look: Look,
}

/// The steps of a pipeline, in order.
#[derive(Debug)]
pub(super) struct Stages<'q> {
    /// The steps.
    pub(super) list: Vec<Stage<'q>>,
    /// What is known about the metric names of the result.
    pub(super) names: Names,
}

impl<'q> Stages<'q> {
    /// Adds a step.
    pub(super) fn push(&mut self, stage: Stage<'q>) {
        self.names = match &stage {
            Stage::Map(map) if map.drops_name() => Names::Uniform,
            Stage::Map(_) | Stage::Distinct => self.names,
            Stage::Join(join) => join.names(self.names),
        };
        self.list.push(stage);
    }
}

/// A step of a pipeline.
#[derive(Debug)]
pub(super) enum Stage<'q> {
    /// Changes each sample on its own.
    Map(Map<'q>),
    /// Makes series distinct after their names were dropped.
    Distinct,
    /// Combines with another vector.
    Join(Join<'q>),
}

/// A change of each sample on its own.
#[derive(Debug)]
pub(super) enum Map<'q> {
    /// `abs(v)`
    Function(fn(f64) -> f64),
    /// `histogram_count(v)`
    OfHistogram(fn(&FloatHistogram) -> f64),
    /// `-v`
    Negate,
    /// `round(v, to)`
    Round(ScalarPlan<'q>),
    /// `clamp(v, min, max)`
    Clamp(ScalarPlan<'q>, ScalarPlan<'q>),
    /// `hour(v)`
    Date(DatePart),
    /// `timestamp(v)` of a vector that is not a selector: the step's time.
    StepTime,
    /// `v op s` or `s op v`
    Scalar(ScalarOperation<'q>),
}

impl Map<'_> {
    /// Whether the result no longer is the metric that the operand was.
    pub(super) const fn drops_name(&self) -> bool {
        match self {
            Self::Scalar(operation) => {
                operation.return_bool || super::arithmetic::changes_metric(operation.op)
            }
            Self::Function(_)
            | Self::OfHistogram(_)
            | Self::Negate
            | Self::Round(_)
            | Self::Clamp(..)
            | Self::Date(_)
            | Self::StepTime => true,
        }
    }
}

/// An operation on a vector and a scalar.
#[derive(Debug)]
pub(super) struct ScalarOperation<'q> {
    pub(super) op: BinaryOp,
    pub(super) scalar: ScalarPlan<'q>,
    /// The scalar stands on the left.
    pub(super) scalar_left: bool,
    pub(super) return_bool: bool,
    pub(super) span: Span,
}

/// An operation on two vectors, of which the left one is what the pipeline has so far.
#[derive(Debug)]
pub(super) struct Join<'q> {
    pub(super) op: BinaryOp,
    pub(super) right: VectorPlan<'q>,
    pub(super) matching: &'q VectorMatching,
    pub(super) return_bool: bool,
    pub(super) span: Span,
}

/// Chooses series and the time to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selector<'q> {
    pub(super) matchers: &'q [Matcher],
    pub(super) look: Look,
    pub(super) span: Span,
    /// Of histograms, only count and sum are asked for.
    pub(super) stats_only: bool,
    /// Samples outside of the window count.
    pub(super) extension: Option<RangeExtension>,
    /// The labels that are looked at; `None`: all.
    pub(super) projection: Option<Projection<'q>>,
    /// Series of one name may differ in the labels of their type and unit, which go when the name does.
    pub(super) typed: bool,
}

/// The labels of a selector's series that a query looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'q> {
    /// Those that groups have in common.
    pub(super) grouping: &'q [String],
    /// Remarks may name the metric.
    pub(super) metric_name: bool,
}

/// Which time is looked at from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Milliseconds back; negative looks ahead.
    pub(super) offset: i64,
    /// Counts from here, not from the step.
    pub(super) at: Option<Timestamp>,
}

impl Look {
    /// The time that is looked at from `step`.
    #[inline]
    pub(super) fn from(self, step: Timestamp) -> Timestamp {
        self.at.unwrap_or(step).saturating_sub(self.offset)
    }
}

/// Samples over a range.
#[derive(Debug)]
pub(super) enum Source<'q> {
    /// `x[5m]`
    Selector {
        /// The series.
        selector: Selector<'q>,
        /// Milliseconds.
        range: i64,
    },
    /// `expr[1h:5m]`
    Subquery(Box<Subquery<'q>>),
}

/// Samples over a range, taken by evaluating an expression.
#[derive(Debug)]
pub(super) struct Subquery<'q> {
    pub(super) input: VectorPlan<'q>,
    /// Milliseconds.
    pub(super) range: i64,
    /// Milliseconds.
    pub(super) interval: i64,
    pub(super) look: Look,
    pub(super) span: Span,
}

impl Source<'_> {
    /// Whether samples come from the store, not from a subquery.
    pub(super) const fn is_stored(&self) -> bool {
        matches!(self, Self::Selector { .. })
    }

    /// Whether samples outside of the window count.
    pub(super) const fn extension(&self) -> Option<RangeExtension> {
        match self {
            Self::Selector { selector, .. } => selector.extension,
            Self::Subquery(_) => None,
        }
    }

    /// Milliseconds that a window covers.
    pub(super) const fn range(&self) -> i64 {
        match self {
            Self::Selector { range, .. } => *range,
            Self::Subquery(subquery) => subquery.range,
        }
    }

    /// Where windows end.
    pub(super) const fn look(&self) -> Look {
        match self {
            Self::Selector { selector, .. } => selector.look,
            Self::Subquery(subquery) => subquery.look,
        }
    }

    /// The position that remarks about the range name; subqueries have none in Prometheus, so theirs is empty.
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Selector { selector, .. } => selector.span,
            Self::Subquery(subquery) => subquery.span.before(),
        }
    }
}

/// A function of the samples in a window.
#[derive(Debug)]
pub(super) struct Window<'q> {
    pub(super) function: WindowFunction,
    pub(super) source: Source<'q>,
    /// The other arguments, with their positions.
    pub(super) parameters: Vec<(ScalarPlan<'q>, Span)>,
    /// Names of the source may differ, so dropping them may make series equal.
    pub(super) may_collide: bool,
}

/// Functions of the samples in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Quantile,
    Mad,
    First,
    Last,
    Present,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
}

impl WindowFunction {
    /// Whether the result still is the metric that the window is of.
    pub(super) const fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }
}

/// An aggregation over series.
#[derive(Debug)]
pub(super) struct Aggregation<'q> {
    pub(super) op: AggregateOp,
    pub(super) input: VectorPlan<'q>,
    pub(super) parameter: Parameter<'q>,
    pub(super) grouping: Grouping<'q>,
    /// Where the parameter stands.
    pub(super) parameter_span: Span,
    /// Where the operand stands.
    pub(super) input_span: Span,
    /// Where the whole stands.
    pub(super) span: Span,
}

/// The parameter of an aggregation.
#[derive(Debug)]
pub(super) enum Parameter<'q> {
    None,
    Scalar(ScalarPlan<'q>),
    Label(&'q str),
}

/// Which series form a group.
#[derive(Debug)]
pub(super) struct Grouping<'q> {
    /// Labels named in the query.
    pub(super) labels: Vec<&'q str>,
    /// They are what groups ignore, not what they have in common.
    pub(super) without: bool,
}

/// A function of histograms, classic or native.
#[derive(Debug)]
pub(super) struct Histogram<'q> {
    pub(super) function: HistogramFunction<'q>,
    pub(super) input: VectorPlan<'q>,
    pub(super) span: Span,
}

/// Functions of histograms, classic or native.
#[derive(Debug)]
pub(super) enum HistogramFunction<'q> {
    /// The quantile, and its position.
    Quantile(ScalarPlan<'q>, Span),
    /// The label that tells results apart, and quantiles with their positions.
    Quantiles(&'q str, Vec<(ScalarPlan<'q>, Span)>),
    /// Lower and upper bound.
    Fraction(ScalarPlan<'q>, ScalarPlan<'q>),
}

/// How series are sorted.
#[derive(Debug)]
pub(super) struct Sorting<'q> {
    pub(super) descending: bool,
    /// Labels to sort by; `None` sorts by value.
    pub(super) labels: Option<Vec<&'q str>>,
}

/// What is known about metric names without looking at data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// All series have the same, or none, and no other labels that go with it: dropping it keeps them distinct.
    Uniform,
    /// They may differ.
    Mixed,
}

impl<'q> VectorPlan<'q> {
    /// Of its series nothing but the labels in `grouping` is looked at, and the metric's name if `metric_name`.
    pub(super) fn project(&mut self, grouping: &'q [String], metric_name: bool) {
        let mut plan = self;
        loop {
            plan = match plan {
                Self::Selector(selector) => {
                    selector.projection = Some(Projection { grouping, metric_name });
                    return;
                }
                Self::Window(window) if !window.may_collide => {
                    if let Source::Selector { selector, .. } = &mut window.source {
                        selector.projection = Some(Projection { grouping, metric_name: true });
                    }
                    return;
                }
                Self::Pipeline(input, stages)
                    if stages.list.iter().all(|stage| matches!(stage, Stage::Map(_))) =>
                {
                    input
                }
                Self::Once(input) => input,
                _ => return,
            }
        }
    }

    /// What is known about the metric names of the result.
    pub(super) fn names(&self) -> Names {
        match self {
            Self::Selector(selector) | Self::Smoothed(selector) => selector.names(),
            Self::Window(window) if window.function.keeps_name() => window.source.names(),
            Self::Pipeline(_, stages) => stages.names,
            Self::Aggregate(aggregation) => aggregation.names(),
            Self::Sort(input, ..) | Self::Once(input) => input.names(),
            Self::Shared(part) => part.input.names(),
            Self::Relabel(..) => Names::Mixed,
            Self::Info(info) => info.input.names(),
            Self::Timestamps(_)
            | Self::StartTimestamps(_)
            | Self::Nothing(_)
            | Self::Failing(_)
            | Self::Window(_)
            | Self::AbsentOverTime(..)
            | Self::Absent(..)
            | Self::FromScalar(_)
            | Self::Date(_)
            | Self::Histogram(_) => Names::Uniform,
        }
    }
}

impl Selector<'_> {
    /// What is known about the metric names of the series.
    pub(super) fn names(&self) -> Names {
        let named = self.matchers.iter().any(|matcher| {
            matcher.name() == model::METRIC_NAME
                && matcher.op() == model::MatchOp::Equal
                && !matcher.value().is_empty()
        });
        if named && !self.typed { Names::Uniform } else { Names::Mixed }
    }
}

impl Source<'_> {
    /// What is known about the metric names of the series.
    pub(super) fn names(&self) -> Names {
        match self {
            Self::Selector { selector, .. } => selector.names(),
            Self::Subquery(subquery) => subquery.input.names(),
        }
    }
}

impl Join<'_> {
    fn names(&self, left: Names) -> Names {
        match self.op {
            BinaryOp::And | BinaryOp::Unless => left,
            BinaryOp::Or => Names::Mixed,
            op if self.return_bool || super::arithmetic::changes_metric(op) => Names::Uniform,
            _ => Names::Mixed,
        }
    }
}

impl Aggregation<'_> {
    fn names(&self) -> Names {
        let picks = matches!(
            self.op,
            AggregateOp::Topk
                | AggregateOp::Bottomk
                | AggregateOp::Limitk
                | AggregateOp::LimitRatio
        );
        if picks {
            self.input.names()
        } else if !self.grouping.without && self.grouping.labels.contains(&model::METRIC_NAME) {
            Names::Mixed
        } else {
            Names::Uniform
        }
    }
}
