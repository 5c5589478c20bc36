//! The part of Go's `text/template` that prometheus-adapter's configuration can use, with `<<` and `>>` around actions.
//!
//! A template is read once, and whatever it contains that is not understood is refused there with its position: fields
//! that do not exist, functions that Go does not have, `template` and `define`, which make no sense in a query.
//! Understood are text, trim markers, comments, fields, variables, literals, parentheses, pipelines, `if`, `else`,
//! `range`, `with`, and the functions `index`, `len`, `print`, `printf`, `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `and`, `or`,
//! `not`. Rendering is bounded in steps and bytes.

mod eval;
mod functions;
mod lexer;
mod parser;
mod value;

use std::fmt;

pub(crate) use functions::quote;
pub(crate) use value::Value;

use parser::Node;

/// Longest template.
const SOURCE_BYTES_MAX: usize = 64 << 10;

/// A template that has been read.
#[derive(Clone)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub(crate) struct TemplateError {
    /// Line within the template, from 1.
    pub(crate) line: usize,
    /// Character within the line, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) reason: String,
}

impl TemplateError {
    fn at(source: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
        }
    }
}

/// Why a template cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// It takes too many steps.
    #[error("the template takes more than {0} steps")]
    Steps(usize),
    /// It writes too much.
    #[error("the template writes more than {0} bytes")]
    Bytes(usize),
    /// It computes with too much.
    #[error("the template computes with more than {0} bytes")]
    Values(usize),
    /// A function gives too much.
    #[error("{function}: the result has more than {bytes_max} bytes")]
    Result {
        /// The function.
        function: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// A function cannot do what it is asked.
    #[error("{function}: {reason}")]
    Function {
        /// The function.
        function: &'static str,
        /// What it cannot do.
        reason: String,
    },
    /// A field of something without fields.
    #[error("a {kind} has no field {field}")]
    NoField {
        /// The field.
        field: String,
        /// The type of the value.
        kind: &'static str,
    },
    /// `range` over something that is not a list or a map.
    #[error("range can't iterate over a {0}")]
    Range(&'static str),
}

impl Template {
    /// Reads `source`; its fields must be among `fields`.
    ///
    /// # Errors
    /// [`TemplateError`] with the position of what is not understood.
    pub(crate) fn parse(source: &str, fields: &[&str]) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            let reason = format!("a template of more than {SOURCE_BYTES_MAX} bytes");
            return Err(TemplateError::at(source, 0, reason));
        }
        let pieces = lexer::pieces(source)?;
        let nodes = parser::parse(source, &pieces, fields)?;
        Ok(Self { source: String::from(source), nodes })
    }

    /// The text that was read.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Writes the template with the values of its fields.
    ///
    /// # Errors
    /// [`RenderError`]
    pub(crate) fn render(&self, fields: &[(&str, Value)]) -> Result<String, RenderError> {
        eval::render(&self.nodes, fields)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests;
