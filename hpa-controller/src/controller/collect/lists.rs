//! Lists, page by page.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::controller::api_server::{ApiError, ApiServer, Call};

/// Objects in one answer.
const PAGE_LEN: usize = 500;

/// What a list is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub path: &'a str,
    /// Labels that the objects have; empty for all.
    pub selector: &'a str,
    /// What they are called in errors.
    pub resource: &'a str,
    /// Most that are looked at.
    pub max: usize,
}

/// What was listed.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub items: Vec<T>,
    /// There are more than were looked at.
    pub is_cut: bool,
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

/// Lists objects up to the most that are looked at, and what is on the same page.
pub(super) async fn list<T: DeserializeOwned>(
    api: &ApiServer,
    of: Of<'_>,
) -> Result<Listed<T>, ApiError> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &PAGE_LEN.to_string());
        if !of.selector.is_empty() {
            query.append_pair("labelSelector", of.selector);
        }
        if !next.is_empty() {
            query.append_pair("continue", &next);
        }
        let path = format!("{}?{}", of.path, query.finish());
        let page: Page<T> = api.read(Call::list(path, of.resource)).await?;
        items.extend(page.items);
        next = page.metadata.next;
        if next.is_empty() || items.len() >= of.max {
            return Ok(Listed { items, is_cut: !next.is_empty() });
        }
    }
}
