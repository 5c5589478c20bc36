//! `application/vnd.kubernetes.protobuf`: messages of upstream's `generated.proto` in the
//! envelope `runtime.Unknown`, after four bytes of magic.
//!
//! Fields of scalar types are written even when empty where upstream's generated code does so.

mod values;

pub use values::{write_external_values, write_metric_values};

use crate::Status;
use crate::item::{Item, METRICS_GROUP_VERSION, Resource, Usage};
use crate::json::INITIAL_EVENTS_END;
use crate::quantity::{write_bytes, write_nanocores};

/// What every protobuf body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

const VARINT: u8 = 0;
const BYTES: u8 = 2;

fn tag(out: &mut Vec<u8>, field: u8, wire: u8) {
    out.push(field << 3 | wire);
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes that `value` takes as a varint.
const fn varint_len(value: u64) -> u64 {
    ((u64::BITS - (value | 1).leading_zeros()).div_ceil(7)) as u64
}

fn write_text(out: &mut Vec<u8>, field: u8, text: &str) {
    tag(out, field, BYTES);
    write_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn write_signed(out: &mut Vec<u8>, field: u8, value: i64) {
    tag(out, field, VARINT);
    write_varint(out, value.cast_unsigned());
}

/// Appends a message that `body` writes. Its length goes before it once it is known; most
/// messages are shorter than 128 bytes, for which one byte is left.
fn nested(out: &mut Vec<u8>, field: u8, body: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    let at = out.len();
    out.push(0);
    body(out);
    let len = out.len() - at - 1;
    if let Ok(short @ 0..0x80) = u8::try_from(len) {
        out[at] = short;
        return;
    }
    let mut prefix = [0; 10];
    let mut rest = len;
    let mut more = 0;
    while rest >= 0x80 {
        prefix[more] = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        more += 1;
    }
    prefix[more] = rest as u8;
    out.resize(out.len() + more, 0);
    out.copy_within(at + 1..=at + len, at + 1 + more);
    out[at..=at + more].copy_from_slice(&prefix[..=more]);
}

/// Appends the envelope of `kind` up to its content, which must be `raw_len` bytes.
fn begin_envelope(out: &mut Vec<u8>, api_version: &str, kind: &str, raw_len: u64) {
    out.extend_from_slice(&MAGIC);
    nested(out, 1, |out| {
        write_text(out, 1, api_version);
        write_text(out, 2, kind);
    });
    tag(out, 2, BYTES);
    write_varint(out, raw_len);
}

/// Appends what follows the content: no encoding and no type of it.
fn end_envelope(out: &mut Vec<u8>) {
    write_text(out, 3, "");
    write_text(out, 4, "");
}

/// Appends what comes before the items of a list whose items take `items_len` bytes in all, as
/// [`write_list_item`] writes them.
pub fn begin_list(out: &mut Vec<u8>, resource: Resource, resource_version: u64, items_len: u64) {
    let mut metadata = Vec::new();
    write_list_metadata(&mut metadata, 1, &resource_version.to_string());
    let raw_len = metadata.len() as u64 + items_len;
    begin_envelope(out, METRICS_GROUP_VERSION, resource.list_kind(), raw_len);
    out.extend_from_slice(&metadata);
}

fn write_list_metadata(out: &mut Vec<u8>, field: u8, resource_version: &str) {
    nested(out, field, |out| {
        write_text(out, 1, "");
        write_text(out, 2, resource_version);
        write_text(out, 3, "");
    });
}

/// Appends an item of a list.
pub fn write_list_item<'a, L, C>(out: &mut Vec<u8>, resource: Resource, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    nested(out, 2, |out| write_message(out, resource, item));
}

/// Appends what comes after the items of a list.
pub fn end_list(out: &mut Vec<u8>) {
    end_envelope(out);
}

/// Appends one object in its envelope.
pub fn write_item<'a, L, C>(out: &mut Vec<u8>, resource: Resource, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    let mut raw = Vec::with_capacity(512);
    write_message(&mut raw, resource, item);
    write_envelope(out, METRICS_GROUP_VERSION, resource.kind(), &raw);
}

fn write_envelope(out: &mut Vec<u8>, api_version: &str, kind: &str, raw: &[u8]) {
    begin_envelope(out, api_version, kind, raw.len() as u64);
    out.extend_from_slice(raw);
    end_envelope(out);
}

/// Appends an error in its envelope.
pub fn write_status(out: &mut Vec<u8>, status: &Status) {
    let mut raw = Vec::new();
    write_list_metadata(&mut raw, 1, "");
    write_text(&mut raw, 2, &status.status);
    write_text(&mut raw, 3, &status.message);
    write_text(&mut raw, 4, &status.reason);
    if let Some(details) = &status.details {
        nested(&mut raw, 5, |out| {
            write_text(out, 1, &details.name);
            write_text(out, 2, &details.group);
            write_text(out, 3, &details.kind);
            for cause in &details.causes {
                nested(out, 4, |out| {
                    write_text(out, 1, &cause.reason);
                    write_text(out, 2, &cause.message);
                    write_text(out, 3, &cause.field);
                });
            }
            write_signed(out, 5, i64::from(details.retry_after_seconds));
            write_text(out, 6, &details.uid);
        });
    }
    write_signed(&mut raw, 6, i64::from(status.code));
    write_envelope(out, "v1", "Status", &raw);
}

/// Appends the object of a bookmark in its envelope.
pub fn write_bookmark(out: &mut Vec<u8>, resource: Resource, resource_version: u64, initial: bool) {
    let mut raw = Vec::new();
    nested(&mut raw, 1, |out| {
        write_text(out, 6, &resource_version.to_string());
        if initial {
            nested(out, 12, |out| {
                write_text(out, 1, INITIAL_EVENTS_END);
                write_text(out, 2, "true");
            });
        }
    });
    write_envelope(out, METRICS_GROUP_VERSION, resource.kind(), &raw);
}

/// Appends a frame of a watch: its length in four bytes, the type, and the object, which is a
/// body of its own.
pub fn write_frame(out: &mut Vec<u8>, event: &str, object: &[u8]) {
    let object_len = object.len() as u64;
    let raw_len = 1 + varint_len(object_len) + object_len;
    let event_len = event.len() as u64;
    let len = 1 + varint_len(event_len) + event_len + 1 + varint_len(raw_len) + raw_len;
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    write_text(out, 1, event);
    tag(out, 2, BYTES);
    write_varint(out, raw_len);
    tag(out, 1, BYTES);
    write_varint(out, object_len);
    out.extend_from_slice(object);
}

fn write_message<'a, L, C>(out: &mut Vec<u8>, resource: Resource, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
    C: Iterator<Item = (&'a str, Usage)> + Clone,
{
    write_metadata(out, 1, item);
    nested(out, 2, |out| write_time(out, item.at_s));
    nested(out, 3, |out| write_signed(out, 1, item.window_ms.saturating_mul(1_000_000)));
    match resource {
        Resource::Nodes => {
            if let Some((_, usage)) = item.usages.clone().next() {
                write_usage(out, 4, usage);
            }
        }
        Resource::Pods => {
            for (name, usage) in item.usages.clone() {
                nested(out, 4, |out| {
                    write_text(out, 1, name);
                    write_usage(out, 2, usage);
                });
            }
        }
    }
}

fn write_metadata<'a, L, C>(out: &mut Vec<u8>, field: u8, item: &Item<'a, L, C>)
where
    L: Iterator<Item = (&'a str, &'a str)> + Clone,
{
    nested(out, field, |out| {
        write_text(out, 1, item.name);
        write_text(out, 2, "");
        write_text(out, 3, item.namespace);
        write_text(out, 4, "");
        write_text(out, 5, "");
        let version = item.resource_version.map(|v| v.to_string()).unwrap_or_default();
        write_text(out, 6, &version);
        write_signed(out, 7, 0);
        nested(out, 8, |out| write_time(out, item.created_s));
        for (key, value) in item.labels.clone() {
            nested(out, 11, |out| {
                write_text(out, 1, key);
                write_text(out, 2, value);
            });
        }
    });
}

fn write_time(out: &mut Vec<u8>, seconds: i64) {
    write_signed(out, 1, seconds);
    write_signed(out, 2, 0);
}

fn write_usage(out: &mut Vec<u8>, field: u8, usage: Usage) {
    let mut entry = |name: &str, write: fn(&mut Vec<u8>, u64), value: u64| {
        nested(out, field, |out| {
            write_text(out, 1, name);
            nested(out, 2, |out| nested(out, 1, |out| write(out, value)));
        });
    };
    entry("cpu", write_nanocores, usage.cpu_nanocores);
    entry("memory", write_bytes, usage.memory_bytes);
    if let Some(swap) = usage.swap_bytes {
        entry("swap", write_bytes, swap);
    }
}
