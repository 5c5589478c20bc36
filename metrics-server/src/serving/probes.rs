//! `/healthz`, `/livez` and `/readyz` in the form of the Kubernetes API server.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Something that is in order or not.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    run: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A check by the name under which probes list it. `run` says what is wrong, and must not block.
    pub fn new(
        name: &'static str,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name, run: Arc::new(run) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// In order whenever anything answers at all.
    fn ping() -> Self {
        Self::new("ping", || Ok(()))
    }
}

/// The checks of each probe. To each, `ping` is added in front.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Of `/healthz`, which is deprecated.
    pub healthz: Vec<Check>,
    /// Of `/livez`: if one fails, a restart may help.
    pub livez: Vec<Check>,
    /// Of `/readyz`: while one fails, requests had better go elsewhere.
    pub readyz: Vec<Check>,
}

/// The probes and a path for each check of them.
pub(super) fn router(checks: Checks) -> Router {
    let Checks { healthz, livez, readyz } = checks;
    let mut router = Router::new();
    for (probe, checks) in [("healthz", healthz), ("livez", livez), ("readyz", readyz)] {
        let checks: Arc<[Check]> = [vec![Check::ping()], checks].concat().into();
        for check in checks.iter().cloned() {
            let path = format!("/{probe}/{}", check.name);
            router = router.route(&path, get(async move || single(&check)));
        }
        let all = get(async move |RawQuery(query): RawQuery| {
            every(probe, &checks, &query.unwrap_or_default())
        });
        router = router.route(&format!("/{probe}"), all);
    }
    router
}

fn single(check: &Check) -> Response {
    match (check.run)() {
        Ok(()) => text(StatusCode::OK, String::from("ok")),
        Err(error) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {error}\n"))
        }
    }
}

fn every(probe: &str, checks: &[Check], query: &str) -> Response {
    let mut verbose = false;
    let mut excluded = BTreeSet::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "verbose" => verbose = true,
            "exclude" => drop(excluded.insert(value.into_owned())),
            _ => {}
        }
    }
    let mut lines = String::new();
    let mut failed = Vec::new();
    for check in checks {
        let name = check.name;
        if excluded.remove(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match (check.run)() {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(error) => {
                // The reason is for the log alone: everyone may ask here.
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(format!("{name}: {error}"));
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        ));
    }
    if !failed.is_empty() {
        tracing::info!(probe, failed = failed.join("; "), "check failed");
        let body = format!("{lines}{probe} check failed\n");
        return text(StatusCode::INTERNAL_SERVER_ERROR, body);
    }
    let body = if verbose { format!("{lines}{probe} check passed\n") } else { "ok".into() };
    text(StatusCode::OK, body)
}

fn text(code: StatusCode, body: String) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(query: &str, names: &[(&'static str, bool)]) -> (u16, String) {
        let check = |(name, fine): &(&'static str, bool)| {
            let fine = *fine;
            Check::new(name, move || if fine { Ok(()) } else { Err("secret".into()) })
        };
        let checks: Vec<_> = names.iter().map(check).collect();
        let response = every("readyz", &checks, query);
        let code = response.status().as_u16();
        let body = futures_util::FutureExt::now_or_never(axum::body::to_bytes(
            response.into_body(),
            usize::MAX,
        ));
        (code, String::from_utf8(body.unwrap().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn probes_read_as_those_of_the_api_server() {
        let (fine, bad) = (("ping", true), ("metric-storage-ready", false));
        for (query, checks, code, body) in [
            ("", vec![fine], 200, "ok"),
            ("verbose", vec![fine], 200, "[+]ping ok\nreadyz check passed\n"),
            ("verbose=false", vec![fine], 200, "[+]ping ok\nreadyz check passed\n"),
            (
                "",
                vec![fine, bad],
                500,
                "[+]ping ok\n[-]metric-storage-ready failed: reason withheld\nreadyz check failed\n",
            ),
            ("exclude=metric-storage-ready", vec![fine, bad], 200, "ok"),
            (
                "verbose&exclude=metric-storage-ready&exclude=x&exclude=a",
                vec![fine, bad],
                200,
                "[+]ping ok\n[+]metric-storage-ready excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"x\"\nreadyz check passed\n",
            ),
        ] {
            assert_eq!(probe(query, &checks), (code, String::from(body)), "{query}");
        }
    }
}
