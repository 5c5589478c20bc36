//! In which shape an answer is wanted: the object itself, a table, or its metadata.

use super::error::{ApiError, ApiResult};

/// A shape of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object or list itself.
    Whole,
    /// `meta.k8s.io/v1` `Table`.
    Table,
    /// `meta.k8s.io/v1` `PartialObjectMetadata` and its list.
    Metadata,
    /// `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`.
    Discovery,
}

/// The first media type of `accept` that can be served.
pub(crate) fn shape(accept: &str) -> ApiResult<Shape> {
    if accept.trim().is_empty() {
        return Ok(Shape::Whole);
    }
    for range in accept.split(',') {
        let mut parameters = range.split(';').map(str::trim);
        let media_type = parameters.next().unwrap_or_default();
        if !matches!(media_type, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let (mut target, mut group, mut version) = ("", "", "");
        for parameter in parameters {
            match parameter.split_once('=') {
                Some(("as", value)) => target = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        match (target, group, version) {
            ("", _, _) => return Ok(Shape::Whole),
            ("Table", "meta.k8s.io", "v1") => return Ok(Shape::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                return Ok(Shape::Metadata);
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Ok(Shape::Discovery),
            _ => {}
        }
    }
    Err(ApiError::not_acceptable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_can_be_served_is_taken() {
        for (accept, expected) in [
            ("", Shape::Whole),
            ("application/vnd.kubernetes.protobuf, application/json", Shape::Whole),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Shape::Table),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Shape::Whole),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Shape::Metadata),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                Shape::Discovery,
            ),
            ("*/*", Shape::Whole),
            ("application/json;stream=watch", Shape::Whole),
        ] {
            assert_eq!(shape(accept).unwrap(), expected, "{accept}");
        }
        assert_eq!(shape("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
    }
}
