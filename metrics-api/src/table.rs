//! `meta.k8s.io` tables: what `kubectl get` prints, with the columns of metrics-server.

use crate::item::{Item, Resource, Usage};
use crate::json;
use crate::quantity::{write_bytes, write_nanocores};
use crate::time::write_duration;

/// What each row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The shape of a table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// `v1` or `v1beta1`.
    pub version: &'static str,
    /// What each row carries.
    pub include: IncludeObject,
    /// Whether there is a column for swap: the first object decides, as upstream does.
    pub has_swap: bool,
}

impl Table {
    /// Appends what comes before the rows. Without rows there are no columns (`with_columns`).
    pub fn begin(&self, out: &mut Vec<u8>, resource_version: Option<u64>, with_columns: bool) {
        out.extend_from_slice(br#"{"kind":"Table","apiVersion":"meta.k8s.io/"#);
        out.extend_from_slice(self.version.as_bytes());
        out.extend_from_slice(br#"","metadata":{"#);
        if let Some(version) = resource_version {
            out.extend_from_slice(br#""resourceVersion":""#);
            out.extend_from_slice(itoa::Buffer::new().format(version).as_bytes());
            out.push(b'"');
        }
        if !with_columns {
            out.extend_from_slice(br#"},"columnDefinitions":null,"rows":["#);
            return;
        }
        out.extend_from_slice(br#"},"columnDefinitions":["#);
        column(out, "Name", "name", "Name of the resource");
        for resource in self.resources() {
            out.push(b',');
            column(out, resource, "quantity", "");
        }
        out.push(b',');
        column(out, "Window", "duration", "");
        out.extend_from_slice(br#"],"rows":["#);
    }

    /// Appends what comes after the rows.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}");
    }

    fn resources(&self) -> &'static [&'static str] {
        if self.has_swap { &["cpu", "memory", "swap"] } else { &["cpu", "memory"] }
    }

    /// Appends the row of an object.
    pub fn write_row<'a, L, C>(&self, out: &mut Vec<u8>, resource: Resource, item: &Item<'a, L, C>)
    where
        L: Iterator<Item = (&'a str, &'a str)> + Clone,
        C: Iterator<Item = (&'a str, Usage)> + Clone,
    {
        let usage = item.total();
        out.extend_from_slice(br#"{"cells":["#);
        json::write_string(out, item.name);
        cell(out, |out| write_nanocores(out, usage.cpu_nanocores));
        cell(out, |out| write_bytes(out, usage.memory_bytes));
        if self.has_swap {
            cell(out, |out| write_bytes(out, usage.swap_bytes.unwrap_or(0)));
        }
        cell(out, |out| write_duration(out, item.window_ms));
        out.extend_from_slice(br#"],"object":"#);
        match self.include {
            IncludeObject::None => out.extend_from_slice(b"null"),
            IncludeObject::Metadata => {
                let api_version = format!("meta.k8s.io/{}", self.version);
                json::begin_typed(out, "PartialObjectMetadata", &api_version);
                json::write_metadata(out, item);
                out.push(b'}');
            }
            IncludeObject::Object => json::write_item(out, resource, item, true),
        }
        out.push(b'}');
    }
}

fn cell(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b",\"");
    write(out);
    out.push(b'"');
}

fn column(out: &mut Vec<u8>, name: &str, format: &str, description: &str) {
    out.extend_from_slice(br#"{"name":"#);
    json::write_string(out, name);
    out.extend_from_slice(br#","type":"string","format":"#);
    json::write_string(out, format);
    out.extend_from_slice(br#","description":"#);
    json::write_string(out, description);
    out.extend_from_slice(br#","priority":0}"#);
}
