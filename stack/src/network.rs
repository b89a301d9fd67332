//! A network of its own for a stack: a loopback interface and nothing else.
//!
//! What a server tries to reach outside is refused by the kernel, which has no way to it, and counts it
//! ([`Egress`]). Those outside reach the servers by the same ports: what comes in on a port here is carried over by a
//! thread that has entered the network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::process::ProcessId;

const ACTION: &str = "make network";
/// Holds the network as long as its standard input is open.
const HOLD: &str = "ip link set lo up && echo up && read -r word";
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What was tried to be reached outside an isolated stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// Packets and connections that the kernel refused, since it knew no way.
    pub refused: u64,
}

/// A network that leads nowhere. Goes when it is dropped and its processes have ended.
#[derive(Debug)]
pub struct Network {
    child: Child,
    holder: ProcessId,
    pipe: Option<ChildStdin>,
    dialer: Dialer,
    forwards: Vec<JoinHandle<()>>,
}

/// Opens connections: from here, or from inside a network.
#[derive(Debug, Clone)]
pub enum Dialer {
    /// From here.
    Here,
    /// By the thread that has entered the network.
    Inside(mpsc::Sender<Job>),
}

/// A connection that somebody waits for.
#[derive(Debug)]
pub struct Job {
    port: u16,
    reply: oneshot::Sender<io::Result<StdStream>>,
}

impl Network {
    /// Makes one.
    ///
    /// # Errors
    /// `Unsupported` where this user or this machine cannot.
    pub async fn make(
        environment: &BTreeMap<OsString, OsString>,
        context: &Context,
    ) -> Result<Self> {
        let refused = |why: String| {
            let error = Error::new(ErrorKind::Unsupported, ACTION, "");
            error.detail(format!("it takes root, `unshare`, `nsenter` and `ip`: {why}"))
        };
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", HOLD])
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| refused(error.to_string()))?;
        let pipe = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let first_line = tokio::task::spawn_blocking(move || {
            use std::io::{BufRead as _, BufReader, Read as _};
            let mut line = String::new();
            BufReader::new(out?).read_line(&mut line).ok()?;
            let mut why = String::new();
            if line != "up\n" {
                err?.read_to_string(&mut why).ok()?;
            }
            Some((line, why))
        });
        let heard = tokio::select! {
            heard = first_line => heard.ok().flatten(),
            () = context.clock.sleep(PATIENCE) => None,
        };
        let holder = ProcessId::of(child.id());
        let is_up = heard.as_ref().is_some_and(|(line, _)| line == "up\n");
        let (true, Some(holder)) = (is_up, holder) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(refused(
                heard.map_or("no answer".to_owned(), |(_, why)| why.trim().to_owned()),
            ));
        };
        let dialer = dialer(holder).map_err(|error| refused(error.to_string()))?;
        Ok(Self { child, holder, pipe, dialer, forwards: Vec::new() })
    }

    /// Returns the process that holds it.
    pub fn holder(&self) -> ProcessId {
        self.holder
    }

    /// Opens connections inside.
    pub fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    /// Carries what comes in on a port here to the same port inside, as long as both live.
    pub fn forward(&mut self, listener: std::net::TcpListener, port: u16) -> Result<()> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Internal, "forward port", port.to_string()).because(error)
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let dialer = self.dialer();
        self.forwards.push(tokio::spawn(async move {
            while let Ok((mut outer, _)) = listener.accept().await {
                let dialer = dialer.clone();
                tokio::spawn(async move {
                    // Where the server is not there the connection ends at once, which says it.
                    if let Ok(mut inner) = dialer.connect(Ipv4Addr::LOCALHOST, port).await {
                        let _ = copy_bidirectional(&mut outer, &mut inner).await;
                    }
                });
            }
        }));
        Ok(())
    }

    /// Counts what was refused so far.
    ///
    /// # Errors
    /// `Unavailable` where the network is gone.
    pub fn egress(&self) -> Result<Egress> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", self.holder.pid));
        let v4 = read("snmp").map_err(|error| {
            Error::new(ErrorKind::Unavailable, "count egress", "").because(error)
        })?;
        let v6 = read("snmp6").unwrap_or_default();
        Ok(Egress { refused: refused_v4(&v4).saturating_add(refused_v6(&v6)) })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.forwards.iter().for_each(JoinHandle::abort);
        self.pipe.take();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dialer {
    /// Opens a connection.
    pub async fn connect(&self, host: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        let Self::Inside(jobs) = self else { return TcpStream::connect((host, port)).await };
        let gone = || io::Error::other("the network is gone");
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { port, reply }).map_err(|_| gone())?;
        let stream = answer.await.map_err(|_| gone())??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// Starts the thread that enters a network. A socket belongs to the network in which it was made, whoever uses it.
fn dialer(holder: ProcessId) -> io::Result<Dialer> {
    let space = File::open(format!("/proc/{}/ns/net", holder.pid))?;
    let (jobs, inbox) = mpsc::channel::<Job>();
    let (entered, has_entered) = mpsc::channel();
    std::thread::Builder::new().name("lifeboat-stack-network".to_owned()).spawn(move || {
        let outcome = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
        let is_in = outcome.is_ok();
        let _ = entered.send(outcome);
        if !is_in {
            return;
        }
        while let Ok(job) = inbox.recv() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, job.port));
            let _ = job.reply.send(StdStream::connect_timeout(&address, CONNECT_PATIENCE));
        }
    })?;
    has_entered.recv().map_err(io::Error::other)??;
    Ok(Dialer::Inside(jobs))
}

/// Reads `/proc/net/snmp`: a line of names, a line of values.
fn refused_v4(text: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "OutNoRoutes").and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}

/// Reads `/proc/net/snmp6`: a name and a value per line.
fn refused_v6(text: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counted_is_read() {
        let v4 = "Ip: Forwarding OutDiscards OutNoRoutes ReasmTimeout\nIp: 1 0 7 0\nIcmp: InMsgs\n";
        assert_eq!((refused_v4(v4), refused_v4(""), refused_v4("Ip: a\n")), (7, 0, 0));
        let v6 = "Ip6OutDiscards    \t3\nIp6OutNoRoutes                  \t5\n";
        assert_eq!((refused_v6(v6), refused_v6("")), (5, 0));
    }
}
