//! Kubelets and Prometheus to the Kubernetes metrics APIs.
