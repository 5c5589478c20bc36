//! JSON, field by field in the order in which upstream's types write it.

use crate::item::{Item, METRICS_GROUP_VERSION, Resource, Usage};
use crate::quantity::{write_bytes, write_nanocores};
use crate::time::{write_duration, write_time};

/// Appends `text` as a JSON string, escaped as Go does: also `<`, `>`, `&` and the line
/// separators.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Without a way out of the loop, it is done for many bytes at a time.
    let special = text.bytes().fold(false, |special, b| {
        special
            | !(0x20..0x80).contains(&b)
            | (b == b'"')
            | (b == b'\\')
            | (b == b'<')
            | (b == b'>')
            | (b == b'&')
    });
    if !special {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    out.push(b'"');
}

/// Appends what comes before the items of a list.
pub fn begin_list(out: &mut Vec<u8>, resource: Resource, resource_version: u64) {
    begin_typed(out, resource.list_kind(), METRICS_GROUP_VERSION);
    out.extend_from_slice(br#""metadata":{"resourceVersion":""#);
    write_u64(out, resource_version);
    out.extend_from_slice(br#""},"items":["#);
}

/// Appends what comes after the items of a list. The generic API server ends with a newline.
pub fn end_list(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}\n");
}

/// Appends a frame of a watch.
pub fn write_frame(out: &mut Vec<u8>, event: &str, object: &[u8]) {
    out.extend_from_slice(br#"{"type":"#);
    write_string(out, event);
    out.extend_from_slice(br#","object":"#);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// The annotation of the bookmark after the initial events of a watch.
pub(crate) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Appends the object of a bookmark, which has a version and nothing else; `initial` says that
/// the initial events end here.
pub fn write_bookmark(out: &mut Vec<u8>, resource: Resource, resource_version: u64, initial: bool) {
    begin_typed(out, resource.kind(), METRICS_GROUP_VERSION);
    out.extend_from_slice(br#""metadata":{"resourceVersion":""#);
    write_u64(out, resource_version);
    out.extend_from_slice(br#"","creationTimestamp":null"#);
    if initial {
        out.extend_from_slice(br#","annotations":{"#);
        write_string(out, INITIAL_EVENTS_END);
        out.extend_from_slice(br#":"true"}"#);
    }
    out.extend_from_slice(br#"},"timestamp":null,"window":"0s","#);
    out.extend_from_slice(match resource {
        Resource::Nodes => br#""usage":null}"#,
        Resource::Pods => br#""containers":null}"#,
    });
}

/// Appends `{"kind":…,"apiVersion":…,`.
pub(crate) fn begin_typed(out: &mut Vec<u8>, kind: &str, api_version: &str) {
    out.extend_from_slice(br#"{"kind":"#);
    write_string(out, kind);
    out.extend_from_slice(br#","apiVersion":"#);
    write_string(out, api_version);
    out.push(b',');
}

/// Appends an object. One of a list does not name its kind (`typed` is false).
pub fn write_item<'a, L, C>(
    out: &mut Vec<u8>,
    resource: Resource,
    item: &Item<'a, L, C>,
    typed: bool,
) where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    if typed {
        begin_typed(out, resource.kind(), METRICS_GROUP_VERSION);
    } else {
        out.push(b'{');
    }
    write_metadata(out, item);
    out.extend_from_slice(br#","timestamp":""#);
    write_time(out, item.at_s);
    out.extend_from_slice(br#"","window":""#);
    write_duration(out, item.window_ms);
    out.push(b'"');
    match resource {
        Resource::Nodes => {
            if let Some((_, usage)) = item.usages.clone().next() {
                out.extend_from_slice(br#","usage":"#);
                write_usage(out, usage);
            }
        }
        Resource::Pods => {
            out.extend_from_slice(br#","containers":["#);
            for (at, (name, usage)) in item.usages.clone().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(br#"{"name":"#);
                write_string(out, name);
                out.extend_from_slice(br#","usage":"#);
                write_usage(out, usage);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// Appends the metadata of an object with its key.
pub(crate) fn write_metadata<'a, L, C>(out: &mut Vec<u8>, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
{
    out.extend_from_slice(br#""metadata":{"name":"#);
    write_string(out, item.name);
    if !item.namespace.is_empty() {
        out.extend_from_slice(br#","namespace":"#);
        write_string(out, item.namespace);
    }
    if let Some(version) = item.resource_version {
        out.extend_from_slice(br#","resourceVersion":""#);
        write_u64(out, version);
        out.push(b'"');
    }
    out.extend_from_slice(br#","creationTimestamp":""#);
    write_time(out, item.created_s);
    out.push(b'"');
    let mut before: &[u8] = br#","labels":{"#;
    for (key, value) in item.labels.clone() {
        out.extend_from_slice(before);
        write_string(out, key);
        out.push(b':');
        write_string(out, value);
        before = b",";
    }
    if before == b"," {
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_usage(out: &mut Vec<u8>, usage: Usage) {
    out.extend_from_slice(br#"{"cpu":""#);
    write_nanocores(out, usage.cpu_nanocores);
    out.extend_from_slice(br#"","memory":""#);
    write_bytes(out, usage.memory_bytes);
    if let Some(swap) = usage.swap_bytes {
        out.extend_from_slice(br#"","swap":""#);
        write_bytes(out, swap);
    }
    out.extend_from_slice(br#""}"#);
}

fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
