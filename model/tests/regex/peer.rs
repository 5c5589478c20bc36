//! A running Prometheus, as the Go program that answers what an expression means.
//!
//! Its console templates have `match` and `reReplaceAll`, which hand expressions to Go's `regexp`
//! as they are.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/prometheus";
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// For each text `t`: whether it matches, and the text with every match replaced.
const TEMPLATE: &str = "{{ range .RawParams.t }}{{ match $.Params.p . }} \
    {{ reReplaceAll $.Params.p $.Params.r . | urlquery }}\n{{ end }}";

pub(super) struct Peer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

/// What Go says of an expression.
pub(super) type Answer = Result<Vec<Found>, String>;

/// What Go says of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) matches: bool,
    pub(super) replaced: String,
}

impl Peer {
    /// `None`, with a line on standard error, where there is no Prometheus.
    pub(super) fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            let required =
                std::env::var_os("SEXTANT_REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "{PROGRAM} is missing, and SEXTANT_REQUIRE_PEERS=1");
            let _ = writeln!(std::io::stderr(), "skipped: {PROGRAM} is missing");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("p.yml"), "global: {}\n").unwrap();
        fs::create_dir(path("consoles")).unwrap();
        fs::write(path("consoles/m.html"), TEMPLATE).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(PROGRAM)
            .arg(format!("--config.file={}", path("p.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.console.templates={}", path("consoles")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self { process, port, _folder: folder };
        let deadline = Instant::now() + LIMIT;
        while peer.get("/-/ready").is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < deadline, "{PROGRAM} is not ready after {LIMIT:?}");
            thread::sleep(POLL);
        }
        Some(peer)
    }

    /// What Go says of an expression, exactly as it stands, and each text.
    pub(super) fn ask(&self, pattern: &str, replacement: &str, texts: &[String]) -> Answer {
        let mut path = format!("/consoles/m.html?p={}&r={}", encode(pattern), encode(replacement));
        for text in texts {
            path.push_str("&t=");
            path.push_str(&encode(text));
        }
        let (status, body) = self.get(&path).expect("Prometheus answers");
        if status != 200 {
            let start = body.find("error parsing regexp").unwrap_or_else(|| panic!("{body}"));
            return Err(body[start..].trim_end_matches('\n').to_owned());
        }
        let found: Vec<_> = body
            .lines()
            .map(|line| {
                let (matches, replaced) = line.split_once(' ').expect("two columns");
                Found { matches: matches == "true", replaced: decode(replaced.trim()) }
            })
            .collect();
        assert_eq!(found.len(), texts.len(), "{body}");
        Ok(found)
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        // With HTTP/1.0 the body ends where the connection does.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    // The template escapes the plus signs for HTML.
    let text = text.replace("&#43;", "+");
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                decoded.push(u8::from_str_radix(digits, 16).unwrap());
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap()
}
