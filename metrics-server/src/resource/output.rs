//! How an answer is written: the encoding, and whether as a table.

use axum::http::header;
use axum::http::request::Parts;
use metrics_api::table::Table;
use metrics_api::{
    Encoding, Item, MEDIA_TYPES, Resource, STREAM_MEDIA_TYPES, Status, Transform, Usage, json,
    negotiate, protobuf, yaml,
};

use super::options::Options;

/// How an answer is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    Json,
    Yaml,
    Protobuf,
    Table(Table),
}

impl Output {
    /// What the client accepts for an object or a list.
    ///
    /// # Errors
    /// 406 lists what there is.
    pub(super) fn negotiate(request: &Parts, options: &Options) -> Result<Self, Status> {
        let accepted = negotiate(accept(request), allows);
        let accepted = accepted.ok_or_else(|| Status::not_acceptable(MEDIA_TYPES))?;
        Ok(match (accepted.encoding, accepted.transform) {
            (_, Some(transform)) => Self::Table(Table {
                version: if transform.version == "v1" { "v1" } else { "v1beta1" },
                include: options.include,
                has_swap: false,
            }),
            (Encoding::Json, None) => Self::Json,
            (Encoding::Yaml, None) => Self::Yaml,
            (Encoding::Protobuf, None) => Self::Protobuf,
        })
    }

    /// What the client accepts for a watch. There is none in YAML, whose documents have no end.
    ///
    /// # Errors
    /// 406 lists what there is.
    pub(super) fn negotiate_stream(request: &Parts, options: &Options) -> Result<Self, Status> {
        match Self::negotiate(request, options) {
            Ok(Self::Yaml) | Err(_) => Err(Status::not_acceptable(STREAM_MEDIA_TYPES)),
            output => output,
        }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json | Self::Table(_) => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    pub(super) const fn stream_media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => self.media_type(),
        }
    }

    /// Settles whether a table has a column for swap, by what its first row is about.
    pub(super) fn with_columns_for<'a, L, C>(self, item: &Item<'a, L, C>) -> Self
    where
        L: Iterator<Item = (&'a str, &'a str)> + Clone,
        C: Iterator<Item = (&'a str, Usage)> + Clone,
    {
        match self {
            Self::Table(table) => {
                Self::Table(Table { has_swap: item.total().swap_bytes.is_some(), ..table })
            }
            other => other,
        }
    }

    /// Appends an object that is answered by itself.
    pub(super) fn write_object<'a, L, C>(
        self,
        out: &mut Vec<u8>,
        resource: Resource,
        item: &Item<'a, L, C>,
    ) where
        L: Iterator<Item = (&'a str, &'a str)> + Clone,
        C: Iterator<Item = (&'a str, Usage)> + Clone,
    {
        match self.with_columns_for(item) {
            Self::Json => json::write_item(out, resource, item, true),
            Self::Yaml => yaml::write_item(out, resource, item, true),
            Self::Protobuf => protobuf::write_item(out, resource, item),
            Self::Table(table) => {
                table.begin(out, item.resource_version, true);
                table.write_row(out, resource, item);
                table.end(out);
            }
        }
    }

    /// Appends an object of a list.
    pub(super) fn write_list_item<'a, L, C>(
        self,
        out: &mut Vec<u8>,
        resource: Resource,
        item: &Item<'a, L, C>,
    ) where
        L: Iterator<Item = (&'a str, &'a str)> + Clone,
        C: Iterator<Item = (&'a str, Usage)> + Clone,
    {
        match self {
            Self::Json => json::write_item(out, resource, item, false),
            Self::Yaml => yaml::write_item(out, resource, item, false),
            Self::Protobuf => protobuf::write_list_item(out, resource, item),
            Self::Table(table) => table.write_row(out, resource, item),
        }
    }
}

/// How an error is written to this client: as it accepts, or else in JSON.
pub(super) fn error_encoding(request: &Parts) -> Encoding {
    negotiate(accept(request), |_, _| true).map_or(Encoding::Json, |accepted| accepted.encoding)
}

pub(super) fn accept(request: &Parts) -> &str {
    request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Objects are turned into tables, in text encodings.
fn allows(encoding: Encoding, transform: Option<&Transform>) -> bool {
    transform.is_none_or(|Transform { kind, group, version }| {
        kind == "Table"
            && group == "meta.k8s.io"
            && matches!(version.as_str(), "v1" | "v1beta1")
            && encoding == Encoding::Json
    })
}
