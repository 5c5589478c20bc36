//! The Kubernetes metrics APIs.
