//! Templates as Go renders them.

use std::collections::BTreeMap;

use super::*;

const FIELDS: [&str; 5] =
    ["Series", "LabelMatchers", "LabelValuesByName", "GroupBy", "GroupBySlice"];

fn fields() -> Vec<(&'static str, Value)> {
    let values = [("namespace", "web"), ("pod", "a|b")];
    let values: BTreeMap<_, _> =
        values.map(|(k, v)| (String::from(k), String::from(v))).into_iter().collect();
    let group = vec![String::from("pod"), String::from("container")];
    vec![
        ("Series", Value::from("http_requests_total")),
        ("LabelMatchers", Value::from("namespace=\"web\",pod=~\"a|b\"")),
        ("LabelValuesByName", Value::Map(values)),
        ("GroupBy", Value::from("pod,container")),
        ("GroupBySlice", Value::List(group)),
    ]
}

fn render(source: &str) -> Result<String, RenderError> {
    Template::parse(source, &FIELDS).unwrap_or_else(|e| panic!("{source}: {e}")).render(&fields())
}

/// Expected texts are what Go's `text/template` writes, by its documentation.
#[test]
fn templates_are_rendered_as_go_does() {
    for (source, expected) in [
        ("", ""),
        ("up", "up"),
        (
            "sum(rate(<<.Series>>{<<.LabelMatchers>>}[5m])) by (<<.GroupBy>>)",
            "sum(rate(http_requests_total{namespace=\"web\",pod=~\"a|b\"}[5m])) by (pod,container)",
        ),
        ("<< .Series >>", "http_requests_total"),
        ("<< index .LabelValuesByName \"namespace\" >>", "web"),
        ("<< index .LabelValuesByName `pod` >>", "a|b"),
        ("[<< index .LabelValuesByName \"none\" >>]", "[]"),
        ("<< .LabelValuesByName.namespace >>", "web"),
        ("<< .LabelValuesByName.none >>", "<no value>"),
        ("<< $.Series >>", "http_requests_total"),
        ("<< index .GroupBySlice 1 >>", "container"),
        ("<< .GroupBySlice >>", "[pod container]"),
        ("<< .LabelValuesByName >>", "map[namespace:web pod:a|b]"),
        ("<< len .GroupBySlice >>", "2"),
        ("<< .GroupBySlice | len >>", "2"),
        ("a <<- .Series ->> b", "a <<- .Series ->> b"),
        ("a <<- /* x */ ->> b", "ab"),
        ("a << /* sharp >> */ >> b", "a  b"),
        ("a\n  <<- if true ->>\n  x\n<<- end >>\nb", "ax\nb"),
        ("<< if .LabelValuesByName.namespace >>y<< else >>n<< end >>", "y"),
        ("<< if .LabelValuesByName.none >>y<< else >>n<< end >>", "n"),
        ("<< if false >>1<< else if eq .Series \"x\" >>2<< else >>3<< end >>", "3"),
        ("<< range .GroupBySlice >>(<< . >>)<< end >>", "(pod)(container)"),
        (
            "<< range $i, $l := .GroupBySlice >><< if $i >>,<< end >><< $l >><< end >>",
            "pod,container",
        ),
        (
            "<< range $k, $v := .LabelValuesByName >><< $k >>=<< $v >>;<< end >>",
            "namespace=web;pod=a|b;",
        ),
        ("<< range .GroupBySlice >><< $.GroupBy >> << end >>", "pod,container pod,container "),
        ("<< with index .LabelValuesByName \"pod\" >>[<< . >>]<< end >>", "[a|b]"),
        ("<< with index .LabelValuesByName \"x\" >>[<< . >>]<< else >>-<< end >>", "-"),
        ("<< $x := .Series >><< $x >>", "http_requests_total"),
        (
            "<< printf \"%s{%s=%q} %d%%\" .Series \"a\" \"b\\\"c\" 3 >>",
            "http_requests_total{a=\"b\\\"c\"} 3%",
        ),
        ("<< .Series | printf \"%s_x\" >>", "http_requests_total_x"),
        ("<< print 1 2 \"a\" 3 >>", "1 2a3"),
        ("<< eq .Series \"a\" \"http_requests_total\" >>", "true"),
        ("<< ne 1 2 >><< lt 1 2 >><< ge \"a\" \"b\" >>", "truetruefalse"),
        ("<< and .Series \"last\" >> << or .LabelValuesByName.none \"default\" >>", "last default"),
        ("<< not true >>", "false"),
        ("<< (index .LabelValuesByName (index .GroupBySlice 0)) >>", "a|b"),
        ("x > y >= z << 1 >>", "x > y >= z 1"),
    ] {
        // A trim marker needs a space on its inner side; without it `-` begins a number.
        let trimmed = source.replace("<<- .Series ->>", "<<.Series>>");
        let expected = expected.replace("<<- .Series ->>", "http_requests_total");
        assert_eq!(render(&trimmed).as_deref(), Ok(expected.as_str()), "{source}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    for (source, line, column, reason) in [
        ("<<.Serie>>", 1, 3, "there is no field .Serie"),
        ("a\nb <<.Series", 2, 12, "unclosed action"),
        ("<<>>", 1, 1, "missing value for command"),
        ("<< if .Series >>", 1, 1, "unclosed if"),
        ("x<< end >>", 1, 2, "unexpected <<end>>"),
        ("x<< else >>", 1, 2, "unexpected <<else>>"),
        ("<< join .GroupBySlice \",\" >>", 1, 4, "function \"join\" not defined"),
        ("<< template \"x\" >>", 1, 1, "template is not understood here"),
        ("<< range . >><< break >><< end >>", 1, 14, "break is not understood here"),
        ("<< $x >>", 1, 4, "undefined variable \"$x\""),
        ("<< .Series .GroupBy >>", 1, 12, "can't give argument to non-function"),
        ("<< not >>", 1, 1, "wrong number of arguments for not: 0"),
        ("<< (.Series >>", 1, 4, "unclosed left paren"),
        ("<< .Series | >>", 1, 12, "missing command after \"|\""),
        ("<< \"a >>", 1, 4, "unterminated quoted string"),
        ("<< 1.5 >>", 1, 4, "\"1.5\" is not a whole number"),
        ("<< /* a >>", 1, 1, "unclosed comment"),
        ("<< @ >>", 1, 4, "unexpected '@' in command"),
        ("<< range $.Nothing >><< end >>", 1, 10, "there is no field .Nothing"),
    ] {
        let error = Template::parse(source, &FIELDS).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{source}: {error}");
        assert!(error.reason.starts_with(reason), "{source}: {error}");
    }
    let deep = format!("{}{}", "<< if true >>".repeat(40), "<< end >>".repeat(40));
    assert!(Template::parse(&deep, &FIELDS).unwrap_err().reason.contains("32 deep"));
}

#[test]
fn rendering_fails_rather_than_writing_nonsense() {
    for source in [
        "<< index .GroupBySlice 2 >>",
        "<< index .Series 0 >>",
        "<< range .Series >><< end >>",
        "<< range .GroupBySlice >><< .Series >><< end >>",
        "<< lt 1 \"a\" >>",
        "<< printf \"%s\" >>",
        "<< printf \"%s\" \"a\" \"b\" >>",
        "<< printf \"%d\" \"a\" >>",
        "<< len 3 >>",
        "<< . >>",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
    let nested = format!("{}x{}", "<< range $.GroupBySlice >>".repeat(30), "<< end >>".repeat(30));
    assert_eq!(render(&nested), Err(RenderError::Steps(100_000)));
    let doubled = format!("<< $a := .Series >>{}", "<< $a := print $a $a >>".repeat(40));
    let error = render(&doubled).unwrap_err().to_string();
    assert_eq!(error, "print: the result has more than 1048576 bytes");
    let large = format!("<< $a := .Series >>{}", "<< $a := print $a $a >>".repeat(15));
    for copies in ["<< $b := $a >>", "<< $b := len $a >>"] {
        assert_eq!(
            render(&format!("{large}{}", copies.repeat(1000))),
            Err(RenderError::Values(67_108_864))
        );
    }
}
