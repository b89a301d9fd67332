//! Ports on the loopback interface that nobody else gets.
//!
//! A port is chosen below those that the kernel gives to outgoing connections, and taken twice: by listening
//! on it until its server starts, and for as long as its stack lives by a name that other stacks ask for first
//! (a socket without a file, which the kernel frees with its process).

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use model::{Entropy, Error, ErrorKind, Result};

/// The address that servers listen on.
pub const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

const ACTION: &str = "reserve port";
const FIRST: u16 = 10_240;
const RANGE_MIN: u16 = 2_000;
const TRIES: usize = 4_000;

/// A port that is ours.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    listener: Option<TcpListener>,
    // Taken as long as it is open.
    _name: UnixListener,
}

impl Port {
    /// Takes a port: the one that is wanted, or any.
    pub fn reserve(wanted: Option<u16>, entropy: &dyn Entropy) -> Result<Self> {
        if let Some(number) = wanted {
            let taken = || Error::new(ErrorKind::Conflict, ACTION, number.to_string());
            return Self::take(number).ok_or_else(|| taken().detail("it is in use"));
        }
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let range = range_beside(&range.unwrap_or_default());
        let mut bytes = [0; 2];
        entropy.fill(&mut bytes);
        let count = range.end - range.start;
        for step in 0..TRIES.min(usize::from(count)) {
            let offset = (usize::from(u16::from_le_bytes(bytes)) + step) % usize::from(count);
            // Smaller than the range, so it is one of its numbers.
            let number = range.start + u16::try_from(offset).unwrap_or(0);
            if let Some(port) = Self::take(number) {
                return Ok(port);
            }
        }
        Err(Error::new(ErrorKind::Exhausted, ACTION, "").detail("none of those tried is free"))
    }

    fn take(number: u16) -> Option<Self> {
        let name = format!("lifeboat-stack-port-{number}");
        let name = SocketAddr::from_abstract_name(name.as_bytes()).ok()?;
        let name = UnixListener::bind_addr(&name).ok()?;
        let listener = TcpListener::bind((HOST, number)).ok()?;
        Some(Self { number, listener: Some(listener), _name: name })
    }

    /// Lets its server have it: returns what listened in its place.
    pub fn release(&mut self) -> Option<TcpListener> {
        self.listener.take()
    }
}

/// Chooses a range that the kernel does not give to outgoing connections.
fn range_beside(outgoing: &str) -> Range<u16> {
    let mut bounds = outgoing.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    if low >= FIRST + RANGE_MIN {
        FIRST..low
    } else if high <= u16::MAX - RANGE_MIN {
        high + 1..u16::MAX
    } else {
        FIRST..u16::MAX
    }
}

#[cfg(test)]
mod tests {
    use testkit::SeededEntropy;

    use super::*;

    #[test]
    fn ports_are_beside_those_of_outgoing_connections() {
        for (outgoing, expected) in [
            ("32768\t60999\n", 10_240..32_768),
            ("1024 60999", 61_000..65_535),
            ("1024 65535", 10_240..65_535),
            ("", 10_240..32_768),
        ] {
            assert_eq!(range_beside(outgoing), expected, "{outgoing}");
        }
    }

    #[test]
    fn a_port_is_taken_until_it_is_dropped() {
        let reserve = |wanted| Port::reserve(wanted, &SeededEntropy::new(7));
        let mut first = reserve(None).expect("port");
        let second = reserve(None).expect("the same beginning, another port");
        assert_ne!(first.number, second.number);
        assert!(TcpListener::bind((HOST, first.number)).is_err());
        assert!(first.release().is_some());
        let server = TcpListener::bind((HOST, first.number)).expect("free for the server");
        assert_eq!(reserve(Some(first.number)).expect_err("taken").kind(), ErrorKind::Conflict);
        drop(server);
        assert_eq!(reserve(Some(first.number)).expect_err("named").kind(), ErrorKind::Conflict);
        let number = first.number;
        drop(first);
        assert_eq!(reserve(Some(number)).expect("free").number, number);
    }
}
