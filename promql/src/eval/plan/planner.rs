//! From the syntax tree to the plan.
//!
//! Expressions that do not vary over the steps (selectors with `@`, literals, and what is made of them
//! alone) are found as Prometheus finds them and evaluated once: the largest such part of each branch is
//! wrapped. Left spines of binary operators are walked in a loop, so a long sum needs no deep stack.

use model::{TimeRange, Timestamp};

use super::duration::DurationContext;
use super::sharing::{self, Sharing};
use super::{
    Aggregation, Grouping, Join, Look, Map, Names, Parameter, Plan, ScalarOperation, ScalarPlan,
    Selector, Shared, Source, Stage, Stages, Subquery, VectorPlan,
};
use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Expr, MatrixSelector, RangeExtension, Span,
    TimeModifiers, ValueType, VectorSelector,
};
use crate::eval::failure::{ExecutionError, QueryFailure};
use crate::eval::{arithmetic, extended, range_seconds};
use crate::quote::{quoted, quoted_bytes};

/// What planning depends on besides the expression.
#[derive(Clone, Copy, Debug)]
pub(in crate::eval) struct PlanContext {
    /// First step.
    pub(in crate::eval) start: Timestamp,
    /// End of the query.
    pub(in crate::eval) end: Timestamp,
    /// Milliseconds between steps; 0 for instant queries.
    pub(in crate::eval) step: i64,
    /// Milliseconds that an instant selector looks back.
    pub(in crate::eval) lookback: i64,
    /// Milliseconds between the steps of subqueries that do not say.
    pub(in crate::eval) subquery_interval: i64,
    /// Names are dropped when the query is done.
    pub(in crate::eval) delayed_names: bool,
    /// Types and units of metrics are labels.
    pub(in crate::eval) type_labels: bool,
    /// What is computed from numbers alone is computed when all else is.
    pub(in crate::eval) by_the_letter: bool,
}

/// A part of the plan.
#[derive(Debug)]
pub(in crate::eval) struct Planned<T> {
    /// The part.
    pub(in crate::eval) plan: T,
    /// It is the same at all steps.
    pub(super) invariant: bool,
    /// It is worth being evaluated once, should what it is part of vary.
    pub(super) wrap: bool,
}

impl<T> Planned<T> {
    pub(super) const fn varying(plan: T) -> Self {
        Self { plan, invariant: false, wrap: false }
    }

    pub(super) const fn invariant(plan: T) -> Self {
        Self { plan, invariant: true, wrap: true }
    }

    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Planned<U> {
        Planned { plan: f(self.plan), invariant: self.invariant, wrap: self.wrap }
    }
}

impl<'q> Planned<VectorPlan<'q>> {
    pub(super) fn settle(self) -> VectorPlan<'q> {
        if self.wrap { VectorPlan::Once(Box::new(self.plan)) } else { self.plan }
    }
}

impl<'q> Planned<ScalarPlan<'q>> {
    pub(super) fn settle(self) -> ScalarPlan<'q> {
        match self.plan {
            constant @ ScalarPlan::Constant(_) => constant,
            plan if self.wrap => ScalarPlan::Once(Box::new(plan)),
            plan => plan,
        }
    }
}

/// Plans `expr`; also says which time its selectors look at, if it has any.
///
/// # Errors
/// [`QueryFailure`] when the query uses what the engine does not evaluate, or durations do not compute.
pub(in crate::eval) fn plan<'q>(
    expr: &'q Expr,
    context: &PlanContext,
) -> Result<(Plan<'q>, Option<TimeRange>), QueryFailure> {
    let mut planner = Planner::new(context, Sharing::new(expr));
    planner.durations.check(expr)?;
    if planner.sharing.is_possible() {
        planner.query(expr)?;
        let sharing = planner.sharing.counted().unwrap_or_default();
        planner = Planner::new(context, sharing);
    }
    let plan = planner.query(expr)?;
    Ok((plan, planner.bounds))
}

/// The text of a string literal.
pub(super) fn text(expr: &Expr) -> &str {
    match expr.unwrap_parens() {
        Expr::String(literal) => &literal.value,
        _ => "",
    }
}

pub(super) struct Planner<'c> {
    pub(super) context: &'c PlanContext,
    pub(super) durations: DurationContext,
    bounds: Option<TimeRange>,
    pub(super) histogram_use: HistogramUse,
    sharing: Sharing,
}

/// What is done with histograms that are selected, as far as is known from what encloses the selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HistogramUse {
    /// Anything.
    Any,
    /// Count and sum are read off: buckets need not be carried along.
    Stats,
    /// Buckets are read, or samples are left out, so that counter resets have to be looked for in buckets.
    Buckets,
}

impl HistogramUse {
    /// What is done within something that does `this` with its operand. The need for buckets prevails.
    pub(super) fn within(self, this: Self) -> Self {
        match (self, this) {
            (Self::Buckets, _) | (_, Self::Buckets) => Self::Buckets,
            (outer, Self::Any) => outer,
            (_, Self::Stats) => Self::Stats,
        }
    }
}

impl<'c> Planner<'c> {
    fn new(context: &'c PlanContext, sharing: Sharing) -> Self {
        let range = context.end.saturating_sub(context.start);
        let durations =
            DurationContext { step: range_seconds(context.step), range: range_seconds(range) };
        let histogram_use = HistogramUse::Any;
        Self { context, durations, bounds: None, histogram_use, sharing }
    }

    /// Plans a whole query.
    fn query<'q>(&mut self, expr: &'q Expr) -> Result<Plan<'q>, QueryFailure> {
        let times = TimeRange::new(self.context.start, self.context.end);
        Ok(match expr.value_type() {
            ValueType::Scalar => Plan::Scalar(self.scalar(expr, times)?.settle()),
            ValueType::Vector => Plan::Vector(self.vector(expr, times)?.settle()),
            ValueType::Matrix => Plan::Matrix(self.source(expr, times)?.plan),
            ValueType::String => Plan::Text(text(expr)),
        })
    }

    /// Plans a part with whose histograms `this` is done.
    pub(super) fn within<T>(
        &mut self,
        this: HistogramUse,
        plan: impl FnOnce(&mut Self) -> Result<T, QueryFailure>,
    ) -> Result<T, QueryFailure> {
        let outer = self.histogram_use;
        self.histogram_use = outer.within(this);
        let planned = plan(self);
        self.histogram_use = outer;
        planned
    }

    /// Plans an instant vector; `times` are those at which it is evaluated.
    pub(super) fn vector<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let expr = expr.unwrap_parens();
        let Some(occurrence) = self.sharing.occurs(expr, times, self.histogram_use) else {
            return self.vector_itself(expr, times);
        };
        self.sharing.again = occurrence.again;
        let planned = self.vector_itself(expr, times);
        self.sharing.again = false;
        let Some((part, occurrences)) = occurrence.shared else { return planned };
        Ok(planned?.map(|input| {
            let starts = sharing::starts(expr);
            VectorPlan::Shared(Box::new(Shared { part, occurrences, starts, input }))
        }))
    }

    /// Plans an instant vector, whether there is another that reads the same or not. What Prometheus finds wrong when it evaluates is reported in
    /// its turn: something else may fail before.
    fn vector_itself<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        match self.vector_of(expr, times) {
            Err(QueryFailure::Execution(error)) => Ok(Planned::varying(VectorPlan::Failing(error))),
            planned => planned,
        }
    }

    fn vector_of<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        match expr {
            Expr::Paren(paren) => self.vector(&paren.expr, times),
            Expr::Vector(selector) => self.instant_selector(selector, times),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, times),
            Expr::Binary(_) => self.vector_chain(expr, times),
            Expr::Unary(unary) => {
                let input = self.vector(&unary.expr, times)?;
                Ok(if unary.negate {
                    input.map(|input| self.push_map(input, Map::Negate))
                } else {
                    input
                })
            }
            Expr::Call(call) => self.vector_call(call, times),
            Expr::Number(_) | Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(mistyped(expr, ValueType::Vector))
            }
        }
    }

    /// Plans a scalar.
    pub(super) fn scalar<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<ScalarPlan<'q>>, QueryFailure> {
        match expr {
            Expr::Paren(paren) => self.scalar(&paren.expr, times),
            Expr::Number(number) => Ok(constant(number.value)),
            Expr::Binary(_) => self.scalar_chain(expr, times),
            Expr::Unary(unary) => {
                let input = self.scalar(&unary.expr, times)?;
                Ok(if unary.negate { input.map(negate) } else { input })
            }
            Expr::Call(call) => self.scalar_call(call, times),
            Expr::String(_)
            | Expr::Vector(_)
            | Expr::Aggregate(_)
            | Expr::Matrix(_)
            | Expr::Subquery(_) => Err(mistyped(expr, ValueType::Scalar)),
        }
    }

    /// Plans a range vector.
    pub(super) fn source<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<Source<'q>>, QueryFailure> {
        match expr.unwrap_parens() {
            Expr::Matrix(selector) => self.range_selector(selector, times),
            Expr::Subquery(subquery) => self.subquery(subquery, times),
            other => Err(mistyped(other, ValueType::Matrix)),
        }
    }

    fn instant_selector<'q>(
        &mut self,
        selector: &'q VectorSelector,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let plan = self.selector(selector, times, self.context.lookback)?;
        let fixed = plan.look.at.is_some();
        let plan = match plan.extension {
            Some(RangeExtension::Smoothed) => VectorPlan::Smoothed(plan),
            _ => VectorPlan::Selector(plan),
        };
        Ok(Planned { plan, invariant: fixed, wrap: fixed })
    }

    /// Plans a selector that reads `back` milliseconds up to each time, without the oldest.
    pub(super) fn selector<'q>(
        &mut self,
        selector: &'q VectorSelector,
        times: TimeRange,
        back: i64,
    ) -> Result<Selector<'q>, QueryFailure> {
        let extension = selector.extension;
        let lookback = self.context.lookback;
        let (back, ahead) = extended::reach(extension, back, lookback);
        let look = self.look(&selector.time)?;
        let (first, last) = (look.from(times.min), look.from(times.max));
        let (min, max) = (first.saturating_sub(back).saturating_add(1), last.saturating_add(ahead));
        self.extend_bounds(TimeRange::new(min, max));
        let stats_only = self.histogram_use == HistogramUse::Stats;
        let (matchers, span) = (&selector.matchers, selector.span);
        let (projection, typed) = (None, self.context.type_labels);
        Ok(Selector { matchers, look, span, stats_only, extension, projection, typed })
    }

    /// Notes that samples of a time range are read.
    pub(super) fn extend_bounds(&mut self, range: TimeRange) {
        let bounds = self.bounds.get_or_insert(range);
        *bounds = TimeRange::new(bounds.min.min(range.min), bounds.max.max(range.max));
    }

    /// Which time is looked at.
    pub(super) fn look(&self, time: &TimeModifiers) -> Result<Look, QueryFailure> {
        let offset = match &time.offset {
            Some(offset) => self.durations.signed(offset)?,
            None => 0,
        };
        let at = time.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.context.start,
            At::End => self.context.end,
        });
        Ok(Look { offset, at })
    }

    fn range_selector<'q>(
        &mut self,
        matrix: &'q MatrixSelector,
        times: TimeRange,
    ) -> Result<Planned<Source<'q>>, QueryFailure> {
        let range = self.durations.positive(&matrix.range)?;
        let selector = self.selector(&matrix.vector, times, range)?;
        let invariant = selector.look.at.is_some();
        Ok(Planned { plan: Source::Selector { selector, range }, invariant, wrap: false })
    }

    fn subquery<'q>(
        &mut self,
        subquery: &'q crate::ast::Subquery,
        times: TimeRange,
    ) -> Result<Planned<Source<'q>>, QueryFailure> {
        let look = self.look(&subquery.time)?;
        let interval = match &subquery.step {
            Some(step) => self.durations.positive(step)?,
            None => self.context.subquery_interval,
        };
        let range = self.durations.positive(&subquery.range)?;
        let first = look.from(times.min).saturating_sub(range);
        let times = TimeRange::new(first, look.from(times.max));
        let input =
            self.within(HistogramUse::Buckets, |planner| planner.vector(&subquery.expr, times))?;
        // What does not vary is evaluated once, also where the subquery as a whole does not vary.
        let input = Planned { wrap: input.invariant, ..input }.settle();
        let invariant = look.at.is_some();
        let (interval, span) = (interval.max(1), subquery.span);
        let plan = Subquery { input, range, interval, look, span };
        Ok(Planned { plan: Source::Subquery(Box::new(plan)), invariant, wrap: false })
    }

    fn aggregate<'q>(
        &mut self,
        aggregate: &'q Aggregate,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let mut labels: Vec<&str> = aggregate.grouping.iter().map(String::as_str).collect();
        let mut parameter_span = aggregate.span;
        let parameter = match aggregate.param.as_deref().map(Expr::unwrap_parens) {
            None => Parameter::None,
            Some(Expr::String(label)) => {
                if label.value.is_empty() || label.bytes.is_some() {
                    let quoted = match &label.bytes {
                        Some(bytes) => quoted_bytes(bytes).to_string(),
                        None => quoted(&label.value).to_string(),
                    };
                    return Err(ExecutionError::LabelName { quoted }.into());
                }
                if !aggregate.without {
                    labels.push(&label.value);
                }
                Parameter::Label(&label.value)
            }
            Some(expr) => {
                parameter_span = expr.span();
                Parameter::Scalar(self.scalar(expr, times)?.settle())
            }
        };
        let grouping = Grouping { labels, without: aggregate.without };
        let op = aggregate.op;
        let input = self.vector(&aggregate.expr, times)?;
        // The parameter does not count: Prometheus looks at the operand alone.
        Ok(input.map(|mut input| {
            if !aggregate.without && op.folds() {
                // Where histograms are added, remarks name the metric.
                let metric_name = matches!(op, AggregateOp::Sum | AggregateOp::Avg);
                input.project(&aggregate.grouping, metric_name);
            }
            let (input_span, span) = (aggregate.expr.span(), aggregate.span);
            let aggregation =
                Aggregation { op, input, parameter, grouping, parameter_span, input_span, span };
            VectorPlan::Aggregate(Box::new(aggregation))
        }))
    }

    /// Plans `first op a op b …` of scalars.
    fn scalar_chain<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<ScalarPlan<'q>>, QueryFailure> {
        let (first, links) = left_spine(expr, ValueType::Scalar);
        let mut chain = self.scalar(first, times)?;
        for link in links.into_iter().rev() {
            let right = self.scalar(&link.right, times)?;
            chain = self.join_scalars(chain, link.op, right);
        }
        Ok(chain)
    }

    /// Plans `first op a op b …` of which the result is a vector.
    fn vector_chain<'q>(
        &mut self,
        expr: &'q Expr,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let (first, mut links) = left_spine(expr, ValueType::Vector);
        // What is cut by the last cut, everything up to its right operand, needs its buckets.
        let after_cuts = links.iter().take_while(|link| !arithmetic::trims(link.op)).count();
        let cuts = if after_cuts < links.len() { HistogramUse::Buckets } else { HistogramUse::Any };
        let mut chain = if first.value_type() == ValueType::Scalar {
            // The spine starts with `scalar op vector`.
            let Some(link) = links.pop() else {
                return Err(mistyped(first, ValueType::Vector));
            };
            let scalar = self.scalar(first, times)?;
            let vector = self.within(cuts, |planner| planner.vector(&link.right, times))?;
            self.with_scalar(vector, scalar, link, true)
        } else {
            self.within(cuts, |planner| planner.vector(first, times))?
        };
        while let Some(link) = links.pop() {
            let this = if links.len() >= after_cuts { cuts } else { HistogramUse::Any };
            chain = if link.right.value_type() == ValueType::Scalar {
                let scalar = self.scalar(&link.right, times)?;
                self.with_scalar(chain, scalar, link, false)
            } else {
                let right = self.within(this, |planner| planner.vector(&link.right, times))?;
                join_vectors(chain, right, link)?
            };
        }
        Ok(chain)
    }

    fn with_scalar<'q>(
        &self,
        vector: Planned<VectorPlan<'q>>,
        scalar: Planned<ScalarPlan<'q>>,
        link: &'q Binary,
        scalar_left: bool,
    ) -> Planned<VectorPlan<'q>> {
        let invariant = vector.invariant && scalar.invariant;
        let operation = |scalar| {
            Map::Scalar(ScalarOperation {
                op: link.op,
                scalar,
                scalar_left,
                return_bool: link.return_bool,
                span: link.span,
            })
        };
        if invariant {
            Planned::invariant(self.push_map(vector.plan, operation(scalar.plan)))
        } else {
            Planned::varying(self.push_map(vector.settle(), operation(scalar.settle())))
        }
    }

    fn join_scalars<'q>(
        &self,
        left: Planned<ScalarPlan<'q>>,
        op: BinaryOp,
        right: Planned<ScalarPlan<'q>>,
    ) -> Planned<ScalarPlan<'q>> {
        if let (ScalarPlan::Constant(a), ScalarPlan::Constant(b)) = (&left.plan, &right.plan)
            && !self.context.by_the_letter
            // What fails does so when it is evaluated.
            && !arithmetic::trims(op)
        {
            return constant(arithmetic::scalars(op, *a, *b));
        }
        let chain = |left, right| match left {
            ScalarPlan::Chain(first, mut links) => {
                links.push((op, right));
                ScalarPlan::Chain(first, links)
            }
            left => ScalarPlan::Chain(Box::new(left), vec![(op, right)]),
        };
        if left.invariant && right.invariant {
            Planned::invariant(chain(left.plan, right.plan))
        } else {
            Planned::varying(chain(left.settle(), right.settle()))
        }
    }

    /// Appends a map, and what keeps series distinct should it make names vanish.
    pub(super) fn push_map<'q>(&self, input: VectorPlan<'q>, map: Map<'q>) -> VectorPlan<'q> {
        let collides =
            !self.context.delayed_names && map.drops_name() && input.names() == Names::Mixed;
        let input = push(input, Stage::Map(map));
        if collides { push(input, Stage::Distinct) } else { input }
    }
}

/// The operands of a chain: the leftmost, and the operators from the last to the first. The chain goes on
/// to the left while the left operand is a binary expression of type `through`.
fn left_spine(expr: &Expr, through: ValueType) -> (&Expr, Vec<&Binary>) {
    let mut links: Vec<&Binary> = Vec::new();
    let mut first = expr;
    while let Expr::Binary(binary) = first {
        links.push(binary);
        first = binary.left.unwrap_parens();
    }
    // From the left on, operations are on scalars up to the first operand that is none.
    let is_scalar = |operand: &Expr| operand.value_type() == ValueType::Scalar;
    let vectors_from = if is_scalar(first) {
        links.iter().rposition(|link| !is_scalar(&link.right)).map_or(0, |at| at + 1)
    } else {
        links.len()
    };
    if through == ValueType::Vector && (1..links.len()).contains(&vectors_from) {
        first = links[vectors_from - 1].left.unwrap_parens();
        links.truncate(vectors_from);
    }
    (first, links)
}

/// Appends a stage to a pipeline, which is begun if need be.
pub(super) fn push<'q>(input: VectorPlan<'q>, stage: Stage<'q>) -> VectorPlan<'q> {
    let (input, mut stages) = match input {
        VectorPlan::Pipeline(input, stages) => (input, stages),
        input => {
            let names = input.names();
            (Box::new(input), Stages { list: Vec::new(), names })
        }
    };
    stages.push(stage);
    VectorPlan::Pipeline(input, stages)
}

fn join_vectors<'q>(
    left: Planned<VectorPlan<'q>>,
    right: Planned<VectorPlan<'q>>,
    link: &'q Binary,
) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
    let Some(matching) = &link.matching else {
        return Err(QueryFailure::Unsupported {
            what: String::from("an operation on vectors without matching"),
            span: link.span,
        });
    };
    let stage = |right| {
        Stage::Join(Join {
            op: link.op,
            right,
            matching,
            return_bool: link.return_bool,
            span: link.span,
        })
    };
    Ok(if left.invariant && right.invariant {
        Planned::invariant(push(left.plan, stage(right.plan)))
    } else {
        Planned::varying(push(left.settle(), stage(right.settle())))
    })
}

pub(super) fn constant<'q>(value: f64) -> Planned<ScalarPlan<'q>> {
    Planned { plan: ScalarPlan::Constant(value), invariant: true, wrap: false }
}

fn negate(plan: ScalarPlan<'_>) -> ScalarPlan<'_> {
    match plan {
        ScalarPlan::Constant(value) => ScalarPlan::Constant(-value),
        plan => ScalarPlan::Negate(Box::new(plan)),
    }
}

/// The type check of the parser rules these out.
pub(super) fn mistyped(expr: &Expr, wanted: ValueType) -> QueryFailure {
    let what = format!("a {} in place of a {wanted}", expr.value_type());
    QueryFailure::Unsupported { what, span: expr.span() }
}

/// Refuses what the engine does not evaluate.
pub(super) fn unsupported<T>(what: impl Into<String>, span: Span) -> Result<T, QueryFailure> {
    Err(QueryFailure::Unsupported { what: what.into(), span })
}
