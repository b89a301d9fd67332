//! Asks a server whether it is ready. Every question has its own end.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use model::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::network::Dialer;
use crate::recipe::Probe;
use crate::template::{Values, render};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is looked at.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

impl Probe {
    /// Fills in its templates.
    pub(crate) fn render(&self, values: &Values) -> Result<Self> {
        let one = |text: &Option<String>| text.as_ref().map(|t| render(t, values)).transpose();
        let command = self.command.as_ref();
        let command = command.map(|words| words.iter().map(|word| render(word, values)).collect());
        Ok(Self {
            http: one(&self.http)?,
            tcp: one(&self.tcp)?,
            command: command.transpose()?,
            log: one(&self.log)?,
            status: self.status,
            contains: one(&self.contains)?,
        })
    }
}

/// Asks everything but commands, which the server's maker runs. Says why it is not ready.
pub async fn ask(
    probe: &Probe,
    dialer: &Dialer,
    log: (&Path, u64),
    context: &Context,
) -> Result<(), String> {
    let asked = async {
        if let Some(url) = &probe.http {
            http(url, probe, dialer).await.map_err(|why| format!("{url}: {why}"))
        } else if let Some(address) = &probe.tcp {
            tcp(address, dialer).await.map_err(|why| format!("{address}: {why}"))
        } else if let Some(text) = &probe.log {
            in_log(text, log)
        } else {
            Ok(())
        }
    };
    tokio::select! {
        outcome = asked => outcome,
        () = context.clock.sleep(PATIENCE) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

async fn tcp(address: &str, dialer: &Dialer) -> Result<(), String> {
    let (host, port) = host_and_port(address)?;
    dialer.connect(host, port).await.map(drop).map_err(|error| error.to_string())
}

async fn http(url: &str, probe: &Probe, dialer: &Dialer) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// can be asked")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let (host, port) = host_and_port(authority)?;
    let talk = async {
        let mut stream = dialer.connect(host, port).await?;
        // In the old version nothing comes in pieces with their lengths between them.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = talk.await.map_err(|error| error.to_string())?;
    judge(&String::from_utf8_lossy(&answer), probe)
}

/// Judges an answer: its status and its body.
fn judge(answer: &str, probe: &Probe) -> Result<(), String> {
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    let status: u16 = status.and_then(|code| code.parse().ok()).ok_or("no answer of HTTP")?;
    if status != probe.status {
        return Err(format!("status {status}, not {}", probe.status));
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    contains(body, probe)
}

/// Judges a text.
pub fn contains(text: &str, probe: &Probe) -> Result<(), String> {
    match &probe.contains {
        Some(wanted) if !text.contains(wanted.as_str()) => {
            Err(format!("{wanted:?} is not in the answer"))
        }
        _ => Ok(()),
    }
}

/// Looks for a text in what was logged since the start.
fn in_log(text: &str, (path, from): (&Path, u64)) -> Result<(), String> {
    let read = || {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(log) if log.contains(text) => Ok(()),
        Ok(_) => Err(format!("{text:?} is not in its log")),
        Err(error) => Err(error.to_string()),
    }
}

fn host_and_port(authority: &str) -> Result<(Ipv4Addr, u16), String> {
    let why = || format!("{authority:?} is not ADDRESS:PORT");
    let (host, port) = authority.rsplit_once(':').ok_or_else(why)?;
    let host =
        if host == "localhost" { Ipv4Addr::LOCALHOST } else { host.parse().map_err(|_| why())? };
    Ok((host, port.parse().map_err(|_| why())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let probe = |status, contains: Option<&str>| Probe {
            http: Some(String::new()),
            tcp: None,
            command: None,
            log: None,
            status,
            contains: contains.map(str::to_owned),
        };
        for (answer, status, wanted, why) in [
            ("HTTP/1.1 200 OK\r\n\r\nfine", 200, None, None),
            ("HTTP/1.0 200\r\nA: b\r\n\r\n\"live\" : 3", 200, Some("\"live\" : 3"), None),
            ("HTTP/1.1 400 Bad\r\n\r\n", 400, None, None),
            ("HTTP/1.1 503 No\r\n\r\n", 200, None, Some("status 503")),
            ("HTTP/1.1 200 OK\r\nX: live\r\n\r\n", 200, Some("live"), Some("is not in the answer")),
            ("SSH-2.0", 200, None, Some("no answer of HTTP")),
            ("", 200, None, Some("no answer of HTTP")),
            ("HTTP/1.é00", 200, None, Some("no answer of HTTP")),
        ] {
            let outcome = judge(answer, &probe(status, wanted));
            assert_eq!(outcome.is_ok(), why.is_none(), "{answer}: {outcome:?}");
            if let (Err(said), Some(why)) = (outcome, why) {
                assert!(said.contains(why), "{answer}: {said}");
            }
        }
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(host_and_port("127.0.0.1:80"), Ok((Ipv4Addr::LOCALHOST, 80)));
        assert_eq!(host_and_port("localhost:9000"), Ok((Ipv4Addr::LOCALHOST, 9000)));
        for bad in ["", "127.0.0.1", "host:80", "127.0.0.1:", "127.0.0.1:99999"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
