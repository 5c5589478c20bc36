//! Label selectors.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::lexer::{Scanned, Token, scan};
use super::validate::{key_errors, value_errors};

/// Longer selectors are refused before they are looked at.
const SELECTOR_BYTES_MAX: usize = 64 << 10;

/// Each is looked at for every object that is asked about.
const REQUIREMENTS_MAX: usize = 256;

/// Requirements that must all hold; none select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Ordered by key.
    requirements: Vec<Requirement>,
}

/// One requirement on the labels of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The key of the label.
    pub key: String,
    /// How its value relates to `values`.
    pub operator: Operator,
    /// The values, ordered by bytes (they are searched by halves) and without repetition; none for [`Operator::Exists`] and
    /// [`Operator::DoesNotExist`].
    pub values: Vec<String>,
}

/// How the value of a label relates to the values of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`: also without the label.
    NotEquals,
    /// `in`
    In,
    /// `notin`: also without the label.
    NotIn,
    /// The key alone.
    Exists,
    /// `!` before the key.
    DoesNotExist,
    /// `>`: as integers.
    GreaterThan,
    /// `<`: as integers.
    LessThan,
}

/// Why a text is not a label selector; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl LabelSelector {
    /// Whether it selects everything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, ordered by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object is selected whose labels `get` looks up.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(get(&requirement.key)))
    }

    /// What both select.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.requirements.extend_from_slice(&other.requirements);
        self.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        self
    }
}

impl Requirement {
    /// Whether a label with this value, or its absence, is as required.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let has = |value: &str| self.values.binary_search_by(|v| v.as_str().cmp(value)).is_ok();
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(std::cmp::Ordering::is_gt),
            Operator::LessThan => self.compare(value).is_some_and(std::cmp::Ordering::is_lt),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<std::cmp::Ordering> {
        let limit: i64 = self.values.first()?.parse().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&limit))
    }

    fn new(key: &str, operator: Operator, values: BTreeSet<&str>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let key_errors = key_errors(key);
        if !key_errors.is_empty() {
            errors.push(invalid("key", key, &key_errors));
        }
        for (at, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan)
                && value.parse::<i64>().is_err()
            {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
                errors.push(invalid(&format!("values[{at}]"), value, &[why]));
            }
            let value_errors = value_errors(value);
            if !value_errors.is_empty() {
                errors.push(invalid(&format!("values[{at}][{key}]"), value, &value_errors));
            }
        }
        match errors.len() {
            0 => Ok(Self {
                key: key.to_owned(),
                operator,
                values: values.into_iter().map(str::to_owned).collect(),
            }),
            1 => Err(SelectorError(errors.remove(0))),
            _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
        }
    }
}

fn invalid(field: &str, value: &str, why: &[String]) -> String {
    format!("{field}: Invalid value: {value:?}: {}", why.join("; "))
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let values = requirement.values.join(",");
            let Requirement { key, operator, .. } = requirement;
            match operator {
                Operator::Equals => write!(f, "{key}={values}")?,
                Operator::DoubleEquals => write!(f, "{key}=={values}")?,
                Operator::NotEquals => write!(f, "{key}!={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan => write!(f, "{key}>{values}")?,
                Operator::LessThan => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError(format!(
                "a label selector must be no more than {SELECTOR_BYTES_MAX} bytes"
            )));
        }
        let mut parser = Parser { scanned: scan(text), at: 0 };
        let mut requirements = parser.parse()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }
}

struct Parser<'a> {
    scanned: Vec<Scanned<'a>>,
    at: usize,
}

/// Whether `in` and `notin` are the operators or may be names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Operators,
    Values,
}

impl<'a> Parser<'a> {
    fn peek(&self, context: Context) -> (Token, &'a str) {
        let last = Scanned { token: Token::End, text: "" };
        let Scanned { token, text } = self.scanned.get(self.at).copied().unwrap_or(last);
        match token {
            Token::In | Token::NotIn if context == Context::Values => (Token::Identifier, text),
            _ => (token, text),
        }
    }

    fn next(&mut self, context: Context) -> (Token, &'a str) {
        let found = self.peek(context);
        self.at += 1;
        found
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek(Context::Values) {
                (Token::Identifier | Token::DoesNotExist, _) => {
                    let requirement = self.requirement().map_err(|SelectorError(why)| {
                        SelectorError(format!("unable to parse requirement: {why}"))
                    })?;
                    if requirements.len() == REQUIREMENTS_MAX {
                        return Err(SelectorError(format!(
                            "a label selector must have no more than {REQUIREMENTS_MAX} requirements"
                        )));
                    }
                    requirements.push(requirement);
                    match self.next(Context::Values) {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => match self.peek(Context::Values) {
                            (Token::Identifier | Token::DoesNotExist, _) => {}
                            (_, text) => return expected(text, "identifier after ','"),
                        },
                        (_, text) => return expected(text, "',' or 'end of string'"),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return expected(text, "!, identifier, or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next(Context::Values);
        let negated = token == Token::DoesNotExist;
        if negated {
            (token, key) = self.next(Context::Values);
        }
        if token != Token::Identifier {
            return expected(key, "identifier");
        }
        let errors = key_errors(key);
        if !errors.is_empty() {
            return Err(SelectorError(invalid("<nil>", key, &errors)));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.next(Context::Operators) {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::GreaterThan, _) => Operator::GreaterThan,
            (Token::LessThan, _) => Operator::LessThan,
            (_, text) => return expected(text, "in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        if matches!(self.peek(Context::Values).0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([""]));
        }
        match self.next(Context::Values) {
            (Token::Identifier, value) => Ok(BTreeSet::from([value])),
            (_, text) => expected(text, "identifier"),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        match self.next(Context::Values) {
            (Token::Open, _) => {}
            (_, text) => return Err(SelectorError(format!("found '{text}' expected: '('"))),
        }
        match self.peek(Context::Values) {
            (Token::Identifier | Token::Comma, _) => {
                let values = self.value_list()?;
                match self.next(Context::Values) {
                    (Token::Closed, _) => Ok(values),
                    (_, text) => expected(text, "')'"),
                }
            }
            (Token::Closed, _) => {
                self.at += 1;
                Ok(BTreeSet::from([""]))
            }
            (_, text) => expected(text, "',', ')' or identifier"),
        }
    }

    /// Values between commas, each of which may be empty.
    fn value_list(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.next(Context::Values) {
                (Token::Identifier, value) => {
                    values.insert(value);
                    match self.peek(Context::Values) {
                        (Token::Comma, _) => {}
                        (Token::Closed, _) => return Ok(values),
                        (_, text) => return expected(text, "',' or ')'"),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert("");
                    }
                    match self.peek(Context::Values).0 {
                        Token::Closed => {
                            values.insert("");
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert("");
                        }
                        _ => {}
                    }
                }
                (_, text) => return expected(text, "',', or identifier"),
            }
        }
    }
}

fn expected<T>(found: &str, wanted: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{found}', expected: {wanted}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector: LabelSelector = selector.parse().unwrap();
        selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn every_form_selects_what_it_says() {
        let labels = [("app", "web"), ("tier", ""), ("n", "5"), ("in", "notin")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (db,web)", true),
            ("app in (db)", false),
            ("app in ()", false),
            ("tier in ()", true),
            ("tier in (,a)", true),
            ("tier in (a,)", true),
            ("app notin (db, cache)", true),
            ("app notin (web)", false),
            ("none notin (x)", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("! app", false),
            ("n>4", true),
            ("n>5", false),
            ("n<6", true),
            ("app<6", false),
            ("none>1", false),
            ("in=notin", true),
            ("in in (in,notin)", true),
            ("app=web,!none,n in (5)", true),
            ("app=web,none", false),
        ] {
            assert_eq!(selects(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_upstreams_words() {
        for (selector, message) in [
            ("a=b,", "found '', expected: identifier after ','"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a=(b)", "unable to parse requirement: found '(', expected: identifier"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' \
                 operators, the value must be an integer",
            ),
        ] {
            assert_eq!(selector.parse::<LabelSelector>().unwrap_err().to_string(), message);
        }
        for (selector, start) in [
            (
                "-a=b",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of",
            ),
            (
                "a=-b",
                "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be",
            ),
            (
                "/a",
                "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            (
                "A.b/a",
                "unable to parse requirement: <nil>: Invalid value: \"A.b/a\": prefix part a lowercase RFC 1123",
            ),
            (
                "a/b/c",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must",
            ),
        ] {
            let message = selector.parse::<LabelSelector>().unwrap_err().to_string();
            assert!(message.starts_with(start), "{message}");
        }
        let long = "a".repeat(64);
        assert!(long.parse::<LabelSelector>().is_err());
        assert!(format!("a={long}").parse::<LabelSelector>().is_err());
        assert!("a,".repeat(40_000).parse::<LabelSelector>().is_err());
    }

    #[test]
    fn requirements_are_bounded_and_values_are_not() {
        let requirements = |len| vec!["!a"; len].join(",").parse::<LabelSelector>();
        assert_eq!(requirements(REQUIREMENTS_MAX).unwrap().requirements().len(), REQUIREMENTS_MAX);
        let message = requirements(REQUIREMENTS_MAX + 1).unwrap_err().to_string();
        assert_eq!(message, "a label selector must have no more than 256 requirements");
        let values: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        let selector: LabelSelector = format!("a in ({})", values.join(",")).parse().unwrap();
        assert!(values.iter().all(|value| selector.matches(|_| Some(value))));
        assert!(!selector.matches(|_| Some("1000")));
    }

    #[test]
    fn two_selectors_select_what_both_do() {
        let both = "b=1".parse::<LabelSelector>().unwrap().and(&"a in (x,y)".parse().unwrap());
        assert_eq!(both.to_string(), "a in (x,y),b=1");
    }

    proptest! {
        #[test]
        fn what_is_printed_selects_the_same(text in "([ab][ =!<>(),]{0,3}(in|notin|1|x)?[(),]{0,2}){0,4}") {
            if let Ok(selector) = text.parse::<LabelSelector>() {
                let printed = selector.to_string();
                prop_assert_eq!(printed.parse::<LabelSelector>(), Ok(selector), "{}", printed);
            }
        }
    }
}
