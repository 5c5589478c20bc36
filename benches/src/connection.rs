//! A connection to a server that stays open: HTTP/1.1 with bodies of a known length or in chunks, uncompressed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context;

/// How long a server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1200);
/// Longest line of a head.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// A connection to a server on loopback.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream) })
    }

    /// Asks for `path`, which is encoded already; status and body.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
    }

    /// Sends a whole request; status and body of the answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.get_mut().write_all(request)?;
        read_answer(&mut self.stream)
    }
}

fn read_answer(stream: &mut impl BufRead) -> anyhow::Result<(u16, Vec<u8>)> {
    let line = read_line(stream)?;
    let status = line.split(' ').nth(1).context("no status")?.parse().context("status")?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("content-length")?;
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding");
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).context("size of a chunk")?;
            read_body(stream, size, &mut body)?;
            anyhow::ensure!(read_line(stream)?.is_empty(), "a chunk does not end with its size");
            if size == 0 {
                break;
            }
        }
    } else {
        read_body(stream, length, &mut body)?;
    }
    Ok((status, body))
}

/// A line without its end.
fn read_line(stream: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_line(&mut line)?;
    anyhow::ensure!(line.ends_with('\n'), "the answer ends in its head: {line:?}");
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn read_body(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let read = stream.take(length).read_to_end(body)?;
    anyhow::ensure!(read as u64 == length, "the answer ends in its body");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answers: &str, expected: &[(u16, &str)]) {
        let mut stream = answers.as_bytes();
        for &(status, body) in expected {
            let answer = read_answer(&mut stream).unwrap();
            assert_eq!((answer.0, std::str::from_utf8(&answer.1).unwrap()), (status, body));
        }
        assert!(stream.is_empty(), "{answers:?}");
        assert!(read_answer(&mut stream).is_err());
    }

    #[test]
    fn answers_follow_each_other() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 204 No Content\r\n\r\n",
            &[(200, "abc"), (204, "")],
        );
        // The example of RFC 9112, section 7.1, with an extension of a chunk.
        let chunks = "4;a=b\r\nWiki\r\n7\r\npedia i\r\nB\r\nn \r\nchunks.\r\n0\r\n\r\n";
        check(
            &format!(
                "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n{chunks}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            ),
            &[(400, "Wikipedia in \r\nchunks."), (200, "")],
        );
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ] {
            assert!(read_answer(&mut answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
