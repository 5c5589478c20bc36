//! Asks any Prometheus HTTP API.
