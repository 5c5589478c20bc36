//! Field selectors: on the name and the namespace, which is all that these resources have.

use std::str::FromStr;

/// Longer selectors are refused before they are looked at.
const SELECTOR_BYTES_MAX: usize = 64 << 10;

/// Each is looked at for every object that is asked about.
const TERMS_MAX: usize = 256;

/// Requirements on the name and namespace of an object that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

/// Why a text is not a field selector; the messages are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// It is longer than is looked at.
    #[error("a field selector must be no more than {SELECTOR_BYTES_MAX} bytes")]
    TooLong,
    /// It has more terms than are looked at.
    #[error("a field selector must have no more than {TERMS_MAX} terms")]
    TooManyTerms,
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// All of it.
        selector: String,
        /// The term.
        term: String,
    },
    /// A value has a backslash before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A value has a `=` or `,` without a backslash before it.
    #[error("invalid field selector: unescaped character in value: {}", *.0 as u32)]
    Unescaped(char),
    /// The field cannot be selected by.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    Field(String),
}

impl FieldSelector {
    /// Whether it selects everything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether it selects the object; the namespace of a node is empty.
    #[must_use]
    pub fn matches(&self, namespace: &str, name: &str) -> bool {
        self.terms.iter().all(|term| {
            let value = match term.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (value == term.value) == term.equal
        })
    }

    /// The only name that can be selected, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.exact(Field::Name)
    }

    /// The only namespace that can be selected, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.exact(Field::Namespace)
    }

    fn exact(&self, field: Field) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;

    fn from_str(text: &str) -> Result<Self, FieldSelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(FieldSelectorError::TooLong);
        }
        let mut terms = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            if terms.len() == TERMS_MAX {
                return Err(FieldSelectorError::TooManyTerms);
            }
            let at = term.find('=').ok_or_else(|| FieldSelectorError::Term {
                selector: text.to_owned(),
                term: term.to_owned(),
            })?;
            let (left, right) = (&term[..at], &term[at + 1..]);
            let (field, equal) = match left.strip_suffix('!') {
                Some(field) => (field, false),
                None => (left, true),
            };
            let right = if equal { right.strip_prefix('=').unwrap_or(right) } else { right };
            let value = unescape(right)?;
            let field = match field {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                _ => return Err(FieldSelectorError::Field(field.to_owned())),
            };
            terms.push(Term { field, equal, value });
        }
        Ok(Self { terms })
    }
}

/// Splits at commas without a backslash before them.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                Some(c) => return Err(FieldSelectorError::Escape(format!("\\{c}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_selected_by_name_and_namespace() {
        for (selector, expected) in [
            ("", true),
            (",", true),
            ("metadata.name=a", true),
            ("metadata.name==a", true),
            ("metadata.name!=a", false),
            ("metadata.name!=b", true),
            ("metadata.namespace=n,metadata.name=a", true),
            ("metadata.namespace=m,metadata.name=a", false),
            ("metadata.namespace!=m", true),
            ("metadata.name=", false),
            (r"metadata.name=a\,b", false),
        ] {
            let selector: FieldSelector = selector.parse().unwrap();
            assert_eq!(selector.matches("n", "a"), expected, "{selector:?}");
        }
        let selector: FieldSelector = "metadata.name=a,metadata.namespace!=n".parse().unwrap();
        assert_eq!((selector.name(), selector.namespace()), (Some("a"), None));
    }

    #[test]
    fn terms_are_bounded() {
        let terms = |len| vec!["metadata.name!=a"; len].join(",").parse::<FieldSelector>();
        assert!(terms(TERMS_MAX).is_ok());
        assert_eq!(terms(TERMS_MAX + 1).unwrap_err(), FieldSelectorError::TooManyTerms);
    }

    #[test]
    fn what_is_no_selector_is_refused_with_upstreams_words() {
        for (selector, message) in [
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
            (
                "spec.nodeName=n",
                "\"spec.nodeName\" is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\"",
            ),
            (r"metadata.name=\a", r"invalid field selector: invalid escape sequence: \a"),
            (r"metadata.name=a\", r"invalid field selector: invalid escape sequence: \"),
            ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(selector.parse::<FieldSelector>().unwrap_err().to_string(), message);
        }
    }
}
