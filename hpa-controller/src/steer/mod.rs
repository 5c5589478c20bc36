//! Managed clusters whose own controller cannot be turned off are steered: it goes on writing scale and status, and the number that it writes
//! is ours.
//!
//! The autoscaler keeps its name and target. What it scales on moves into the annotation [`ANNOTATION`]; in its place stands one
//! External metric, [`METRIC`], whose value is our replica count and whose target is 1 a pod ([`steered`] makes that object, [`unsteered`]
//! turns it back). We decide from the annotation, write nothing and publish the count ([`Recommendations`]); external.metrics.k8s.io
//! answers it. `docs/decisions/0007-managed-clusters.md` says why this way and where it ends.

mod manifest;
mod recommendations;
mod rewrite;
mod routes;

pub use manifest::{Direction, ManifestError, rewrite};
pub use recommendations::{Recommendations, Recommended, Unavailable, own_status};
pub use rewrite::{
    ANNOTATION, HPA_LABEL, METRIC, SteerError, metric_name_label, real_spec, steered, unsteered,
};
pub use routes::{Answer, router};
