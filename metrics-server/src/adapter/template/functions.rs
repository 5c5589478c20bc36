//! The functions that Go's templates have, as far as they make sense for texts, lists and maps.

use std::cmp::Ordering;

use super::RenderError;
use super::value::Value;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Index,
    Len,
    Print,
    Printf,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "gt" => Self::Gt,
            "ge" => Self::Ge,
            "index" => Self::Index,
            "len" => Self::Len,
            "print" => Self::Print,
            "printf" => Self::Printf,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Not => "not",
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Index => "index",
            Self::Len => "len",
            Self::Print => "print",
            Self::Printf => "printf",
        }
    }

    /// Whether it can be called with so many arguments.
    pub(super) const fn takes(self, arguments: usize) -> bool {
        match self {
            Self::Not | Self::Len => arguments == 1,
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => arguments == 2,
            Self::Eq => arguments >= 2,
            Self::And | Self::Or | Self::Index | Self::Printf => arguments >= 1,
            Self::Print => true,
        }
    }

    /// What the function gives. `and` and `or` are not asked here: they do not evaluate all of their arguments.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, RenderError> {
        let (first, rest) = arguments.split_first().unwrap_or((&Value::Missing, &[]));
        match self {
            Self::And | Self::Or => Ok(first.clone()),
            Self::Not => Ok(Value::Bool(!first.is_true())),
            Self::Eq => {
                for other in rest {
                    if self.compare(first, other)? == Ordering::Equal {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => {
                let order = self.compare(first, rest.first().unwrap_or(&Value::Missing))?;
                Ok(Value::Bool(match self {
                    Self::Ne => order.is_ne(),
                    Self::Lt => order.is_lt(),
                    Self::Le => order.is_le(),
                    Self::Gt => order.is_gt(),
                    _ => order.is_ge(),
                }))
            }
            Self::Index => rest.iter().try_fold(first.clone(), |of, key| self.index(&of, key)),
            Self::Len => {
                let length = match first {
                    Value::String(text) => text.len(),
                    Value::List(list) => list.len(),
                    Value::Map(map) => map.len(),
                    other => return Err(self.fails(format!("a {} has no length", other.kind()))),
                };
                Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
            }
            Self::Print => Ok(Value::String(print(arguments))),
            Self::Printf => self.printf(first, rest).map(Value::String),
        }
    }

    fn fails(self, reason: impl Into<String>) -> RenderError {
        RenderError::Function { function: self.name(), reason: reason.into() }
    }

    fn compare(self, a: &Value, b: &Value) -> Result<Ordering, RenderError> {
        match (a, b) {
            (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) if matches!(self, Self::Eq | Self::Ne) => Ok(a.cmp(b)),
            _ => Err(self.fails(format!("cannot compare a {} with a {}", a.kind(), b.kind()))),
        }
    }

    /// As in Go a key that a map does not have gives an empty text, and an index out of range is an error.
    fn index(self, of: &Value, key: &Value) -> Result<Value, RenderError> {
        match (of, key) {
            (Value::Map(map), Value::String(key)) => {
                Ok(Value::String(map.get(key).cloned().unwrap_or_default()))
            }
            (Value::List(list), Value::Int(index)) => {
                let element = usize::try_from(*index).ok().and_then(|index| list.get(index));
                let missing = || self.fails(format!("index out of range: {index}"));
                Ok(Value::String(element.cloned().ok_or_else(missing)?))
            }
            _ => {
                let reason = format!("cannot index a {} with a {}", of.kind(), key.kind());
                Err(self.fails(reason))
            }
        }
    }

    fn printf(self, format: &Value, arguments: &[Value]) -> Result<String, RenderError> {
        let Value::String(format) = format else {
            return Err(self.fails("the format is not a string"));
        };
        let mut out = String::new();
        let mut arguments = arguments.iter();
        let mut characters = format.chars();
        while let Some(c) = characters.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let verb = characters.next();
            if verb == Some('%') {
                out.push('%');
                continue;
            }
            let argument = arguments.next().ok_or_else(|| self.fails("too few arguments"))?;
            match (verb, argument) {
                (Some('s'), Value::String(text)) => out.push_str(text),
                (Some('q'), Value::String(text)) => out.push_str(&quote(text)),
                (Some('d'), Value::Int(number)) => out.push_str(&number.to_string()),
                (Some('t'), Value::Bool(truth)) => out.push_str(&truth.to_string()),
                (Some('v'), value) | (Some('s'), value @ Value::List(_)) => {
                    out.push_str(&value.to_string());
                }
                (verb, value) => {
                    let verb = verb.map(String::from).unwrap_or_default();
                    return Err(self.fails(format!("cannot print a {} with %{verb}", value.kind())));
                }
            }
        }
        if arguments.next().is_some() {
            return Err(self.fails("too many arguments"));
        }
        Ok(out)
    }
}

/// As Go's `fmt.Sprint`: spaces between operands of which neither is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_string = |value: &Value| matches!(value, Value::String(_));
        if index > 0 && !is_string(value) && !is_string(&values[index - 1]) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

/// A text in double quotes, escaped so that Go and PromQL read it back.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let code = u32::from(c);
                quoted.push_str(&format!("\\u{code:04x}"));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
