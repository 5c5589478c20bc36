//! YAML, with the keys of each mapping in alphabetical order as upstream writes it. Strings are
//! quoted always, since a label may look like a number or a truth value.

use crate::item::{Item, METRICS_GROUP_VERSION, Resource, Usage};
use crate::json::write_string;
use crate::quantity::{write_bytes, write_nanocores};
use crate::time::{write_duration, write_time};

/// Appends what comes before the items of a list; `is_empty` says that there are none.
pub fn begin_list(out: &mut Vec<u8>, is_empty: bool) {
    line(out, 0, "apiVersion", |out| out.extend_from_slice(METRICS_GROUP_VERSION.as_bytes()));
    out.extend_from_slice(if is_empty { b"items: []\n" } else { b"items:\n" });
}

/// Appends what comes after the items of a list.
pub fn end_list(out: &mut Vec<u8>, resource: Resource, resource_version: u64) {
    line(out, 0, "kind", |out| out.extend_from_slice(resource.list_kind().as_bytes()));
    out.extend_from_slice(b"metadata:\n");
    line(out, 2, "resourceVersion", |out| write_string(out, &resource_version.to_string()));
}

/// Appends an object by itself, or as an item of a list.
pub fn write_item<'a, L, C>(
    out: &mut Vec<u8>,
    resource: Resource,
    item: &Item<'a, L, C>,
    typed: bool,
) where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    let start = out.len();
    let indent = if typed { 0 } else { 2 };
    if typed {
        line(out, 0, "apiVersion", |out| out.extend_from_slice(METRICS_GROUP_VERSION.as_bytes()));
    }
    if resource == Resource::Pods {
        let mut containers = item.usages.clone().peekable();
        if containers.peek().is_none() {
            line(out, indent, "containers", |out| out.extend_from_slice(b"[]"));
        } else {
            key(out, indent, "containers");
        }
        for (name, usage) in containers {
            let at = out.len() + indent;
            line(out, indent + 2, "name", |out| write_string(out, name));
            out[at] = b'-';
            key(out, indent + 2, "usage");
            write_usage(out, indent + 4, usage);
        }
    }
    if typed {
        line(out, 0, "kind", |out| out.extend_from_slice(resource.kind().as_bytes()));
    }
    key(out, indent, "metadata");
    write_metadata(out, indent + 2, item);
    line(out, indent, "timestamp", |out| quoted(out, |out| write_time(out, item.at_s)));
    if resource == Resource::Nodes
        && let Some((_, usage)) = item.usages.clone().next()
    {
        key(out, indent, "usage");
        write_usage(out, indent + 2, usage);
    }
    line(out, indent, "window", |out| quoted(out, |out| write_duration(out, item.window_ms)));
    if !typed {
        out[start] = b'-';
    }
}

fn write_metadata<'a, L, C>(out: &mut Vec<u8>, indent: usize, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
{
    let created = |out: &mut Vec<u8>| quoted(out, |out| write_time(out, item.created_s));
    line(out, indent, "creationTimestamp", created);
    let mut labels = item.labels.clone().peekable();
    if labels.peek().is_some() {
        key(out, indent, "labels");
    }
    for (name, value) in labels {
        out.resize(out.len() + indent + 2, b' ');
        write_string(out, name);
        out.extend_from_slice(b": ");
        write_string(out, value);
        out.push(b'\n');
    }
    line(out, indent, "name", |out| write_string(out, item.name));
    if !item.namespace.is_empty() {
        line(out, indent, "namespace", |out| write_string(out, item.namespace));
    }
}

fn write_usage(out: &mut Vec<u8>, indent: usize, usage: Usage) {
    let mut entry = |name: &str, write: fn(&mut Vec<u8>, u64), value: u64| {
        line(out, indent, name, |out| quoted(out, |out| write(out, value)));
    };
    entry("cpu", write_nanocores, usage.cpu_nanocores);
    entry("memory", write_bytes, usage.memory_bytes);
    if let Some(swap) = usage.swap_bytes {
        entry("swap", write_bytes, swap);
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn key(out: &mut Vec<u8>, indent: usize, key: &str) {
    out.resize(out.len() + indent, b' ');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b":\n");
}

fn line(out: &mut Vec<u8>, indent: usize, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.resize(out.len() + indent, b' ');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b": ");
    value(out);
    out.push(b'\n');
}
