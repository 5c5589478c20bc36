//! Tree to text, in Prometheus's canonical form.
//!
//! What is printed reads back to the same tree, but for spans and the order of matchers, which are sorted.
//! Left operands are taken in a loop, so that recursion is no deeper than the nesting of the query.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use model::{FloatFormat, METRIC_NAME, MatchOp, Matcher, format_duration, format_float};
use model::{is_legacy_label_name, parse_duration};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, DurationExpr, DurationKind, Expr, MatrixSelector,
    NumberLiteral, RangeExtension, StringLiteral, Subquery, TimeModifiers, VectorMatching,
    VectorSelector,
};
use crate::quote::{quoted, quoted_bytes};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_expr(f, self, None)
    }
}

/// Writes an expression that stands before `next`, which must not be drawn into an offset at its end.
fn write_expr(f: &mut Formatter<'_>, expr: &Expr, next: Option<BinaryOp>) -> fmt::Result {
    match expr {
        // `+Inf ^ a` would be `+(Inf ^ a)`.
        Expr::Number(e) if e.value == f64::INFINITY && next == Some(BinaryOp::Pow) => {
            f.write_str("Inf")
        }
        Expr::Number(e) => e.fmt(f),
        Expr::String(e) => e.fmt(f),
        Expr::Vector(e) => write_vector(f, e, next),
        Expr::Matrix(e) => write_matrix(f, e, next),
        Expr::Subquery(e) => write_subquery(f, e, next),
        Expr::Aggregate(e) => e.fmt(f),
        Expr::Binary(e) => write_binary(f, e, next),
        Expr::Unary(e) => {
            f.write_char(if e.negate { '-' } else { '+' })?;
            write_expr(f, &e.expr, next)
        }
        Expr::Paren(e) => write!(f, "({})", e.expr),
        Expr::Call(e) => write!(f, "{}({})", e.function.name, separated(&e.args, ", ")),
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
        write_vector(f, self, None)
    }
}

fn write_vector(
    f: &mut Formatter<'_>,
    selector: &VectorSelector,
    next: Option<BinaryOp>,
) -> fmt::Result {
    write_matchers(f, selector)?;
    write_at(f, &selector.time)?;
    write_extension(f, selector.extension)?;
    write_offset(f, &selector.time, next)
}

fn write_matrix(
    f: &mut Formatter<'_>,
    MatrixSelector { vector, range, .. }: &MatrixSelector,
    next: Option<BinaryOp>,
) -> fmt::Result {
    write_matchers(f, vector)?;
    write!(f, "[{range}]")?;
    write_extension(f, vector.extension)?;
    write_at(f, &vector.time)?;
    write_offset(f, &vector.time, next)
}

fn write_subquery(
    f: &mut Formatter<'_>,
    Subquery { expr, range, step, time, .. }: &Subquery,
    next: Option<BinaryOp>,
) -> fmt::Result {
    write!(f, "{expr}[{range}:")?;
    if let Some(step) = step {
        step.fmt(f)?;
    }
    f.write_char(']')?;
    write_at(f, time)?;
    write_offset(f, time, next)
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

fn write_binary(f: &mut Formatter<'_>, last: &Binary, next: Option<BinaryOp>) -> fmt::Result {
    let mut chain = vec![last];
    let mut first = &*last.left;
    while let Expr::Binary(left) = first {
        chain.push(left);
        first = &left.left;
    }
    let mut operand = first;
    while let Some(Binary { op, right, return_bool, matching, .. }) = chain.pop() {
        write_expr(f, operand, Some(*op))?;
        let bool_modifier = if *return_bool { " bool" } else { "" };
        write!(f, " {}{bool_modifier}", op.as_str())?;
        if let Some(matching) = matching {
            matching.fmt(f)?;
        }
        f.write_char(' ')?;
        operand = right;
    }
    write_expr(f, operand, next)
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

fn write_offset(
    f: &mut Formatter<'_>,
    time: &TimeModifiers,
    next: Option<BinaryOp>,
) -> fmt::Result {
    let Some(offset) = &time.offset else { return Ok(()) };
    let is_paren = matches!(offset.kind, DurationKind::Paren(_));
    let signs = if is_paren && next.is_some_and(is_of_durations) {
        // Without a sign, the operator that follows would be the offset's.
        "+"
    } else if is_whole_offset(offset) {
        ""
    } else {
        // Two signs, which cancel out, make all operators the offset's.
        "++"
    };
    write!(f, " offset {signs}{offset}")
}

/// Whether a duration could go on with the operator.
fn is_of_durations(op: BinaryOp) -> bool {
    !op.is_comparison()
        && !op.is_set()
        && !matches!(op, BinaryOp::Atan2 | BinaryOp::TrimLower | BinaryOp::TrimUpper)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::parse::{ParseOptions, parse};

    /// The tree without positions. As text, because NaN is not equal to itself.
    fn tree(query: &str) -> Option<(Expr, String)> {
        let expr = parse(query, &ParseOptions::all()).ok()?;
        let mut normal = expr.clone();
        normal.normalize();
        Some((expr, format!("{normal:?}")))
    }

    /// Whether `query` is one; if so, it has to survive printing.
    fn check_round_trip(query: &str) -> bool {
        let Some((expr, before)) = tree(query) else { return false };
        let printed = expr.to_string();
        let Some((again, after)) = tree(&printed) else {
            panic!("{query} was printed as {printed}, which is refused");
        };
        assert_eq!(before, after, "{query} was printed as {printed}");
        assert_eq!(again.to_string(), printed);
        true
    }

    #[test]
    fn what_is_hard_to_print_survives() {
        for query in [
            "-0",
            "-0s",
            "NaN",
            "-Inf",
            "1e300",
            "1e-300",
            "0.1 + 0.2",
            "a[0.0001]",
            "a[1y1ms:0.5]",
            "a offset -9e9",
            "a @ 9e14",
            "a @ -0.001",
            "a offset ++5m * 2",
            "a offset --step() ^ 2",
            "a offset -+(5)",
            "a offset -+max_of(1, 2) * 3",
            "a offset (5m) + -+-3",
            "a offset +(5m) + b",
            "b > -a offset +(5m) * b atan2 a offset +(1)",
            "a[2 ^ -3 * 4]",
            "a + fill_left(NaN) fill_right(NaN) b",
            "a + fill(-0.0000001) b",
            "2 ^ -a ^ b",
            "a * Inf ^ -Inf ^ Inf",
            "-(-1) - -1",
            r#"{""="x"}"#,
            r#"{"\ufffd"="\ufffd"}"#,
            r#"sum by ("\"", "ü.") ({"\n", "a b"!~"\\."})"#,
            r#"label_replace(a, "\xff\u00ff", "$1", '"', `\`)"#,
            "fill * fill",
            "offset offset 5m",
            "start + end",
        ] {
            assert!(check_round_trip(query), "{query}");
        }
    }

    fn word() -> impl Strategy<Value = &'static str> {
        select(vec![
            "a", "b:c", "sum", "by", "or", "offset", "start", "step", "fill", "Inf:x", "_0",
        ])
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            select(vec!["1", "0x1f", "5m", "1h30m", "1e3", "Inf", "NaN", "0.25", "07", "0"])
                .prop_map(String::from),
            any::<u32>().prop_map(|n| n.to_string()),
            (0.0..1e9).prop_map(|n: f64| n.to_string()),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-c\"'\\\\\\n\\PC]{0,6}".prop_map(|text| quoted(&text).to_string())
    }

    fn duration() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            select(vec!["5m", "30s", "300", "1.5", "step()", "range()", "0.0007", "2"])
                .prop_map(String::from),
            (1_u32..1_000_000).prop_map(|ms| format!("{ms}ms")),
        ];
        leaf.prop_recursive(4, 24, 2, |inner| {
            let op = select(vec!["+", "-", "*", "/", "%", "^"]);
            prop_oneof![
                (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
                inner.clone().prop_map(|a| format!("({a})")),
                (select(vec!["-", "+"]), inner.clone()).prop_map(|(sign, a)| format!("{sign}{a}")),
                (select(vec!["max_of", "min_of"]), inner.clone(), inner)
                    .prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            ]
        })
    }

    fn selector() -> impl Strategy<Value = String> {
        let name = prop_oneof![word().prop_map(String::from), text()];
        let matcher = (name, select(vec!["=", "!="]), text())
            .prop_map(|(name, op, value)| format!("{name}{op}{value}"));
        let matchers = prop::collection::vec(matcher, 0..3).prop_map(|all| all.join(", "));
        (word(), matchers)
            .prop_map(|(name, matchers)| format!("{name}{{{}}}", matchers.replace("__name__", "n")))
    }

    fn modifiers() -> impl Strategy<Value = String> {
        let at = select(vec!["", " @ 5", " @ -1.25", " @ start()", " @ end()"]);
        let offset = prop_oneof![
            Just(String::new()),
            duration().prop_map(|duration| format!(" offset {duration}")),
        ];
        (at, offset).prop_map(|(at, offset)| format!("{at}{offset}"))
    }

    fn grouping() -> impl Strategy<Value = String> {
        (select(vec!["by", "without"]), prop::collection::vec(word(), 0..3))
            .prop_map(|(side, labels)| format!("{side} ({})", labels.join(", ")))
    }

    fn operator() -> impl Strategy<Value = String> {
        let op = select(vec![
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!= bool", "<", ">= bool", "and", "or",
            "unless", "</", ">/",
        ]);
        let matching = select(vec![
            "",
            "",
            "on (a)",
            "ignoring (a, b)",
            "on (a) group_left",
            "ignoring () group_right (c)",
            "fill (1)",
            "on () fill_left (-0.5)",
        ]);
        (op, matching).prop_map(|(op, matching)| format!("{op} {matching}"))
    }

    fn vector() -> impl Strategy<Value = String> {
        let leaf = (selector(), select(vec!["", " anchored", " smoothed"]), modifiers()).prop_map(
            |(selector, extension, modifiers)| format!("{selector}{extension}{modifiers}"),
        );
        leaf.prop_recursive(4, 32, 3, |inner| {
            prop_oneof![
                (inner.clone(), operator(), inner.clone())
                    .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
                (inner.clone(), select(vec!["*", "-", "> bool", "^"]), number())
                    .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
                inner.clone().prop_map(|a| format!("({a})")),
                inner.clone().prop_map(|a| format!("-{a}")),
                (select(vec!["sum", "stddev", "group"]), grouping(), inner.clone())
                    .prop_map(|(op, grouping, a)| format!("{op} ({a}) {grouping}")),
                (select(vec!["topk", "quantile", "limit_ratio"]), number(), inner.clone())
                    .prop_map(|(op, k, a)| format!("{op}({k}, {a})")),
                (selector(), duration(), modifiers())
                    .prop_map(|(s, range, modifiers)| format!("rate({s}[{range}]{modifiers})")),
                (inner.clone(), duration(), duration(), modifiers()).prop_map(
                    |(a, range, step, modifiers)| format!(
                        "max_over_time(({a})[{range}:{step}]{modifiers})"
                    )
                ),
                (inner, text()).prop_map(|(a, t)| format!("label_join({a}, {t}, {t})")),
            ]
        })
    }

    fn soup() -> impl Strategy<Value = String> {
        let token = select(vec![
            "a",
            "sum",
            "by",
            "on",
            "bool",
            "offset",
            "@",
            "start",
            "end",
            "step",
            "(",
            ")",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "=",
            "==",
            "=~",
            "!=",
            "<",
            "</",
            "+",
            "-",
            "*",
            "^",
            "5",
            "5m",
            "1e3",
            "\"x\"",
            "'",
            "`",
            "#",
            "\n",
            "rate",
            "and",
            "fill",
            "group_left",
            "$",
        ]);
        prop::collection::vec(token, 0..16).prop_map(|tokens| tokens.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn expressions_survive_printing(query in vector()) {
            check_round_trip(&query);
        }

        #[test]
        fn offsets_survive_printing(duration in duration()) {
            check_round_trip(&format!("a offset {duration} @ 5"));
            check_round_trip(&format!("a[{duration}:{duration}] offset {duration}"));
        }

        #[test]
        fn selectors_survive_printing(selector in selector(), modifiers in modifiers()) {
            check_round_trip(&format!("{selector}{modifiers}"));
        }

        #[test]
        fn anything_is_read_or_refused(query in soup()) {
            check_round_trip(&query);
        }

        #[test]
        fn every_start_of_a_query_is_read_or_refused(query in vector()) {
            for end in (0..query.len()).filter(|end| query.is_char_boundary(*end)) {
                check_round_trip(&query[..end]);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            check_round_trip(&text);
        }
    }

    #[test]
    fn most_generated_expressions_are_valid() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let strategy = vector();
        let valid = (0..200)
            .filter(|_| check_round_trip(&strategy.new_tree(&mut runner).unwrap().current()))
            .count();
        assert!(valid >= 40, "only {valid} of 200 say anything about printing");
    }
}
