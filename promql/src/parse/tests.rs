//! What queries mean, how they are refused, and that hostile ones cost little.

use std::thread;

use super::*;
use crate::ast::ValueType;
use crate::ast::{Cardinality, DurationExpr, DurationKind, RangeExtension};

fn parsed(query: &str) -> Expr {
    parse(query, &ParseOptions::all()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// The tree with every operator in parentheses.
fn shape(expr: &Expr) -> String {
    match expr {
        Expr::Binary(e) => {
            format!("({} {} {})", shape(&e.left), e.op.as_str(), shape(&e.right))
        }
        Expr::Unary(e) => format!("({}{})", if e.negate { '-' } else { '+' }, shape(&e.expr)),
        Expr::Paren(e) => shape(&e.expr),
        other => other.to_string(),
    }
}

fn duration_shape(duration: &DurationExpr) -> String {
    match &duration.kind {
        DurationKind::Binary { op, left, right } => {
            format!("({} {} {})", duration_shape(left), op.as_str(), duration_shape(right))
        }
        DurationKind::Negate(inner) => format!("(-{})", duration_shape(inner)),
        DurationKind::Paren(inner) => duration_shape(inner),
        _ => duration.to_string(),
    }
}

fn check_shape(query: &str, expected: &str) {
    assert_eq!(shape(&parsed(query)), expected, "{query}");
}

fn check_prints(query: &str, expected: &str) {
    assert_eq!(parsed(query).to_string(), expected, "{query}");
}

fn check_error(query: &str, expected: &str) {
    match parse(query, &ParseOptions::all()) {
        Ok(expr) => panic!("{query} was read as {expr}"),
        Err(error) => assert_eq!(error.to_string(), expected, "{query}"),
    }
}

#[test]
fn operators_bind_by_precedence() {
    for (query, expected) in [
        ("a + b * c", "(a + (b * c))"),
        ("a * b + c", "((a * b) + c)"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("a * b ^ c / d", "((a * (b ^ c)) / d)"),
        ("a atan2 b * c % d", "(((a atan2 b) * c) % d)"),
        ("a == b + c", "(a == (b + c))"),
        ("a < b > c", "((a < b) > c)"),
        ("a </ b + c", "(a </ (b + c))"),
        ("a >/ b >= c", "((a >/ b) >= c)"),
        ("a and b == c", "(a and (b == c))"),
        ("a or b and c unless d or e", "((a or ((b and c) unless d)) or e)"),
        ("a AND b Or c", "((a and b) or c)"),
        ("(a + b) * c", "((a + b) * c)"),
    ] {
        check_shape(query, expected);
    }
}

#[test]
fn signs_bind_like_multiplication() {
    for (query, expected) in [
        ("-a ^ b", "(-(a ^ b))"),
        ("-a * b", "((-a) * b)"),
        ("-a + b", "((-a) + b)"),
        ("a ^ -b ^ c", "(a ^ (-(b ^ c)))"),
        ("a ^ -b * c", "((a ^ (-b)) * c)"),
        ("a - -b", "(a - (-b))"),
        ("--a", "(-(-a))"),
        ("+a", "(+a)"),
        ("-1", "-1"),
        ("- -1", "1"),
        ("-1 ^ 2", "(-(1 ^ 2))"),
        ("2 ^ -1", "(2 ^ -1)"),
        ("-(1)", "(-1)"),
        ("-a offset 1m", "(-a offset 1m)"),
    ] {
        check_shape(query, expected);
    }
}

#[test]
fn numbers_have_many_forms() {
    for (query, expected) in [
        ("1e3", "1000"),
        ("0x1F", "31"),
        ("0755", "493"),
        ("1_000.5", "1000.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("Inf", "+Inf"),
        ("-iNF", "-Inf"),
        ("nan", "NaN"),
        ("5m", "5m"),
        ("-90s", "-1m30s"),
        ("1048576", "1048576"),
    ] {
        check_prints(query, expected);
    }
}

#[test]
fn selectors_have_names_and_matchers() {
    for (query, expected) in [
        ("up", "up"),
        ("a:b:c", "a:b:c"),
        (":a", ":a"),
        ("up{}", "up"),
        (r#"up{b!="x", a=~"y.*",}"#, r#"up{a=~"y.*",b!="x"}"#),
        (r#"{"my.metric", "label.name"="x"}"#, r#"{"label.name"="x",__name__="my.metric"}"#),
        (r#"{'a', b!~`\d`}"#, r#"{__name__="a",b!~"\\d"}"#),
        (r#"{__name__="up"}"#, r#"{__name__="up"}"#),
        ("up # by name\n", "up"),
        ("{ # all\n job=\"x\" # but one\n}", r#"{job="x"}"#),
    ] {
        check_prints(query, expected);
    }
    let Expr::Vector(selector) = parsed(r#"up{job="x"}"#) else { panic!("a selector") };
    assert_eq!(selector.name.as_deref(), Some("up"));
    let texts: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [r#"job="x""#, r#"__name__="up""#]);
}

#[test]
fn keywords_name_metrics_and_labels() {
    let metrics = "by without and or unless offset anchored smoothed sum topk limitk start end step \
                   range max_of min_of fill fill_left fill_right";
    for name in metrics.split_whitespace() {
        check_prints(name, name);
        let query = format!("-{name} or {name} + {name}{{{name}=\"x\"}}");
        check_prints(&query, &query);
    }
    let labels = "by on ignoring group_left group_right bool atan2 and or sum start offset fill";
    for name in labels.split_whitespace() {
        let query = format!("count by ({name}) (up)");
        check_prints(&query, &query);
    }
    check_prints("count by (a:b) (up)", "count by (\"a:b\") (up)");
    check_prints("offset offset 5m", "offset offset 5m");
    check_prints("SUM(up) BY (Job)", "sum by (Job) (up)");
}

#[test]
fn operators_take_modifiers() {
    for (query, expected) in [
        ("a == bool b", "a == bool b"),
        ("a + on() b", "a + on () b"),
        ("a + ignoring() b", "a + b"),
        ("a * ON(x, \"y.z\",) GROUP_LEFT b", "a * on (x, \"y.z\") group_left () b"),
        ("a * ignoring(x) group_right(y) b", "a * ignoring (x) group_right (y) b"),
        ("a + fill(0) b", "a + fill (0) b"),
        (
            "a + on(x) fill_right(-1) fill_left(1e9) b",
            "a + on (x) fill_left (1e+09) fill_right (-1) b",
        ),
        ("a + fill_left(5m) b", "a + fill_left (300) b"),
    ] {
        check_prints(query, expected);
    }
    let Expr::Binary(and) = parsed("a and on(x) b") else { panic!("an operation") };
    let matching = and.matching.clone().unwrap();
    assert_eq!((matching.cardinality, matching.on), (Cardinality::ManyToMany, true));
    let Expr::Binary(times) = parsed("a * 2") else { panic!("an operation") };
    assert_eq!(times.matching, None);
}

#[test]
fn selectors_take_modifiers() {
    for (query, expected) in [
        ("a offset 5m", "a offset 5m"),
        ("a OFFSET -7m", "a offset -7m"),
        ("a offset 3600", "a offset 1h"),
        ("a offset 0", "a"),
        ("a[5m] offset 1m @ 10", "a[5m] @ 10.000 offset 1m"),
        ("a @ 5m", "a @ 300.000"),
        ("a @ -1.5", "a @ -1.500"),
        ("a @ 1e16", "a @ -9223372036854776.000"),
        ("a @ -1e16", "a @ -9223372036854776.000"),
        ("a @ start() offset 1m", "a @ start() offset 1m"),
        ("a[5]", "a[5s]"),
        ("a[4.18]", "a[4s180ms]"),
        ("a[0.0001]", "a[0.0001]"),
        ("a[1h:] @ end()", "a[1h:] @ end()"),
        ("a[1h:5m] offset -1m", "a[1h:5m] offset -1m"),
        ("a offset 1m [1h:]", "a offset 1m[1h:]"),
        ("a[5m] smoothed", "a[5m] smoothed"),
        ("a anchored @ 1", "a @ 1.000 anchored"),
    ] {
        check_prints(query, expected);
    }
    let Expr::Matrix(matrix) = parsed("a[5m] anchored") else { panic!("a range") };
    assert_eq!(matrix.vector.extension, Some(RangeExtension::Anchored));
}

#[test]
fn durations_have_operators() {
    for (brackets, expected) in [
        ("11s+10s-5*2^2", "((11s + 10s) - (5 * (2 ^ 2)))"),
        ("-2^2", "(-(2 ^ 2))"),
        ("-(10s-5s)+20s", "((-(10s - 5s)) + 20s)"),
        ("- - 5m", "5m"),
        ("+step()", "step()"),
        ("  -  step  (  )  ", "(-step())"),
        ("STEP() % range()", "(step() % range())"),
        ("max_of(step(), 5s * 2)", "max_of(step(), 5s * 2)"),
    ] {
        let Expr::Matrix(matrix) = parsed(&format!("a[{brackets}]")) else { panic!("a range") };
        assert_eq!(duration_shape(&matrix.range), expected, "{brackets}");
    }
    check_prints("a[step()+1:1m]", "a[step() + 1:1m]");
    check_prints("a[5m+1m:((2s))]", "a[5m + 1m:(2s)]");
}

#[test]
fn operators_after_an_offset_are_the_expressions() {
    for (query, expected) in [
        ("a offset 5m - 8", "(a offset 5m - 8)"),
        ("a offset -1 ^ 1", "(a offset -1s ^ 1)"),
        ("a offset -(1^2) * 2", "(a offset -(1 ^ 2) * 2)"),
        ("a offset -step() + 1", "(a offset -step() + 1)"),
        ("a offset max_of(1, 2) + 1", "(a offset max_of(1, 2) + 1)"),
        ("a offset (5m) - 8", "a offset (5m) - 8"),
        ("a offset --5m * 2", "a offset ++5m * 2"),
        ("a offset -+5 ^ 2", "a offset ++-5 ^ 2"),
    ] {
        check_shape(query, expected);
    }
}

#[test]
fn calls_and_aggregations() {
    for (query, expected) in [
        ("time()", "time()"),
        ("round(a, 5)", "round(a, 5)"),
        ("label_join(a, 'b', ',', \"c\", `d`)", r#"label_join(a, "b", ",", "c", "d")"#),
        ("sum(a)", "sum(a)"),
        ("sum by () (a)", "sum(a)"),
        ("sum(a) without ()", "sum without () (a)"),
        ("topk without(b, c,) (5, a)", "topk without (b, c) (5, a)"),
        ("limit_ratio(-0.5, a)", "limit_ratio(-0.5, a)"),
        (r#"count_values("v", a)"#, r#"count_values("v", a)"#),
        ("max_of(step(), range())", "max_of(step(), range())"),
        ("start() - end()", "start() - end()"),
        (r#"info(a, {job="x"})"#, r#"info(a, {job="x"})"#),
        ("info(a, {})", "info(a, {})"),
    ] {
        check_prints(query, expected);
    }
}

#[test]
fn strings_have_escapes() {
    for (query, expected) in [
        (r#""a\n\x41\u00e9\"""#, r#""a\nAé\"""#),
        (r"'it\'s'", r#""it's""#),
        (r"`\n`", r#""\\n""#),
        (r#""\xff""#, r#""\xff""#),
        (r#""\ufffd""#, r#""\ufffd""#),
    ] {
        check_prints(query, expected);
    }
}

#[test]
fn faults_of_characters_are_named() {
    for (query, expected) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# nothing\n", "1:1: parse error: no expression found in input"),
        (".", "1:1: parse error: unexpected character: '.'"),
        ("a\n+ $", "2:3: parse error: unexpected character: '$'"),
        ("1.5.", r#"1:1: parse error: bad number or duration syntax: "1.5.""#),
        ("a[5mm]", r#"1:3: parse error: bad number or duration syntax: "5mm""#),
        ("(a", "1:3: parse error: unclosed left parenthesis"),
        ("a)", "1:3: parse error: unexpected right parenthesis ')'"),
        ("a]", "1:2: parse error: unexpected right bracket ']'"),
        ("a[5m [", "1:6: parse error: unexpected left bracket '['"),
        ("a[5m", "1:5: parse error: unclosed left bracket"),
        ("a[", "1:3: parse error: unexpected end of input in duration expression"),
        ("a[:5m]", "1:4: parse error: unexpected colon before duration in duration expression"),
        (
            "a[step():1m]",
            "1:10: parse error: unexpected colon before duration in duration expression",
        ),
        ("a[5m:5m:]", "1:8: parse error: unexpected colon ':'"),
        ("a[5m b]", "1:6: parse error: unexpected character: 'b', expected ':'"),
        ("a[b]", "1:3: parse error: unexpected character in duration expression: 'b'"),
        ("a{", "1:3: parse error: unexpected end of input inside braces"),
        ("a{{", "1:3: parse error: unexpected left brace '{'"),
        ("a{b>1}", "1:4: parse error: unexpected character inside braces: '>'"),
        ("a{b!1}", "1:4: parse error: unexpected character after '!' inside braces: '1'"),
        ("a =~ b", "1:3: parse error: unexpected character after '=': '~'"),
        ("a !", "1:3: parse error: unexpected character after '!': '\u{fffd}'"),
        (r#""abc"#, "1:1: parse error: unterminated quoted string"),
        ("`abc", "1:1: parse error: unterminated raw string"),
        (r#""\q""#, "1:1: parse error: unknown escape sequence U+0071 'q'"),
        (r#""\xg0""#, "1:1: parse error: illegal character U+0067 'g' in escape sequence"),
        (r#""\ud800""#, "1:1: parse error: escape sequence is an invalid Unicode code point"),
        ("\"\u{fffd}\"", "1:1: parse error: invalid UTF-8 rune"),
    ] {
        check_error(query, expected);
    }
}

#[test]
fn unexpected_tokens_are_named_with_their_place() {
    for (query, expected) in [
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("* a", "1:1: parse error: unexpected <op:*>"),
        ("a b", r#"1:3: parse error: unexpected identifier "b""#),
        ("a b:c", r#"1:3: parse error: unexpected metric identifier "b:c""#),
        ("a \"b\"", r#"1:3: parse error: unexpected string "\"b\"""#),
        ("a 5m", r#"1:3: parse error: unexpected duration "5m""#),
        ("a 12345678901", r#"1:3: parse error: unexpected number "1234567890"..."#),
        ("a Without b", "1:3: parse error: unexpected <Without>"),
        ("a sum", "1:3: parse error: unexpected <aggr:sum>"),
        ("a = b", r#"1:3: parse error: unexpected "=""#),
        ("a start", r#"1:3: parse error: unexpected "start""#),
        ("sum(a b)", r#"1:7: parse error: unexpected identifier "b" in aggregation"#),
        ("sum by (a) b", r#"1:12: parse error: unexpected identifier "b" in aggregation"#),
        (
            "sum by a",
            r#"1:8: parse error: unexpected identifier "a" in grouping opts, expected "(""#,
        ),
        ("sum by (==)", "1:9: parse error: unexpected <op:==> in grouping opts, expected label"),
        (
            "sum by (a b)",
            r#"1:11: parse error: unexpected identifier "b" in grouping opts, expected "," or ")""#,
        ),
        (
            "a{b}",
            r#"1:4: parse error: unexpected "}" in label matching, expected label matching operator"#,
        ),
        (
            "a{b=c}",
            r#"1:5: parse error: unexpected identifier "c" in label matching, expected string"#,
        ),
        (
            "a{,}",
            r#"1:3: parse error: unexpected "," in label matching, expected identifier or "}""#,
        ),
        (
            r#"a{b="c" d}"#,
            r#"1:9: parse error: unexpected identifier "d" in label matching, expected "," or "}""#,
        ),
        (
            "a[]",
            r#"1:3: parse error: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        (
            "a[5m 5m]",
            r#"1:6: parse error: unexpected duration "5m" in subquery or range, expected ":" or "]""#,
        ),
        (
            "a[5m:+]",
            r#"1:7: parse error: unexpected "]" in subquery selector, expected number, duration, step(), range(), or "]""#,
        ),
        (
            "a offset",
            "1:9: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("a @ b", r#"1:5: parse error: unexpected identifier "b" in @, expected timestamp"#),
        ("a + group_left(b) c", "1:5: parse error: unexpected <group_left>"),
        ("rate(a[5m],)", "1:11: parse error: trailing commas not allowed in function call args"),
    ] {
        check_error(query, expected);
    }
}

#[test]
fn misplaced_modifiers_are_named() {
    for (query, expected) in [
        (
            "1 offset 5m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        (
            "rate(a[5m]) @ 5",
            "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"),
        ("a @ 5 @ start()", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        ("a @ -Inf", "1:1: parse error: timestamp out of bounds for @ modifier: -Inf"),
        (
            "a @ 1e20",
            "1:1: parse error: timestamp out of bounds for @ modifier: 100000000000000000000.000000",
        ),
        ("a offset 5m [5m]", "1:13: parse error: no offset modifiers allowed before range"),
        ("a @ 5 [5m]", "1:7: parse error: no @ modifiers allowed before range"),
        ("(a)[5m]", "1:4: parse error: ranges only allowed for vector selectors"),
        ("a[0]", "1:3: parse error: duration must be greater than 0"),
        ("a[5m:-1m]", "1:6: parse error: duration must be greater than 0"),
        ("a[5m1h]", r#"1:3: parse error: not a valid duration string: "5m1h""#),
        ("a[300y]", "1:3: parse error: duration out of range"),
        ("a offset 1e10", "1:10: parse error: duration out of range"),
        ("a offset -1e10", "1:10: parse error: duration out of range"),
        ("a offset - 1e10 + b", "1:10: parse error: duration out of range"),
        ("a offset -300y", "1:11: parse error: duration out of range"),
        ("a[5m/0]", "1:5: parse error: division by zero"),
        ("a[5m%0s]", "1:5: parse error: modulo by zero"),
        (
            "a anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        ("a[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"),
        ("sum(a) smoothed", "1:1: parse error: smoothed modifier not implemented"),
        (
            "a smoothed + bool b",
            "1:3: parse error: bool modifier can only be used on comparison operators",
        ),
        (
            "a  anchored + on (k) group_left (k) b",
            "1:4: parse error: label \"k\" must not occur in ON and GROUP clause at once",
        ),
        (
            "a smoothed @ 1 + bool b",
            "1:16: parse error: bool modifier can only be used on comparison operators",
        ),
        (r#"sum by ("") (a)"#, r#"1:9: parse error: invalid label name for grouping: """#),
        (
            "1e999",
            r#"1:1: parse error: error parsing number: strconv.ParseFloat: parsing "1e999": value out of range"#,
        ),
    ] {
        check_error(query, expected);
    }
}

#[test]
fn faults_of_types_are_named() {
    for (query, expected) in [
        (
            "rate(a)",
            r#"1:6: parse error: expected type range vector in call to function "rate", got instant vector"#,
        ),
        (
            "abs(1)",
            r#"1:5: parse error: expected type instant vector in call to function "abs", got scalar"#,
        ),
        ("nope()", r#"1:1: parse error: unknown function with name "nope""#),
        ("abs()", r#"1:1: parse error: expected 1 argument(s) in call to "abs", got 0"#),
        (
            "hour(a, b)",
            r#"1:1: parse error: expected at most 1 argument(s) in call to "hour", got 2"#,
        ),
        (
            r#"label_join(a, "b")"#,
            r#"1:1: parse error: expected at least 3 argument(s) in call to "label_join", got 2"#,
        ),
        (
            "sum(1)",
            "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
        ),
        (
            "topk(a, b)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "count_values(1, a)",
            "1:14: parse error: expected type string in aggregation parameter, got scalar",
        ),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        (
            "topk(a)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        (
            r#"{a=~".*"}"#,
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            r#"a{__name__="b"}"#,
            r#"1:1: parse error: metric name must not be set twice: "a" or "b""#,
        ),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        (
            "a and 1",
            r#"1:1: parse error: set operator "and" not allowed in binary scalar expression"#,
        ),
        ("a == on(b) 1", "1:1: parse error: vector matching only allowed between instant vectors"),
        (
            "a + fill(1) 1",
            "1:1: parse error: filling in missing series only allowed between instant vectors",
        ),
        (
            "a or fill(1) b",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        ("a or on(b) group_left c", r#"1:1: parse error: no grouping allowed for "or" operation"#),
        (
            "a * on(b) group_left(b) c",
            r#"1:3: parse error: label "b" must not occur in ON and GROUP clause at once"#,
        ),
        (
            "a + b[5m]",
            "1:5: parse error: binary expression must contain only scalar and instant vector types",
        ),
        (
            r#"-"a""#,
            r#"1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got "string""#,
        ),
        (
            "a[5m:][5m:]",
            "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
        ),
        (
            "info(a, b)",
            "1:9: parse error: expected label selectors only, got vector selector instead",
        ),
        ("info(a, {b=\"c\"} + 1)", "1:9: parse error: expected label selectors only"),
        (
            "a and b + c == rate(d)",
            r#"1:21: parse error: expected type range vector in call to function "rate", got instant vector"#,
        ),
    ] {
        check_error(query, expected);
    }
}

#[test]
fn every_fault_of_types_is_kept() {
    let errors = parse("1 or on(bar) foo", &ParseOptions::default()).unwrap_err();
    let kinds: Vec<_> = errors.as_slice().iter().map(|error| error.kind.clone()).collect();
    let or = crate::ast::BinaryOp::Or;
    assert_eq!(kinds, [ParseErrorKind::MatchingOfScalar, ParseErrorKind::SetOfScalar(or)]);
}

/// Prometheus's parser reads a token ahead where an expression may go on: if the lexer stops at that token, it was first to complain.
#[test]
fn what_the_lexer_refuses_comes_before_what_is_found_out_later() {
    for (query, expected) in [
        ("sum())", "1:7: parse error: unexpected right parenthesis ')'"),
        ("sum(a, b)$", "1:10: parse error: unexpected character: '$'"),
        ("a[0$]", "1:4: parse error: unexpected character: '$'"),
        ("a[1m:0$]", "1:7: parse error: unexpected character: '$'"),
        ("a[1/0$]", "1:6: parse error: unexpected character: '$'"),
        ("1 offset (5m)$", "1:14: parse error: unexpected character: '$'"),
        ("1 offset - -5m$", "1:15: parse error: unexpected character: '$'"),
        // These are complete without looking further.
        ("sum by (a) ()$", "1:1: parse error: no arguments for aggregate expression provided"),
        ("sum() by (a)$", "1:1: parse error: no arguments for aggregate expression provided"),
        ("nosuch()$", r#"1:1: parse error: unknown function with name "nosuch""#),
        ("a[1e30$]", "1:3: parse error: duration out of range"),
        (
            "1 offset step()$",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        (
            "1 offset -(5m)$",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
    ] {
        check_error(query, expected);
    }
    let fills = |query| parse(query, &ParseOptions::default()).unwrap_err().to_string();
    let refused = "1:1: parse error: binop fill modifiers are experimental and not enabled";
    assert_eq!(fills("a + fill(0) b$"), "1:14: parse error: unexpected character: '$'");
    assert_eq!(fills("a + fill(0) b + on c"), refused);
}

#[test]
fn what_follows_a_group_modifier_is_its_labels_or_an_operand() {
    let refused =
        |token| format!("parse error: unexpected {token} in grouping opts, expected \"(\"");
    for (query, place, token) in [
        ("foo + on(a) group_left[5m]", "1:23", "\"[\""),
        ("foo + on(a) group_left >= bar", "1:24", "<op:>=>"),
        ("foo + on(a) group_right^bar", "1:24", "<op:^>"),
        ("foo + on(a) group_left", "1:23", "end of input"),
        ("sum(foo + on(a) group_left on(b) bar)", "1:28", "<on>"),
    ] {
        check_error(query, &format!("{place}: {}", refused(token)));
    }
    for query in [
        "a + on(b) group_left -c",
        "a + on(b) group_left sum",
        "a + on(b) group_left {c=\"\",d=\"e\"}",
    ] {
        parsed(query);
    }
}

#[test]
fn experimental_parts_are_refused_unless_allowed() {
    for (query, expected) in [
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("sort_by_label(a, \"b\")", r#"1:1: parse error: function "sort_by_label" is not enabled"#),
        ("1 + step()", r#"1:5: parse error: function "step" is not enabled"#),
        ("a anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
        ("a[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        (
            "a + fill(1) b",
            "1:1: parse error: binop fill modifiers are experimental and not enabled",
        ),
    ] {
        let error = parse(query, &ParseOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{query}");
        parsed(query);
    }
}

#[test]
fn selectors_are_read_alone() {
    let texts = |text: &str| {
        let matchers = parse_selector(text).map_err(|error| error.to_string())?;
        Ok::<_, String>(matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    };
    for (text, expected) in [
        ("up", Ok(r#"__name__="up""#)),
        (r#"up{job=~"a|b"}"#, Ok(r#"job=~"a|b",__name__="up""#)),
        (r#"{"my.metric"}"#, Ok(r#"__name__="my.metric""#)),
        ("{}", Err("match[] must contain at least one non-empty matcher")),
        (r#"{a!="b"}"#, Err("match[] must contain at least one non-empty matcher")),
        ("up offset 5m", Err("1:4: parse error: unexpected <offset>")),
        ("rate(up)", Err(r#"1:5: parse error: unexpected "(""#)),
        ("", Err("unknown position: parse error: unexpected end of input")),
        (" ", Err("1:2: parse error: unexpected end of input")),
    ] {
        assert_eq!(texts(text), expected.map(String::from).map_err(String::from), "{text}");
    }
}

#[test]
fn series_are_read() {
    for (text, expected) in [
        ("up", r#"{__name__="up"}"#),
        (r#"up{job="x",}"#, r#"{__name__="up", job="x"}"#),
        ("{}", "{}"),
        (r#"{"my.metric", "label.name"='x'}"#, r#"{__name__="my.metric", "label.name"="x"}"#),
    ] {
        assert_eq!(parse_series(text).unwrap().to_string(), expected, "{text}");
    }
    for (text, expected) in [
        (r#"up{a!="b"}"#, r#"1:5: parse error: unexpected <op:!=> in label set, expected "=""#),
        (
            r#"up{a="b" c}"#,
            r#"1:10: parse error: unexpected identifier "c" in label set, expected "," or "}""#,
        ),
        ("up{a=b}", r#"1:6: parse error: unexpected identifier "b" in label set, expected string"#),
        ("up 1", r#"1:4: parse error: unexpected number "1""#),
    ] {
        assert_eq!(parse_series(text).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Runs on a stack as small as threads have by default.
fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    on_stack_of(512 << 10, work);
}

fn on_stack_of(stack_bytes: usize, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(stack_bytes).spawn(work).unwrap();
    thread.join().unwrap();
}

#[test]
fn hostile_queries_are_refused() {
    on_small_stack(|| {
        let deep = format!("at most {NESTING_MAX} levels");
        let tall = format!("at most {HEIGHT_MAX} operators");
        for (start, part, expected) in [
            ("", "(", &deep),
            ("", "-", &deep),
            ("", "abs(", &deep),
            ("", "sum(", &deep),
            ("", "a + (", &deep),
            ("", "1 ^ ", &deep),
            ("a", "[5m:]", &deep),
            ("a[", "(", &deep),
            ("a[", "-", &deep),
            ("a[", "1 + ", &tall),
            ("a[", "1 ^ ", &deep),
            ("a[", "max_of(1, ", &deep),
            ("a offset ", "(", &deep),
        ] {
            let bytes = if start.is_empty() && part.len() < 3 { 1_000_000 } else { 50_000 };
            let query = String::from(start) + &part.repeat(bytes / part.len());
            let error = parse(&query, &ParseOptions::all()).unwrap_err().to_string();
            assert!(error.contains(expected), "{start}{part}: {error}");
        }
        let balanced = "(".repeat(400_000) + "a" + &")".repeat(400_000);
        let error = parse(&balanced, &ParseOptions::all()).unwrap_err().to_string();
        assert!(error.contains(&deep), "{error}");
    });
    let error = parse(&" ".repeat(QUERY_BYTES_MAX + 1), &ParseOptions::all()).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn the_largest_trees_fit_a_small_stack() {
    // Printing takes a little more.
    on_stack_of(2 << 20, || {
        let level = |open: &str, leaf: &str, close: &str, times: usize| {
            format!("{}{leaf}{}", open.repeat(times), close.repeat(times))
        };
        let queries = [
            format!("a[{}]", vec!["1"; HEIGHT_MAX + 1].join(" + ")),
            level("(", "a", ")", NESTING_MAX),
            level("abs(", "a", ")", NESTING_MAX),
            level("sum by (x) (", "a", ")", NESTING_MAX),
            level("1 + (", "a", ")", NESTING_MAX / 2),
            level("-", "a", "", NESTING_MAX),
            level("1 ^ ", "a", "", NESTING_MAX),
            format!("a[{}]", level("(1 + ", "1", ")", NESTING_MAX / 2)),
            format!("a[{}]", level("max_of(1, ", "1", ")", NESTING_MAX)),
            chained(100),
        ];
        for query in queries {
            let expr = parsed(&query);
            let printed = expr.to_string();
            let mut again = parsed(&printed);
            assert_eq!(again.descendants().count(), expr.descendants().count());
            again.normalize();
            assert_eq!(again.value_type(), expr.value_type());
            assert_eq!(again.to_string(), printed);
        }
    });
}

#[test]
fn a_megabyte_of_one_chain_fits_a_small_stack() {
    on_small_stack(|| {
        let all = QUERY_BYTES_MAX;
        for (first, next, bytes) in
            [("1", "+1", all), ("a", " or a", all), ("a", "*2", all / 16), ("1", "+a", all / 16)]
        {
            let links = (bytes - first.len()) / next.len();
            let expr = parsed(&(String::from(first) + &next.repeat(links)));
            let all_scalar = !first.contains('a') && !next.ends_with('a');
            assert_eq!(expr.value_type() == ValueType::Scalar, all_scalar);
            assert_eq!(expr.descendants().count(), 2 * links + 1);
        }
        let mut expr = parsed(&(String::from("1") + &"+1".repeat(40_000)));
        let copy = expr.clone();
        assert_eq!(copy, expr);
        assert!(format!("{copy:?}").len() > 40_000);
        drop(copy);
        assert_eq!(expr.to_string().matches(" + 1").count(), 40_000);
        expr.normalize();
    });
}

#[test]
fn a_megabyte_of_matchers_is_read() {
    on_small_stack(|| {
        let matchers = vec![r#"a="b""#; QUERY_BYTES_MAX / 6 - 1].join(",");
        let Expr::Vector(selector) = parsed(&format!("{{{matchers}}}")) else { panic!() };
        assert_eq!(selector.matchers.len(), QUERY_BYTES_MAX / 6 - 1);
    });
}

/// Parentheses in one another, each the first operand of a chain.
fn chained(links: usize) -> String {
    let mut query = String::from("a");
    for _ in 0..NESTING_MAX / 2 {
        query = format!("({query}{})", " + a".repeat(links));
    }
    query
}
