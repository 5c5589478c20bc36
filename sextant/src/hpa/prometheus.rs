//! How a server with a Prometheus API is asked for the past.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::{ClientOptions, TlsOptions};

use crate::go_values::positive_go_duration;

#[derive(Debug, Args)]
#[command(next_help_heading = "History")]
pub(super) struct ServerFlags {
    /// Header of every question to the server; may be given several times
    #[arg(long = "prometheus-header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// File with a bearer token for the server
    #[arg(long = "prometheus-token-file", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Authority of the server's certificate; the system's, if not given
    #[arg(long = "prometheus-ca-file", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Time for a question and its answer
    #[arg(
        long = "prometheus-timeout",
        value_name = "DURATION",
        default_value = "2m",
        value_parser = positive_go_duration
    )]
    timeout: Duration,
    /// Largest answer of the server, before and after decompression
    #[arg(long = "prometheus-max-answer-bytes", value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    answer_bytes_max: usize,
}

impl ServerFlags {
    /// A flag that was given, if any, of those that mean nothing without a server.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--prometheus-header", !self.headers.is_empty()),
            ("--prometheus-token-file", self.token_file.is_some()),
            ("--prometheus-ca-file", self.ca_file.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// A client of the server at `url`.
    pub(super) fn client(&self, url: &str) -> anyhow::Result<api_client::Client> {
        let ca_pem = self.ca_file.as_ref().map(|path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        });
        let tls = Some(TlsOptions { ca_pem: ca_pem.transpose()?, ..TlsOptions::default() });
        let http = http::Client::new(ClientOptions { tls, ..ClientOptions::default() })?;
        let options = api_client::Options {
            // Expressions are long, and URLs end up in logs.
            method: api_client::Method::Post,
            headers: self.headers.clone(),
            bearer_token_file: self.token_file.clone(),
            timeout: self.timeout,
            body_bytes_max: self.answer_bytes_max,
            ..api_client::Options::new(url)
        };
        Ok(api_client::Client::new(http, options)?)
    }
}

pub(super) fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((String::from(name), String::from(value)))
        }
        _ => Err("it is not of the form NAME=VALUE"),
    }
}

/// `134217728` or `128MiB`.
fn bytes(text: &str) -> Result<usize, &'static str> {
    let bytes = text.parse().ok().or_else(|| config::parse_size(text));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    bytes.ok_or("must be a number of bytes above 0, or a size such as 128MiB")
}
