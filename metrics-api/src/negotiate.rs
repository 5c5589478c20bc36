//! Which of the media types that a client accepts it is answered with.
//!
//! The rules are those of the generic API server: clauses in order of preference; a clause whose
//! parameters ask for something that cannot be done is passed over.

/// The media types of answers, in the order in which the error about them lists them.
pub const MEDIA_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The media types of watches.
pub const STREAM_MEDIA_TYPES: &[&str] =
    &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// More clauses than this are not looked at.
const CLAUSES_MAX: usize = 64;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Encoding {
    const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Protobuf];

    /// The media type without parameters.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    const fn subtype(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Protobuf => "vnd.kubernetes.protobuf",
        }
    }
}

/// The type that a client wants an object turned into: `as`, `g` and `v`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transform {
    /// The kind, such as `Table`.
    pub kind: String,
    /// The group, such as `meta.k8s.io`.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How to write.
    pub encoding: Encoding,
    /// What to turn the object into.
    pub transform: Option<Transform>,
}

/// Chooses by the header `Accept`, of which an empty one accepts JSON. `allows` says which
/// transformations (or none) there are in which encoding.
///
/// Nothing means that the answer is 406.
pub fn negotiate(
    accept: &str,
    mut allows: impl FnMut(Encoding, Option<&Transform>) -> bool,
) -> Option<Accepted> {
    if accept.trim().is_empty() {
        return Some(Accepted { encoding: Encoding::Json, transform: None });
    }
    let mut clauses: Vec<Clause<'_>> =
        accept.split(',').take(CLAUSES_MAX).filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in clauses {
        for encoding in Encoding::ALL {
            if clause.allows(encoding) && allows(encoding, clause.transform.as_ref()) {
                return Some(Accepted { encoding, transform: clause.transform });
            }
        }
    }
    None
}

struct Clause<'a> {
    main: &'a str,
    subtype: &'a str,
    quality: f64,
    transform: Option<Transform>,
    /// Whether a parameter asks for what no endpoint here does.
    refused: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (main, subtype) = match parts.next()?.trim() {
            "*" => ("*", "*"),
            media_type => media_type.split_once('/')?,
        };
        let mut clause = Self {
            main: main.trim(),
            subtype: subtype.trim(),
            quality: 1.0,
            transform: None,
            refused: false,
        };
        for parameter in parts {
            let Some((key, value)) = parameter.split_once('=') else { continue };
            let value = value.trim();
            let transform = &mut clause.transform;
            match key.trim() {
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                "as" => value.clone_into(&mut transform.get_or_insert_default().kind),
                "g" => value.clone_into(&mut transform.get_or_insert_default().group),
                "v" => value.clone_into(&mut transform.get_or_insert_default().version),
                "stream" => clause.refused |= !value.is_empty() && value != "watch",
                "sv" => clause.refused |= !value.is_empty(),
                _ => {}
            }
        }
        Some(clause)
    }

    fn allows(&self, encoding: Encoding) -> bool {
        let subtype = encoding.subtype();
        !self.refused
            && match self.main {
                "application" => self.subtype == subtype || self.subtype == "*",
                "*" => self.subtype == "*",
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<(Encoding, &str)>) {
        let accepted = negotiate(accept, |encoding, transform| {
            transform.is_none_or(|transform| {
                transform.kind == "Table"
                    && transform.group == "meta.k8s.io"
                    && ["v1", "v1beta1"].contains(&transform.version.as_str())
                    && encoding != Encoding::Protobuf
            })
        });
        let found = accepted.as_ref().map(|accepted| {
            let version = accepted.transform.as_ref().map_or("", |t| t.version.as_str());
            (accepted.encoding, version)
        });
        assert_eq!(found, expected, "{accept}");
    }

    #[test]
    fn clients_get_the_first_type_that_can_be_served() {
        use Encoding::{Json, Protobuf, Yaml};
        for (accept, encoding, version) in [
            ("", Json, ""),
            ("*/*", Json, ""),
            ("*", Json, ""),
            ("application/*", Json, ""),
            ("application/json", Json, ""),
            ("application/yaml", Yaml, ""),
            ("application/vnd.kubernetes.protobuf", Protobuf, ""),
            ("application/vnd.kubernetes.protobuf, */*", Protobuf, ""),
            ("application/vnd.kubernetes.protobuf,application/json", Protobuf, ""),
            ("application/vnd.kubernetes.protobuf;stream=watch", Protobuf, ""),
            ("application/json;q=0.5, application/yaml;q=0.9", Yaml, ""),
            ("text/html, application/json", Json, ""),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,\
                 application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Json,
                "v1",
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                Json,
                "v1beta1",
            ),
            ("application/json;as=Chair;v=v1;g=meta.k8s.io, application/yaml", Yaml, ""),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io, application/json",
                Json,
                "",
            ),
            ("application/json;stream=tail, application/yaml", Yaml, ""),
            ("application/json;sv=v1, application/yaml", Yaml, ""),
        ] {
            check(accept, Some((encoding, version)));
        }
        check("text/html", None);
        check("application/cbor", None);
        check("application/json;as=Chair;v=v1;g=meta.k8s.io", None);
    }
}
