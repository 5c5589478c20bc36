//! `format_query`: an expression over as many lines as make it readable.
//!
//! As Prometheus does it: what fits into a hundred bytes stays on one line, anything longer is broken up at its operands, each on a line
//! of its own, indented by its depth.

use std::fmt::{self, Display, Write};

use promql::ParseOptions;
use promql::ast::{Aggregate, Binary, Expr, NumberLiteral, Span, Subquery};

/// Bytes of an expression that stays on one line.
const LINE_BYTES_MAX: usize = 100;
/// The indentation of a chain of operators grows with every operator, so that the text of a long chain grows with its square. Longer text
/// than this is not made.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// `expr` over several lines, or on one if it is too long for that or would read back differently.
pub(crate) fn pretty(expr: &Expr) -> String {
    let canonical = expr.to_string();
    if canonical.len() <= LINE_BYTES_MAX {
        return canonical;
    }
    let mut out = Bounded { text: String::new(), bytes_max: TEXT_BYTES_MAX };
    if write(&mut out, expr, 0).is_err() {
        return canonical;
    }
    // The modifiers of an operand at the end of a line might take in the operator on the next. A string that looks like one costs but time.
    if ![" offset ", " @ "].iter().any(|modifier| canonical.contains(modifier)) {
        return out.text;
    }
    match promql::parse(&out.text, &ParseOptions::all()) {
        Ok(again) if again.to_string() == canonical => out.text,
        _ => canonical,
    }
}

/// Text that refuses to grow beyond a bound.
struct Bounded {
    text: String,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.bytes_max - self.text.len() {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// `item` as text if it has at most `bytes_max` bytes. No more of a longer one is printed than it takes to see that.
fn short(item: impl Display, bytes_max: usize) -> Option<String> {
    let mut out = Bounded { text: String::new(), bytes_max };
    write!(out, "{item}").ok().map(|()| out.text)
}

fn write(out: &mut Bounded, expr: &Expr, depth: usize) -> fmt::Result {
    match expr {
        Expr::Vector(_) | Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) => {
            indent(out, depth)?;
            write!(out, "{expr}")
        }
        Expr::Unary(unary) => {
            indent(out, depth)?;
            out.write_char(if unary.negate { '-' } else { '+' })?;
            // The operand's own indentation, which is that of its first line, gives way to the sign.
            let start = out.text.len();
            write(out, &unary.expr, depth)?;
            let blank = out.text[start..].len() - out.text[start..].trim_start().len();
            out.text.replace_range(start..start + blank, "");
            Ok(())
        }
        Expr::Binary(binary) => write_chain(out, binary, depth),
        Expr::Subquery(subquery) => match short(expr, LINE_BYTES_MAX) {
            Some(text) => out.write_str(&text),
            None => {
                write(out, &subquery.expr, depth)?;
                out.write_str(&subquery_suffix(subquery))
            }
        },
        Expr::Aggregate(_) | Expr::Call(_) | Expr::Paren(_) => {
            indent(out, depth)?;
            match short(expr, LINE_BYTES_MAX) {
                Some(text) => out.write_str(&text),
                None => write_bracketed(out, expr, depth),
            }
        }
    }
}

/// Writes what has its operands in parentheses.
fn write_bracketed(out: &mut Bounded, expr: &Expr, depth: usize) -> fmt::Result {
    let operands: Vec<&Expr> = match expr {
        Expr::Aggregate(aggregate) => {
            out.write_str(&aggregate_head(aggregate))?;
            aggregate.param.iter().chain([&aggregate.expr]).map(|operand| &**operand).collect()
        }
        Expr::Call(call) => {
            out.write_str(call.function.name)?;
            call.args.iter().collect()
        }
        Expr::Paren(paren) => vec![&paren.expr],
        _ => Vec::new(),
    };
    out.write_str("(\n")?;
    for (i, operand) in operands.into_iter().enumerate() {
        out.write_str(if i > 0 { ",\n" } else { "" })?;
        write(out, operand, depth + 1)?;
    }
    out.write_char('\n')?;
    indent(out, depth)?;
    out.write_char(')')
}

/// Writes operators from the first to the last; the one that binds last is the least indented.
fn write_chain(out: &mut Bounded, last: &Binary, depth: usize) -> fmt::Result {
    let mut chain = vec![last];
    let mut first = &*last.left;
    while let Expr::Binary(left) = first {
        chain.push(left);
        first = &left.left;
    }
    // The longest start of the chain that fits on a line.
    let mut line = short(first, LINE_BYTES_MAX);
    while let Some(text) = &line
        && let Some(binary) = chain.last()
    {
        let room = LINE_BYTES_MAX - text.len();
        let operator = short(operator(binary), room);
        let Some(longer) = operator.and_then(|operator| {
            let rest = room.checked_sub(operator.len() + 2)?;
            Some(format!("{text} {operator} {}", short(&binary.right, rest)?))
        }) else {
            break;
        };
        line = Some(longer);
        chain.pop();
    }
    let deepest = depth + chain.len();
    match line {
        Some(text) => {
            indent(out, deepest)?;
            out.write_str(&text)?;
        }
        None => write(out, first, deepest)?,
    }
    for (i, binary) in chain.iter().rev().enumerate() {
        let depth = deepest - 1 - i;
        out.write_char('\n')?;
        indent(out, depth)?;
        writeln!(out, "{}", operator(binary))?;
        write(out, &binary.right, depth + 1)?;
    }
    Ok(())
}

/// `+ bool on (a) group_left (b)`
fn operator(binary: &Binary) -> impl Display + '_ {
    fmt::from_fn(move |f| {
        f.write_str(binary.op.as_str())?;
        f.write_str(if binary.return_bool { " bool" } else { "" })?;
        binary.matching.as_ref().map_or(Ok(()), |matching| matching.fmt(f))
    })
}

const NOTHING: Expr =
    Expr::Number(NumberLiteral { value: 0.0, is_duration: false, span: Span { start: 0, end: 0 } });

/// `sum by (a) `: what stands before the parenthesis.
fn aggregate_head(aggregate: &Aggregate) -> String {
    let empty = Aggregate {
        op: aggregate.op,
        param: None,
        expr: Box::new(NOTHING),
        grouping: aggregate.grouping.clone(),
        without: aggregate.without,
        span: aggregate.span,
    };
    let mut text = empty.to_string();
    text.truncate(text.len().saturating_sub("(0)".len()));
    text
}

/// `[1h:5m] @ end() offset 1d`
fn subquery_suffix(subquery: &Subquery) -> String {
    let empty = Subquery {
        expr: Box::new(NOTHING),
        range: subquery.range.clone(),
        step: subquery.step.clone(),
        time: subquery.time.clone(),
        span: subquery.span,
    };
    Expr::Subquery(empty).to_string().split_off("0".len())
}

fn indent(out: &mut Bounded, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| out.write_str("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &str) {
        let expr = promql::parse(query, &ParseOptions::all()).unwrap();
        assert_eq!(pretty(&expr), expected, "{query}");
    }

    #[test]
    fn what_is_short_stays_on_a_line() {
        check("sum(up)by(job)", "sum by (job) (up)");
        check("a+b * on(x)c", "a + b * on (x) c");
    }

    #[test]
    fn what_is_long_is_broken_up_at_its_operands() {
        let a = "a".repeat(60);
        let b = "b".repeat(60);
        check(&format!("({a}+{b})"), &format!("(\n    {a}\n  +\n    {b}\n)"));
        check(
            &format!("sum by(x)(rate({a}[5m])+ignoring(y)rate({b}[5m]))"),
            &format!("sum by (x) (\n    rate({a}[5m])\n  + ignoring (y)\n    rate({b}[5m])\n)"),
        );
        check(&format!("topk(5,{a}+{b})"), &format!("topk(\n  5,\n    {a}\n  +\n    {b}\n)"));
        check(
            &format!("label_replace({a},\"x\",\"{b}\",\"y\",\"z\")"),
            &format!("label_replace(\n  {a},\n  \"x\",\n  \"{b}\",\n  \"y\",\n  \"z\"\n)"),
        );
        check(&format!("-({a}>bool {b})"), &format!("-(\n    {a}\n  > bool\n    {b}\n)"));
        check(
            &format!("max_over_time(({a}+{b})[1h:5m] offset 1d)"),
            &format!("max_over_time(\n  (\n      {a}\n    +\n      {b}\n  )[1h:5m] offset 1d\n)"),
        );
    }

    #[test]
    fn of_a_chain_what_binds_last_is_least_indented() {
        let [a, b, c] = ["a", "b", "c"].map(|name| name.repeat(60));
        check(&format!("{a}+{b}-{c}"), &format!("    {a}\n  +\n    {b}\n-\n  {c}"));
        // Of each operator those before it count, as far as they fit on a line.
        check(&format!("1+2*3-{a}-{b}"), &format!("  1 + 2 * 3 - {a}\n-\n  {b}"));
        check(&format!("{a}-2-3-{b}"), &format!("  {a} - 2 - 3\n-\n  {b}"));
    }

    #[test]
    fn what_would_grow_or_read_differently_stays_on_a_line() {
        let chain = ["abcdefgh"; 20_000].join(" + ");
        check(&chain, &chain);
        let long = "a".repeat(100);
        // On a line of its own the offset would go on with the plus.
        let query = format!("{long} offset +(5m) + b");
        let canonical = promql::parse(&query, &ParseOptions::all()).unwrap().to_string();
        check(&query, &canonical);
    }
}
