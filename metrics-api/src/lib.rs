//! The Kubernetes metrics APIs: their types and how they are written, quantities, selectors,
//! discovery, errors.
//!
//! [`Item`] is an object of `metrics.k8s.io` borrowed from where it is kept; [`json`],
//! [`protobuf`], [`yaml`] and [`table`] append it to a body piece by piece, so that a list of any
//! length needs no more memory than a piece.

mod custom;
mod discovery;
mod external;
mod item;
pub mod json;
mod negotiate;
pub mod protobuf;
mod quantity;
mod selector;
mod status;
pub mod table;
mod time;
pub mod yaml;

pub use custom::{
    CUSTOM_METRICS_GROUP, CustomMetricsVersion, MetricValue, MetricValueList, ObjectReference,
    SelectorObject, UnsupportedOperator,
};
pub use discovery::{ApiGroup, ApiResource, ApiVersion, DiscoveryFormat};
pub use external::{
    EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, ExternalMetricValue, ExternalMetricValueList,
};
pub use item::{Item, METRICS_GROUP, METRICS_GROUP_VERSION, Resource, Usage};
pub use negotiate::{Accepted, Encoding, MEDIA_TYPES, STREAM_MEDIA_TYPES, Transform, negotiate};
pub use quantity::{Format, Quantity, QuantityError, write_bytes, write_nanocores};
pub use selector::{
    FieldSelector, FieldSelectorError, LabelSelector, Operator, Requirement, SelectorError,
};
pub use status::{GroupResource, Status, StatusCause, StatusDetails, StatusMetadata, reason};
pub use time::{write_duration, write_time};

#[cfg(test)]
mod encoding_tests;
