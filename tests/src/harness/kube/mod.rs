//! A cluster on loopback, as far as clients of the Kubernetes API can tell.
//!
//! [`ApiServer`] keeps objects of any kind and answers as kube-apiserver does: versions and conflicts, lists in pages,
//! watches with bookmarks, tables, subresources, reviews, discovery, and the aggregation layer. It runs no controllers:
//! nothing happens to an object but what a client or the test does, or [`Workloads`] do to their own. [`Pki`] is its certificates, [`Access`] who may do
//! what; [`Fault`]s make requests fail, [`RequestRecord`]s tell what was asked.
//!
//! [`Kubelets`] serve `/metrics/resource` for any number of nodes; a [`Cluster`] is all of it. An
//! [`ExtensionServer`] is something for the aggregation layer to find, a [`MetricsServer`] ours; an [`HpaController`] is our
//! autoscaler, an [`InTree`] the control plane's.
//!
//! `metadata.managedFields` tells who has written which fields through the API; what a test puts there is nobody's. Protobuf is there for reviews and
//! simple autoscalers only: who sends others is refused as by a server without it.

mod access;
mod aggregation;
mod api_server;
mod autoscaler;
mod availability;
mod cluster;
mod daemon;
mod discovery;
mod error;
mod extension;
mod faults;
mod fields;
mod fleet;
mod hpa_controller;
mod https;
mod in_tree;
mod kinds;
mod kubeconfig;
mod kubectl;
mod kubelets;
mod list;
mod listener;
mod metrics_server;
mod negotiate;
mod node;
mod objects;
mod patch;
mod pki;
mod protobuf;
mod requests;
mod reviews;
mod roles;
mod route;
mod scale;
mod selector;
mod store;
mod table;
mod tls;
mod view;
mod watch;
mod workloads;

pub use access::{Access, Action, Rule, User};
pub use api_server::{ApiServer, ApiServerOptions, PROXY_NAME};
pub use autoscaler::cpu_autoscaler;
pub use cluster::{
    Cluster, ClusterOptions, HPA_CONTROLLER_TOKEN, METRICS_SERVER_TOKEN, container_memory,
    container_rate, node_name, pod_name,
};
pub use extension::{ExtensionServer, Reply, Seen};
pub use faults::{Effect, Fault, RequestRecord};
pub use fleet::{Fleet, FleetOptions};
pub use hpa_controller::HpaController;
pub use https::HttpsRequest;
pub use in_tree::{Evaluated, InTree};
pub use kubeconfig::{Credentials, write_kubeconfig};
pub use kubectl::{Kubectl, Ran, Running};
pub use kubelets::Kubelets;
pub use metrics_server::MetricsServer;
pub use node::{Behaviour, ContainerUse, CpuUse, NodeUse, PodUse, Sampling};
pub use pki::{Authority, Identity, Pki, Subject};
pub use workloads::{Load, Replicas, Workload, Workloads};
