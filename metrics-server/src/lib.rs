//! Kubelets and Prometheus to the Kubernetes metrics APIs.
//!
//! [`run()`] wires it together: informers keep the index of nodes and pods, kubelets are asked in slots, what they say is
//! stored per node, and the API answers from both under delegated authentication and authorization.

pub mod adapter;
pub mod auth;
pub mod cluster;
mod config;
pub mod kubelet;
pub mod resource;
mod run;
pub mod serving;
pub mod store;

pub use config::{
    AdapterConfig, AuthenticationConfig, AuthorizationConfig, Config, ConfigError, KubeletConfig,
    ServingConfig,
};
pub use run::{RunError, run};
