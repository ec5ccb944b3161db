//! HTTP by hand: HTTP/1.0, so that an answer ends with its connection and no client library is needed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value as Json;

const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks `base` (`http://host:port/...`) and gives the answer's JSON, whatever its status; null when it has no content.
pub fn call(base: &str, method: &str, path: &str, content_type: &str, body: Option<&str>) -> anyhow::Result<Json> {
    let (_, content) = answer(base, method, path, content_type, body)?;
    if content.trim().is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_str(&content).with_context(|| format!("{method} {path} was answered: {content}"))
}

/// What `base` answers to a GET, whatever its status.
pub fn text(base: &str, path: &str) -> anyhow::Result<String> {
    Ok(answer(base, "GET", path, "text/plain", None)?.1)
}

/// The same, an error unless the status is a success.
pub fn done(base: &str, method: &str, path: &str, content_type: &str, body: Option<&str>) -> anyhow::Result<Json> {
    let (status, content) = answer(base, method, path, content_type, body)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path} was answered with {status}: {content}");
    }
    Ok(serde_json::from_str(&content).unwrap_or_default())
}

fn answer(
    base: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: Option<&str>,
) -> anyhow::Result<(u16, String)> {
    let rest = base
        .strip_prefix("http://")
        .with_context(|| format!("{base} must begin with http://"))?;
    let (host, root) = rest.split_once('/').unwrap_or((rest, ""));
    let root = if root.is_empty() {
        String::new()
    } else {
        format!("/{root}")
    };
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    let body = body.unwrap_or_default();
    write!(
        stream,
        "{method} {root}{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, content) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("no HTTP status")?, content.to_owned()))
}
