//! `parse_query`: the syntax tree of an expression, in the JSON of Prometheus's.
//!
//! Left operands are taken in a loop: a query of a megabyte may be one chain of operators.

use model::{FloatFormat, Matcher, QueryError, write_float};
use promql::ast::{
    Aggregate, At, Binary, Call, Cardinality, DurationExpr, DurationKind, Expr, MatrixSelector,
    RangeExtension, Subquery, TimeModifiers, VectorMatching, VectorSelector,
};

use super::json::{Writer, write_each, write_string};

impl Writer<'_> {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        write_string(&mut self.out, text);
    }

    fn strings(&mut self, texts: &[String]) {
        write_each(&mut self.out, texts, |out, text| write_string(out, text));
    }

    fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A number as text, since JSON has no infinities.
    fn number(&mut self, value: f64) {
        self.raw("\"");
        write_float(&mut self.out, value, FloatFormat::Plain);
        self.raw("\"");
    }
}

/// Writes the tree of `expr`.
///
/// # Errors
/// [`QueryError`] when it is larger than the query may hold, or takes too long to write.
pub(super) fn write_expr(w: &mut Writer<'_>, expr: &Expr) -> Result<(), QueryError> {
    w.account()?;
    match expr {
        Expr::Number(literal) => {
            w.raw(r#"{"type":"numberLiteral","val":"#);
            w.number(literal.value);
        }
        Expr::String(literal) => {
            w.raw(r#"{"type":"stringLiteral","val":"#);
            w.string(&literal.value);
        }
        Expr::Vector(selector) => {
            w.raw("{");
            write_extension(w, selector.extension);
            write_selector(w, selector);
            write_offset(w, &selector.time)?;
            write_at(w, &selector.time);
            w.raw(r#","type":"vectorSelector""#);
        }
        Expr::Matrix(selector) => write_matrix(w, selector)?,
        Expr::Subquery(subquery) => write_subquery(w, subquery)?,
        Expr::Aggregate(aggregate) => write_aggregate(w, aggregate)?,
        Expr::Binary(binary) => return write_chain(w, binary),
        Expr::Unary(unary) => {
            w.raw(r#"{"expr":"#);
            write_expr(w, &unary.expr)?;
            w.raw(r#","op":""#);
            w.raw(if unary.negate { "-" } else { "+" });
            w.raw(r#"","type":"unaryExpr""#);
        }
        Expr::Paren(paren) => {
            w.raw(r#"{"expr":"#);
            write_expr(w, &paren.expr)?;
            w.raw(r#","type":"parenExpr""#);
        }
        Expr::Call(call) => write_call(w, call)?,
    }
    w.raw("}");
    Ok(())
}

fn write_matrix(w: &mut Writer<'_>, selector: &MatrixSelector) -> Result<(), QueryError> {
    let vector = &selector.vector;
    w.raw("{");
    write_extension(w, vector.extension);
    write_selector(w, vector);
    write_offset(w, &vector.time)?;
    w.raw(r#","range":"#);
    write_duration(w, Some(&selector.range), "rangeExpr")?;
    write_at(w, &vector.time);
    w.raw(r#","type":"matrixSelector""#);
    Ok(())
}

fn write_subquery(w: &mut Writer<'_>, subquery: &Subquery) -> Result<(), QueryError> {
    w.raw(r#"{"expr":"#);
    write_expr(w, &subquery.expr)?;
    write_offset(w, &subquery.time)?;
    w.raw(r#","range":"#);
    write_duration(w, Some(&subquery.range), "rangeExpr")?;
    w.raw(r#","step":"#);
    write_duration(w, subquery.step.as_ref(), "stepExpr")?;
    write_at(w, &subquery.time);
    w.raw(r#","type":"subquery""#);
    Ok(())
}

fn write_aggregate(w: &mut Writer<'_>, aggregate: &Aggregate) -> Result<(), QueryError> {
    w.raw(r#"{"expr":"#);
    write_expr(w, &aggregate.expr)?;
    w.raw(r#","grouping":"#);
    w.strings(&aggregate.grouping);
    w.raw(r#","op":"#);
    w.string(aggregate.op.as_str());
    w.raw(r#","param":"#);
    match &aggregate.param {
        Some(param) => write_expr(w, param)?,
        None => w.raw("null"),
    }
    w.raw(r#","type":"aggregation","without":"#);
    w.boolean(aggregate.without);
    Ok(())
}

/// Writes operators that lean to the left, from the last to the first and back.
fn write_chain(w: &mut Writer<'_>, last: &Binary) -> Result<(), QueryError> {
    let mut chain = vec![last];
    let mut first = &*last.left;
    while let Expr::Binary(left) = first {
        chain.push(left);
        first = &left.left;
    }
    for binary in &chain {
        w.raw(r#"{"bool":"#);
        w.boolean(binary.return_bool);
        w.raw(r#","lhs":"#);
    }
    write_expr(w, first)?;
    for binary in chain.iter().rev() {
        w.raw(r#","matching":"#);
        match &binary.matching {
            Some(matching) => write_matching(w, matching),
            None => w.raw("null"),
        }
        w.raw(r#","op":"#);
        w.string(binary.op.as_str());
        w.raw(r#","rhs":"#);
        write_expr(w, &binary.right)?;
        w.raw(r#","type":"binaryExpr"}"#);
    }
    Ok(())
}

fn write_matching(w: &mut Writer<'_>, matching: &VectorMatching) {
    w.raw(r#"{"card":""#);
    w.raw(match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    });
    w.raw(r#"","fillValues":{"lhs":"#);
    write_fill(w, matching.fill_left);
    w.raw(r#","rhs":"#);
    write_fill(w, matching.fill_right);
    w.raw(r#"},"include":"#);
    w.strings(&matching.include);
    w.raw(r#","labels":"#);
    w.strings(&matching.labels);
    w.raw(r#","on":"#);
    w.boolean(matching.on);
    w.raw("}");
}

/// A number; as text where JSON has none for it, where Prometheus fails.
fn write_fill(w: &mut Writer<'_>, value: Option<f64>) {
    match value {
        None => w.raw("null"),
        Some(value) if value.is_finite() => write_float(&mut w.out, value, FloatFormat::Plain),
        Some(value) => w.number(value),
    }
}

fn write_call(w: &mut Writer<'_>, call: &Call) -> Result<(), QueryError> {
    w.raw(r#"{"args":["#);
    for (i, arg) in call.args.iter().enumerate() {
        w.raw(if i > 0 { "," } else { "" });
        write_expr(w, arg)?;
    }
    let function = call.function;
    w.raw(r#"],"func":{"argTypes":"#);
    write_each(&mut w.out, function.args, |out, kind| write_string(out, kind.as_str()));
    w.raw(r#","name":"#);
    w.string(function.name);
    w.raw(r#","returnType":"#);
    w.string(function.returns.as_str());
    w.raw(r#","variadic":"#);
    w.raw(&function.variadic.to_string());
    w.raw(r#"},"type":"call""#);
    Ok(())
}

fn write_extension(w: &mut Writer<'_>, extension: Option<RangeExtension>) {
    w.raw(r#""anchored":"#);
    w.boolean(extension == Some(RangeExtension::Anchored));
    w.raw(r#","smoothed":"#);
    w.boolean(extension == Some(RangeExtension::Smoothed));
}

fn write_selector(w: &mut Writer<'_>, selector: &VectorSelector) {
    w.raw(r#","matchers":"#);
    write_each(&mut w.out, &selector.matchers, write_matcher);
    w.raw(r#","name":"#);
    w.string(selector.name.as_deref().unwrap_or_default());
}

fn write_matcher(out: &mut Vec<u8>, matcher: &Matcher) {
    for (key, text) in [
        (&b"{\"name\":"[..], matcher.name()),
        (b",\"type\":", matcher.op().as_str()),
        (b",\"value\":", matcher.value()),
    ] {
        out.extend_from_slice(key);
        write_string(out, text);
    }
    out.push(b'}');
}

fn write_offset(w: &mut Writer<'_>, time: &TimeModifiers) -> Result<(), QueryError> {
    w.raw(r#","offset":"#);
    write_duration(w, time.offset.as_ref(), "offsetExpr")
}

fn write_at(w: &mut Writer<'_>, time: &TimeModifiers) {
    let (start_or_end, t) = match time.at {
        None => ("null", None),
        Some(At::Start) => ("\"start\"", None),
        Some(At::End) => ("\"end\"", None),
        Some(At::Time(t)) => ("null", Some(t)),
    };
    w.raw(r#","startOrEnd":"#);
    w.raw(start_or_end);
    w.raw(r#","timestamp":"#);
    w.raw(&t.map_or_else(|| String::from("null"), |t| t.to_string()));
}

/// Writes milliseconds, 0 for what has to be computed, and under `key` how that is done.
fn write_duration(
    w: &mut Writer<'_>,
    duration: Option<&DurationExpr>,
    key: &str,
) -> Result<(), QueryError> {
    let seconds = match duration.map(|duration| &duration.kind) {
        None => Some(0.0),
        Some(DurationKind::Seconds(seconds) | DurationKind::Number(seconds)) => Some(*seconds),
        Some(_) => None,
    };
    w.raw(&milliseconds(seconds.unwrap_or_default()).to_string());
    w.raw(",\"");
    w.raw(key);
    w.raw("\":");
    match duration.filter(|_| seconds.is_none()) {
        Some(duration) => write_duration_expr(w, duration, false),
        None => {
            w.raw("null");
            Ok(())
        }
    }
}

/// Whole milliseconds of a duration in whole nanoseconds, towards zero.
#[expect(clippy::cast_possible_truncation, reason = "the parser bounds durations")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

fn write_duration_expr(
    w: &mut Writer<'_>,
    duration: &DurationExpr,
    wrapped: bool,
) -> Result<(), QueryError> {
    w.account()?;
    let (op, left, right) = match &duration.kind {
        DurationKind::Seconds(value) | DurationKind::Number(value) => {
            let is_duration = matches!(duration.kind, DurationKind::Seconds(_));
            // A literal has no parentheses of its own: a plus that does nothing carries them.
            w.raw(if wrapped { r#"{"lhs":null,"op":"+","rhs":"# } else { "" });
            write_literal(w, *value, is_duration);
            w.raw(if wrapped { r#","type":"durationExpr","wrapped":true}"# } else { "" });
            return Ok(());
        }
        DurationKind::Paren(inner) => return write_duration_expr(w, inner, true),
        DurationKind::Binary { .. } => return write_duration_chain(w, duration, wrapped),
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Negate(inner) => ("-", None, Some(inner)),
        DurationKind::Min(left, right) => ("min_of", Some(left), Some(right)),
        DurationKind::Max(left, right) => ("max_of", Some(left), Some(right)),
    };
    w.raw(r#"{"lhs":"#);
    match left {
        Some(left) => write_duration_expr(w, left, false)?,
        None => w.raw("null"),
    }
    write_duration_end(w, op, right.map(|right| &**right), wrapped)
}

/// Writes operators that lean to the left, as [`write_chain`] does.
fn write_duration_chain(
    w: &mut Writer<'_>,
    last: &DurationExpr,
    wrapped: bool,
) -> Result<(), QueryError> {
    let mut chain = Vec::new();
    let mut first = last;
    while let DurationKind::Binary { op, left, right } = &first.kind {
        w.raw(r#"{"lhs":"#);
        chain.push((op.as_str(), &**right));
        first = left;
    }
    write_duration_expr(w, first, false)?;
    while let Some((op, right)) = chain.pop() {
        write_duration_end(w, op, Some(right), wrapped && chain.is_empty())?;
    }
    Ok(())
}

/// Writes what comes after the left operand.
fn write_duration_end(
    w: &mut Writer<'_>,
    op: &str,
    right: Option<&DurationExpr>,
    wrapped: bool,
) -> Result<(), QueryError> {
    w.raw(r#","op":"#);
    w.string(op);
    w.raw(r#","rhs":"#);
    match right {
        Some(right) => write_duration_expr(w, right, false)?,
        None => w.raw("null"),
    }
    w.raw(r#","type":"durationExpr","wrapped":"#);
    w.boolean(wrapped);
    w.raw("}");
    Ok(())
}

fn write_literal(w: &mut Writer<'_>, value: f64, is_duration: bool) {
    w.raw(r#"{"duration":"#);
    w.boolean(is_duration);
    w.raw(r#","type":"numberLiteral","val":"#);
    w.number(value);
    w.raw("}");
}
