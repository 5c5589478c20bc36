//! A client of the remote-write protocol, version 1: a protobuf `WriteRequest` in a snappy block, over HTTP/1.1 that stays connected.

use std::io::Write;

use anyhow::bail;
use model::Timestamp;

use crate::connection::Connection;

/// Field numbers with wire types: `WriteRequest.timeseries`, `TimeSeries.labels` and `.samples`, `Label.name` and `.value`.
const LENGTH_1: u8 = 1 << 3 | 2;
const LENGTH_2: u8 = 2 << 3 | 2;
/// `Sample.value`, a double, and `Sample.timestamp`, a varint.
const FIXED64_1: u8 = 1 << 3 | 1;
const VARINT_2: u8 = 2 << 3;

/// A connection to a receiver.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    samples: Vec<u8>,
    body: Vec<u8>,
    request: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> anyhow::Result<Self> {
        let connection = Connection::open(port)?;
        Ok(Self { connection, samples: Vec::new(), body: Vec::new(), request: Vec::new() })
    }

    /// Adds samples of the series with these labels, as [`encode_labels`] gives them.
    pub(crate) fn push(&mut self, labels: &[u8], samples: impl Iterator<Item = (Timestamp, f64)>) {
        self.samples.clear();
        for (t, v) in samples {
            let time = varint(t.cast_unsigned());
            // Less than 128 bytes.
            let sample_bytes = 1 + 8 + 1 + time.as_slice().len();
            self.samples.extend_from_slice(&[LENGTH_2, sample_bytes.to_le_bytes()[0], FIXED64_1]);
            self.samples.extend_from_slice(&v.to_le_bytes());
            self.samples.push(VARINT_2);
            self.samples.extend_from_slice(time.as_slice());
        }
        self.body.push(LENGTH_1);
        let series_bytes = labels.len() + self.samples.len();
        self.body.extend_from_slice(varint(series_bytes as u64).as_slice());
        self.body.extend_from_slice(labels);
        self.body.extend_from_slice(&self.samples);
    }

    /// Sends what was added since the last time and waits until it is stored.
    ///
    /// # Errors
    /// When the receiver does not answer 2xx.
    pub(crate) fn send(&mut self) -> anyhow::Result<()> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.body)?;
        self.body.clear();
        self.request.clear();
        write!(
            self.request,
            "POST /api/v1/write HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n\
             Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            compressed.len()
        )?;
        self.request.extend_from_slice(&compressed);
        let (status, body) = self.connection.send(&self.request)?;
        if !(200..300).contains(&status) {
            bail!("remote write answered {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(())
    }
}

/// Appends the labels of a series as fields of a `TimeSeries`.
pub(crate) fn encode_labels<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    out: &mut Vec<u8>,
) {
    for (name, value) in pairs {
        let bytes = |text: &str| 1 + varint(text.len() as u64).as_slice().len() + text.len();
        out.push(LENGTH_1);
        out.extend_from_slice(varint((bytes(name) + bytes(value)) as u64).as_slice());
        for (tag, text) in [(LENGTH_1, name), (LENGTH_2, value)] {
            out.push(tag);
            out.extend_from_slice(varint(text.len() as u64).as_slice());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

struct Varint {
    bytes: [u8; 10],
    len: usize,
}

impl Varint {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn varint(mut value: u64) -> Varint {
    let mut varint = Varint { bytes: [0; 10], len: 0 };
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        varint.bytes[varint.len] = if value > 0 { low | 0x80 } else { low };
        varint.len += 1;
        if value == 0 {
            return varint;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_protobuf() {
        // From the encoding page of protobuf: 150 is 96 01; negative numbers take ten bytes.
        assert_eq!(varint(150).as_slice(), [0x96, 0x01]);
        assert_eq!(varint(0).as_slice(), [0]);
        assert_eq!(varint((-1_i64).cast_unsigned()).as_slice().len(), 10);
    }

    #[test]
    fn a_series_is_a_message_of_labels_and_samples() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap().port()).unwrap();
        client.push(&[0x0a, 0], [(1, 2.0), (300, 0.0)].into_iter());
        let doubles = [2.0_f64.to_le_bytes(), 0.0_f64.to_le_bytes()];
        let expected = [
            &[0x0a, 29, 0x0a, 0, 0x12, 11, 0x09][..],
            &doubles[0],
            &[0x10, 1, 0x12, 12, 0x09],
            &doubles[1],
            &[0x10, 0xac, 0x02],
        ];
        assert_eq!(client.body, expected.concat());
    }

    #[test]
    fn a_label_is_a_message_of_two_strings() {
        let mut out = Vec::new();
        encode_labels([("a", "xy")].into_iter(), &mut out);
        assert_eq!(out, [0x0a, 7, 0x0a, 1, b'a', 0x12, 2, b'x', b'y']);
    }
}
