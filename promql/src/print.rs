//! Tree to text, in Prometheus's canonical form.
//!
//! What is printed reads back to the same tree, but for spans and the order of matchers, which are sorted.
//! Left operands are taken in a loop, so that recursion is no deeper than the nesting of the query.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use model::{FloatFormat, METRIC_NAME, MatchOp, Matcher, format_duration, format_float};
use model::{is_legacy_label_name, parse_duration};

use crate::ast::{
    Aggregate, At, Binary, Call, Cardinality, DurationExpr, DurationKind, Expr, MatrixSelector,
    NumberLiteral, RangeExtension, StringLiteral, Subquery, TimeModifiers, VectorMatching,
    VectorSelector,
};
use crate::quote::{quoted, quoted_bytes};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::String(e) => e.fmt(f),
            Self::Vector(e) => e.fmt(f),
            Self::Matrix(e) => e.fmt(f),
            Self::Subquery(e) => e.fmt(f),
            Self::Aggregate(e) => e.fmt(f),
            Self::Binary(e) => e.fmt(f),
            Self::Unary(e) => write!(f, "{}{}", if e.negate { '-' } else { '+' }, e.expr),
            Self::Paren(e) => write!(f, "({})", e.expr),
            Self::Call(e) => e.fmt(f),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration { write_seconds(f, self.value) } else { write_number(f, self.value) }
    }
}

impl Display for StringLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some(bytes) => quoted_bytes(bytes).fmt(f),
            None => literal(&self.value).fmt(f),
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_matchers(f, self)?;
        write_at(f, &self.time)?;
        write_extension(f, self.extension)?;
        write_offset(f, &self.time)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_matchers(f, &self.vector)?;
        write!(f, "[{}]", self.range)?;
        write_extension(f, self.vector.extension)?;
        write_at(f, &self.vector.time)?;
        write_offset(f, &self.vector.time)
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:", self.expr, self.range)?;
        if let Some(step) = &self.step {
            step.fmt(f)?;
        }
        f.write_char(']')?;
        write_at(f, &self.time)?;
        write_offset(f, &self.time)
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.without {
            write!(f, " without ({}) ", labels(&self.grouping))?;
        } else if !self.grouping.is_empty() {
            write!(f, " by ({}) ", labels(&self.grouping))?;
        }
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.function.name, separated(&self.args, ", "))
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut chain = vec![self];
        let mut first = &*self.left;
        while let Expr::Binary(left) = first {
            chain.push(left);
            first = &left.left;
        }
        first.fmt(f)?;
        for binary in chain.into_iter().rev() {
            write!(f, " {}", binary.op.as_str())?;
            if binary.return_bool {
                f.write_str(" bool")?;
            }
            if let Some(matching) = &binary.matching {
                matching.fmt(f)?;
            }
            write!(f, " {}", binary.right)?;
        }
        Ok(())
    }
}

/// With a space in front, unless there is nothing to say.
impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if self.on || !self.labels.is_empty() || group.is_some() {
            let side = if self.on { "on" } else { "ignoring" };
            write!(f, " {side} ({})", labels(&self.labels))?;
        }
        if let Some(group) = group {
            write!(f, " {group} ({})", labels(&self.include))?;
        }
        let fill = |f: &mut Formatter<'_>, name: &str, value: f64| {
            write!(f, " {name} ({})", format_float(value, FloatFormat::General))
        };
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left == right => fill(f, "fill", left),
            (left, right) => {
                left.map_or(Ok(()), |left| fill(f, "fill_left", left))?;
                right.map_or(Ok(()), |right| fill(f, "fill_right", right))
            }
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Seconds(seconds) => write_seconds(f, *seconds),
            DurationKind::Number(number) => write_number(f, *number),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Negate(inner) => write!(f, "-{inner}"),
            DurationKind::Paren(inner) => write!(f, "({inner})"),
            DurationKind::Min(left, right) => write!(f, "min_of({left}, {right})"),
            DurationKind::Max(left, right) => write!(f, "max_of({left}, {right})"),
            DurationKind::Binary { .. } => {
                let mut chain = Vec::new();
                let mut first = self;
                while let DurationKind::Binary { op, left, right } = &first.kind {
                    chain.push((op, right));
                    first = left;
                }
                first.fmt(f)?;
                chain
                    .into_iter()
                    .rev()
                    .try_for_each(|(op, right)| write!(f, " {} {right}", op.as_str()))
            }
        }
    }
}

/// The name in front and the matchers in braces.
fn write_matchers(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or_default();
    f.write_str(name)?;
    let is_name = |matcher: &&Matcher| {
        !name.is_empty()
            && matcher.name() == METRIC_NAME
            && matcher.op() == MatchOp::Equal
            && matcher.value() == name
    };
    let inside = selector.matchers.iter().filter(|matcher| !is_name(matcher));
    let mut inside: Vec<String> = inside.map(matcher_text).collect();
    inside.sort_unstable();
    if !inside.is_empty() || name.is_empty() {
        write!(f, "{{{}}}", separated(&inside, ","))?;
    }
    Ok(())
}

fn matcher_text(matcher: &Matcher) -> String {
    format!("{}{}{}", label(matcher.name()), matcher.op().as_str(), literal(matcher.value()))
}

fn write_at(f: &mut Formatter<'_>, time: &TimeModifiers) -> fmt::Result {
    match time.at {
        None => Ok(()),
        Some(At::Time(t)) => write!(f, " @ {:.3}", t as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn write_extension(f: &mut Formatter<'_>, extension: Option<RangeExtension>) -> fmt::Result {
    extension.map_or(Ok(()), |extension| write!(f, " {}", extension.as_str()))
}

fn write_offset(f: &mut Formatter<'_>, time: &TimeModifiers) -> fmt::Result {
    let Some(offset) = &time.offset else { return Ok(()) };
    // Two signs in front, which cancel out, make the operators part of the offset.
    let signs = if is_whole_offset(offset) { "" } else { "++" };
    write!(f, " offset {signs}{offset}")
}

/// Whether all of a duration, printed after `offset`, is read back as the offset.
fn is_whole_offset(offset: &DurationExpr) -> bool {
    let mut first = offset;
    while let DurationKind::Binary { left, .. } = &first.kind {
        first = left;
    }
    match &first.kind {
        DurationKind::Paren(_) => true,
        DurationKind::Negate(inner) => match inner.kind {
            DurationKind::Negate(_) => true,
            DurationKind::Binary { .. } => false,
            _ => std::ptr::eq(first, offset),
        },
        _ => std::ptr::eq(first, offset),
    }
}

fn label(name: &str) -> impl Display + '_ {
    fmt::from_fn(
        move |f| {
            if is_legacy_label_name(name) { f.write_str(name) } else { literal(name).fmt(f) }
        },
    )
}

/// `text` in quotes. U+FFFD is escaped: written out, it would be taken for a fault of the encoding.
fn literal(text: &str) -> impl Display + '_ {
    fmt::from_fn(move |f| {
        for (i, part) in quoted(text).to_string().split(char::REPLACEMENT_CHARACTER).enumerate() {
            f.write_str(if i > 0 { "\\ufffd" } else { "" })?;
            f.write_str(part)?;
        }
        Ok(())
    })
}

fn labels(names: &[String]) -> impl Display + '_ {
    fmt::from_fn(move |f| {
        for (i, name) in names.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            label(name).fmt(f)?;
        }
        Ok(())
    })
}

fn separated<'t, T: Display>(items: &'t [T], separator: &'t str) -> impl Display + 't {
    fmt::from_fn(move |f| {
        for (i, item) in items.iter().enumerate() {
            f.write_str(if i > 0 { separator } else { "" })?;
            item.fmt(f)?;
        }
        Ok(())
    })
}

fn write_number(f: &mut Formatter<'_>, value: f64) -> fmt::Result {
    f.write_str(&format_float(value, FloatFormat::Plain))
}

/// Writes seconds as a duration if that is exact, else as a number.
fn write_seconds(f: &mut Formatter<'_>, seconds: f64) -> fmt::Result {
    let sign = if seconds.is_sign_negative() { "-" } else { "" };
    let seconds_abs = seconds.abs();
    let rounded = Duration::from_millis((seconds_abs * 1000.0).round() as u64);
    let text = format_duration(rounded);
    match parse_duration(&text) {
        Ok(read) if read.as_secs_f64() == seconds_abs => write!(f, "{sign}{text}"),
        _ => write_number(f, seconds),
    }
}
