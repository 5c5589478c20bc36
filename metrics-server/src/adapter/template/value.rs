//! What templates compute with.

use std::collections::BTreeMap;
use std::fmt;

/// A value, printed as Go prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `string`
    String(String),
    /// `int`
    Int(i64),
    /// `bool`
    Bool(bool),
    /// `[]string`
    List(Vec<String>),
    /// `map[string]string`
    Map(BTreeMap<String, String>),
    /// What a field of a map gives that the map does not have.
    Missing,
}

impl Value {
    /// Go's name for the type.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Int(_) => "int",
            Self::Bool(_) => "bool",
            Self::List(_) => "[]string",
            Self::Map(_) => "map[string]string",
            Self::Missing => "nil",
        }
    }

    /// Roughly what it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::List(list) => list.iter().map(String::len).sum(),
            Self::Map(map) => map.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Int(_) | Self::Bool(_) | Self::Missing => size_of::<Self>(),
        }
    }

    /// Whether `if` takes it: not empty, not zero.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::String(text) => !text.is_empty(),
            Self::Int(number) => *number != 0,
            Self::Bool(truth) => *truth,
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Missing => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(String::from(text))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
            Self::List(list) => write!(f, "[{}]", list.join(" ")),
            Self::Map(map) => {
                let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                write!(f, "map[{}]", pairs.join(" "))
            }
            Self::Missing => f.write_str("<no value>"),
        }
    }
}
