//! Plans of function calls.

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, TimeRange};

use super::planner::{HistogramUse, Planned, Planner, constant, mistyped, push, text, unsupported};
use super::{
    Histogram, HistogramFunction, Info, Look, Map, Names, ScalarPlan, Selector, Sorting, Source,
    Stage, VectorPlan, Window, WindowFunction,
};
use crate::ast::{Call, Expr, RangeExtension, Span, TimeModifiers, ValueType};
use crate::eval::dates::DatePart;
use crate::eval::failure::ExecutionError;
use crate::eval::failure::QueryFailure;
use crate::eval::moments;
use crate::eval::relabel::Relabel;
use crate::go_math;

/// Functions whose results vary with the evaluation time although their arguments do not.
const VARYING: [&str; 11] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

/// The arguments of a call, planned.
struct Arguments<'q> {
    rest: std::vec::IntoIter<(Argument<'q>, Span)>,
    invariant: bool,
    exprs: &'q [Expr],
    span: Span,
}

enum Argument<'q> {
    Scalar(Planned<ScalarPlan<'q>>),
    Vector(Planned<VectorPlan<'q>>),
    Range(Source<'q>),
    Text(&'q str),
}

impl<'q> Arguments<'q> {
    fn next(&mut self, wanted: ValueType) -> Result<(Argument<'q>, Span), QueryFailure> {
        self.rest.next().ok_or_else(|| QueryFailure::Unsupported {
            what: format!("a call without its {wanted}"),
            span: self.span,
        })
    }

    fn mistyped<T>(&self, span: Span) -> Result<T, QueryFailure> {
        let expr = self.exprs.iter().find(|expr| expr.unwrap_parens().span() == span);
        match expr {
            Some(expr) => Err(mistyped(expr, expr.value_type())),
            None => unsupported("this argument", span),
        }
    }

    /// The next argument, a scalar, and where it stands.
    fn scalar(&mut self) -> Result<(ScalarPlan<'q>, Span), QueryFailure> {
        match self.next(ValueType::Scalar)? {
            (Argument::Scalar(scalar), span) if self.invariant => Ok((scalar.plan, span)),
            (Argument::Scalar(scalar), span) => Ok((scalar.settle(), span)),
            (_, span) => self.mistyped(span),
        }
    }

    /// The next argument, a vector, and where it stands.
    fn vector(&mut self) -> Result<(VectorPlan<'q>, Span), QueryFailure> {
        match self.next(ValueType::Vector)? {
            (Argument::Vector(vector), span) if self.invariant => Ok((vector.plan, span)),
            (Argument::Vector(vector), span) => Ok((vector.settle(), span)),
            (_, span) => self.mistyped(span),
        }
    }

    /// The next argument, a range vector.
    fn range(&mut self) -> Result<Source<'q>, QueryFailure> {
        match self.next(ValueType::Matrix)? {
            (Argument::Range(source), _) => Ok(source),
            (_, span) => self.mistyped(span),
        }
    }

    /// The next argument, a string.
    fn text(&mut self) -> Result<&'q str, QueryFailure> {
        match self.next(ValueType::String)? {
            (Argument::Text(text), _) => Ok(text),
            (_, span) => self.mistyped(span),
        }
    }

    /// All remaining arguments, scalars.
    fn scalars(&mut self) -> Result<Vec<(ScalarPlan<'q>, Span)>, QueryFailure> {
        let mut all = Vec::new();
        while !self.rest.as_slice().is_empty() {
            all.push(self.scalar()?);
        }
        Ok(all)
    }

    /// All remaining arguments, strings.
    fn texts(&mut self) -> Result<Vec<&'q str>, QueryFailure> {
        let mut all = Vec::new();
        while !self.rest.as_slice().is_empty() {
            all.push(self.text()?);
        }
        Ok(all)
    }

    fn planned<T>(&self, plan: T) -> Planned<T> {
        if self.invariant { Planned::invariant(plan) } else { Planned::varying(plan) }
    }
}

impl Planner<'_> {
    fn arguments<'q>(
        &mut self,
        call: &'q Call,
        times: TimeRange,
    ) -> Result<Arguments<'q>, QueryFailure> {
        let mut invariant = !VARYING.contains(&call.function.name);
        let mut planned = Vec::with_capacity(call.args.len());
        for expr in &call.args {
            let expr = expr.unwrap_parens();
            let (argument, fixed) = match expr.value_type() {
                ValueType::Scalar => {
                    let scalar = self.scalar(expr, times)?;
                    let fixed = scalar.invariant;
                    (Argument::Scalar(scalar), fixed)
                }
                ValueType::Vector => {
                    let vector = self.vector(expr, times)?;
                    let fixed = vector.invariant;
                    (Argument::Vector(vector), fixed)
                }
                ValueType::Matrix => {
                    let source = self.source(expr, times)?;
                    (Argument::Range(source.plan), source.invariant)
                }
                ValueType::String => (Argument::Text(text(expr)), true),
            };
            invariant &= fixed;
            planned.push((argument, expr.span()));
        }
        Ok(Arguments { rest: planned.into_iter(), invariant, exprs: &call.args, span: call.span })
    }

    /// Plans a call that gives a scalar.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus computes in float seconds as well")]
    pub(super) fn scalar_call<'q>(
        &mut self,
        call: &'q Call,
        times: TimeRange,
    ) -> Result<Planned<ScalarPlan<'q>>, QueryFailure> {
        let name = call.function.name;
        let context = self.context;
        match name {
            "start" => return Ok(constant(context.start as f64 / 1e3)),
            "end" => return Ok(constant(context.end as f64 / 1e3)),
            "range" => return Ok(constant(self.durations.range)),
            "step" if context.start == context.end => return Ok(constant(0.0)),
            "step" => return Ok(constant(self.durations.step)),
            "pi" => return Ok(constant(std::f64::consts::PI)),
            "time" => return Ok(Planned::varying(ScalarPlan::Time)),
            _ => {}
        }
        let mut arguments = self.arguments(call, times)?;
        let plan = match name {
            "scalar" => ScalarPlan::FromVector(Box::new(arguments.vector()?.0)),
            "max_of" => {
                let (a, b) = (arguments.scalar()?.0, arguments.scalar()?.0);
                ScalarPlan::Max(Box::new(a), Box::new(b))
            }
            "min_of" => {
                let (a, b) = (arguments.scalar()?.0, arguments.scalar()?.0);
                ScalarPlan::Min(Box::new(a), Box::new(b))
            }
            name => return unsupported(format!("the function {name}()"), call.span),
        };
        Ok(arguments.planned(plan))
    }

    /// Plans a call that gives a vector.
    pub(super) fn vector_call<'q>(
        &mut self,
        call: &'q Call,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let name = call.function.name;
        let this = match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => HistogramUse::Stats,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                HistogramUse::Buckets
            }
            _ => HistogramUse::Any,
        };
        self.within(this, |planner| planner.vector_call_of(name, call, times))
    }

    fn vector_call_of<'q>(
        &mut self,
        name: &str,
        call: &'q Call,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        if name == "timestamp"
            && let Some(Expr::Vector(selector)) = call.args.first().map(Expr::unwrap_parens)
        {
            let selector = self.selector(selector, times, self.context.lookback)?;
            return Ok(self.timestamps(selector, VectorPlan::Timestamps(selector)));
        }
        if name == "start_timestamp" {
            return self.start_timestamps(call, times);
        }
        check_extensions(name, &call.args)?;
        let mut arguments = self.arguments(call, times)?;
        if let Some(function) = window_function(name) {
            return self.window(function, arguments);
        }
        if let Some(part) = DatePart::from_name(name) {
            return self.date(part, arguments);
        }
        if let Some(function) = elementwise(name) {
            let (input, _) = arguments.vector()?;
            return Ok(arguments.planned(self.push_map(input, Map::Function(function))));
        }
        if let Some(function) = moments::of_histogram(name) {
            let (input, _) = arguments.vector()?;
            return Ok(arguments.planned(self.push_map(input, Map::OfHistogram(function))));
        }
        let plan = match name {
            "round" | "clamp" | "clamp_min" | "clamp_max" | "timestamp" => {
                let (input, _) = arguments.vector()?;
                let map = map_with_parameters(name, &mut arguments)?;
                self.push_map(input, map)
            }
            "absent" => {
                let labels = absent_labels(call.args.first());
                VectorPlan::Absent(Box::new(arguments.vector()?.0), labels)
            }
            "absent_over_time" => {
                let labels = absent_labels(call.args.first());
                VectorPlan::AbsentOverTime(Box::new(arguments.range()?), labels)
            }
            "vector" => VectorPlan::FromScalar(Box::new(arguments.scalar()?.0)),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                let input = Box::new(arguments.vector()?.0);
                let labels =
                    if name.starts_with("sort_by") { Some(arguments.texts()?) } else { None };
                let sorting = Sorting { descending: name.ends_with("_desc"), labels };
                VectorPlan::Sort(input, sorting, call.span)
            }
            "label_replace" | "label_join" => {
                let input = Box::new(arguments.vector()?.0);
                let texts = arguments.texts()?;
                refuse_malformed_target(call)?;
                let relabel = if name == "label_replace" {
                    Relabel::replace(&texts)?
                } else {
                    Relabel::join(&texts)?
                };
                VectorPlan::Relabel(input, relabel)
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                VectorPlan::Histogram(Box::new(histogram(name, &mut arguments)?))
            }
            "info" => {
                let input = arguments.vector()?.0;
                VectorPlan::Info(Box::new(self.info(call, input, times)?))
            }
            name => return unsupported(format!("the function {name}()"), call.span),
        };
        Ok(arguments.planned(plan))
    }

    fn info<'q>(
        &mut self,
        call: &'q Call,
        input: VectorPlan<'q>,
        times: TimeRange,
    ) -> Result<Info<'q>, QueryFailure> {
        let matchers: &[Matcher] = match call.args.get(1).map(Expr::unwrap_parens) {
            Some(Expr::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (names, data): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|matcher| matcher.name() == METRIC_NAME);
        let look = match call.args.first() {
            Some(expr) => self.reference_time(expr)?,
            None => Look { offset: 0, at: None },
        };
        let back = self.context.lookback;
        let (first, last) = (look.from(times.min), look.from(times.max));
        self.extend_bounds(TimeRange::new(first.saturating_sub(back).saturating_add(1), last));
        Ok(Info { input, names: info_names(&names), data, look })
    }

    /// The time that the first selector in `expr` looks at: its own and that of the subqueries around it, up to the one that fixes it.
    fn reference_time(&self, expr: &Expr) -> Result<Look, QueryFailure> {
        // Subqueries met so far, each with the one around it.
        let mut around: Vec<(&TimeModifiers, Option<usize>)> = Vec::new();
        let mut waiting = vec![(expr, None)];
        while let Some((expr, inside)) = waiting.pop() {
            let (time, mut inside) = match expr {
                Expr::Vector(selector) => (&selector.time, inside),
                Expr::Matrix(selector) => (&selector.vector.time, inside),
                Expr::Subquery(subquery) => {
                    around.push((&subquery.time, inside));
                    waiting.push((&subquery.expr, Some(around.len() - 1)));
                    continue;
                }
                _ => {
                    waiting.extend(expr.children().rev().map(|child| (child, inside)));
                    continue;
                }
            };
            let mut look = self.look(time)?;
            while let (None, Some(at)) = (look.at, inside) {
                let (time, outer) = around[at];
                let further = self.look(time)?;
                look.offset = look.offset.saturating_add(further.offset);
                look.at = further.at;
                inside = outer;
            }
            return Ok(look);
        }
        Ok(Look { offset: 0, at: None })
    }

    /// `start_timestamp`: of a selector; other expressions have none.
    fn start_timestamps<'q>(
        &mut self,
        call: &'q Call,
        times: TimeRange,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        if let Some(Expr::Vector(selector)) = call.args.first().map(Expr::unwrap_parens) {
            let selector = self.selector(selector, times, self.context.lookback)?;
            return Ok(self.timestamps(selector, VectorPlan::StartTimestamps(selector)));
        }
        let mut arguments = self.arguments(call, times)?;
        let input = Box::new(arguments.vector()?.0);
        Ok(arguments.planned(VectorPlan::Nothing(input)))
    }

    /// `timestamp` or `start_timestamp` of a selector, given its `plan`.
    fn timestamps<'q>(
        &self,
        selector: Selector<'q>,
        plan: VectorPlan<'q>,
    ) -> Planned<VectorPlan<'q>> {
        let fixed = selector.look.at.is_some();
        let collides = !self.context.delayed_names && selector.names() == Names::Mixed;
        let plan = if collides { push(plan, Stage::Distinct) } else { plan };
        Planned { plan, invariant: fixed, wrap: fixed }
    }

    fn date<'q>(
        &self,
        part: DatePart,
        mut arguments: Arguments<'q>,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        if arguments.rest.as_slice().is_empty() {
            return Ok(Planned::varying(VectorPlan::Date(part)));
        }
        let (input, _) = arguments.vector()?;
        Ok(arguments.planned(self.push_map(input, Map::Date(part))))
    }

    fn window<'q>(
        &self,
        function: WindowFunction,
        mut arguments: Arguments<'q>,
    ) -> Result<Planned<VectorPlan<'q>>, QueryFailure> {
        let (source, parameters) = if function == WindowFunction::Quantile {
            let parameters = vec![arguments.scalar()?];
            (arguments.range()?, parameters)
        } else {
            (arguments.range()?, arguments.scalars()?)
        };
        let may_collide =
            !self.context.delayed_names && !function.keeps_name() && source.names() == Names::Mixed;
        let window = Window { function, source, parameters, may_collide };
        Ok(arguments.planned(VectorPlan::Window(Box::new(window))))
    }
}

/// The conditions on the names of info metrics. If they only say what is not wanted, the name ends as those of info metrics do.
fn info_names(given: &[&Matcher]) -> Vec<Matcher> {
    let mut names: Vec<Matcher> = given.iter().map(|matcher| (*matcher).clone()).collect();
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, "target_info"));
    } else if names.iter().all(Matcher::is_negative) {
        let info = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info");
        names.insert(0, info.expect("a constant"));
    }
    names
}

/// Only functions of how a series changes can look beyond the window.
fn check_extensions(name: &str, args: &[Expr]) -> Result<(), ExecutionError> {
    const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
    const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];
    for arg in args {
        let Expr::Matrix(selector) = arg.unwrap_parens() else { continue };
        let Some(extension) = selector.vector.extension else { continue };
        let allowed: &'static [&'static str] = match extension {
            RangeExtension::Anchored => &ANCHORED,
            RangeExtension::Smoothed => &SMOOTHED,
        };
        if !allowed.contains(&name) {
            let function = String::from(name);
            let (modifier, allowed) = (extension.as_str(), allowed.join(", "));
            return Err(ExecutionError::ExtensionFunction { modifier, allowed, function });
        }
    }
    Ok(())
}

/// A label that is written may not have a name that is not UTF-8.
fn refuse_malformed_target(call: &Call) -> Result<(), ExecutionError> {
    let target = call.args.get(1).map(Expr::unwrap_parens);
    if let Some(Expr::String(literal)) = target
        && literal.bytes.is_some()
    {
        let (function, name) = (call.function.name, literal.value.clone());
        return Err(ExecutionError::DestinationLabel { function, name });
    }
    Ok(())
}

fn map_with_parameters<'q>(
    name: &str,
    arguments: &mut Arguments<'q>,
) -> Result<Map<'q>, QueryFailure> {
    let infinite = |sign: f64| ScalarPlan::Constant(f64::INFINITY.copysign(sign));
    Ok(match name {
        "round" if arguments.rest.as_slice().is_empty() => Map::Round(ScalarPlan::Constant(1.0)),
        "round" => Map::Round(arguments.scalar()?.0),
        "clamp" => Map::Clamp(arguments.scalar()?.0, arguments.scalar()?.0),
        "clamp_min" => Map::Clamp(arguments.scalar()?.0, infinite(1.0)),
        "clamp_max" => Map::Clamp(infinite(-1.0), arguments.scalar()?.0),
        _ => Map::StepTime,
    })
}

fn histogram<'q>(name: &str, arguments: &mut Arguments<'q>) -> Result<Histogram<'q>, QueryFailure> {
    Ok(match name {
        "histogram_quantile" => {
            let (quantile, at) = arguments.scalar()?;
            let (input, span) = arguments.vector()?;
            Histogram { function: HistogramFunction::Quantile(quantile, at), input, span }
        }
        "histogram_fraction" => {
            let (lower, upper) = (arguments.scalar()?.0, arguments.scalar()?.0);
            let (input, span) = arguments.vector()?;
            Histogram { function: HistogramFunction::Fraction(lower, upper), input, span }
        }
        _ => {
            let (input, span) = arguments.vector()?;
            let label = arguments.text()?;
            let quantiles = arguments.scalars()?;
            Histogram { function: HistogramFunction::Quantiles(label, quantiles), input, span }
        }
    })
}

fn window_function(name: &str) -> Option<WindowFunction> {
    Some(match name {
        "rate" => WindowFunction::Rate,
        "increase" => WindowFunction::Increase,
        "delta" => WindowFunction::Delta,
        "irate" => WindowFunction::Irate,
        "idelta" => WindowFunction::Idelta,
        "resets" => WindowFunction::Resets,
        "changes" => WindowFunction::Changes,
        "deriv" => WindowFunction::Deriv,
        "predict_linear" => WindowFunction::PredictLinear,
        "double_exponential_smoothing" => WindowFunction::DoubleExponentialSmoothing,
        "sum_over_time" => WindowFunction::Sum,
        "avg_over_time" => WindowFunction::Avg,
        "min_over_time" => WindowFunction::Min,
        "max_over_time" => WindowFunction::Max,
        "count_over_time" => WindowFunction::Count,
        "stddev_over_time" => WindowFunction::Stddev,
        "stdvar_over_time" => WindowFunction::Stdvar,
        "quantile_over_time" => WindowFunction::Quantile,
        "mad_over_time" => WindowFunction::Mad,
        "first_over_time" => WindowFunction::First,
        "last_over_time" => WindowFunction::Last,
        "present_over_time" => WindowFunction::Present,
        "ts_of_first_over_time" => WindowFunction::TimeOfFirst,
        "ts_of_last_over_time" => WindowFunction::TimeOfLast,
        "ts_of_min_over_time" => WindowFunction::TimeOfMin,
        "ts_of_max_over_time" => WindowFunction::TimeOfMax,
        _ => return None,
    })
}

fn elementwise(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => go_math::exp,
        "sqrt" => f64::sqrt,
        "ln" => go_math::ln,
        "log2" => go_math::log2,
        "log10" => go_math::log10,
        "sin" => go_math::sin,
        "cos" => go_math::cos,
        "tan" => go_math::tan,
        "asin" => go_math::asin,
        "acos" => go_math::acos,
        "atan" => go_math::atan,
        "sinh" => go_math::sinh,
        "cosh" => go_math::cosh,
        "tanh" => go_math::tanh,
        "asinh" => go_math::asinh,
        "acosh" => go_math::acosh,
        "atanh" => go_math::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return None,
    })
}

/// The labels that a selector demands by equality: what `absent` can say about a series that is not there.
fn absent_labels(argument: Option<&Expr>) -> Labels {
    let matchers: &[Matcher] = match argument.map(Expr::unwrap_parens) {
        Some(Expr::Vector(selector)) => &selector.matchers,
        Some(Expr::Matrix(selector)) => &selector.vector.matchers,
        _ => &[],
    };
    let mut labels = LabelsBuilder::new();
    let mut seen = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME) {
        // A second matcher for a label makes its value uncertain.
        if matcher.op() == MatchOp::Equal && !seen.contains(&matcher.name()) {
            labels.set(matcher.name(), matcher.value());
            seen.push(matcher.name());
        } else {
            labels.remove(matcher.name());
        }
    }
    labels.build()
}
