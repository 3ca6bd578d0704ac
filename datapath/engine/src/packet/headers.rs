use super::{Frame, Link, ethertype, ipv4, ipv6};

/// Where the headers of an IP packet that is no fragment are in its frame, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Whether it is of IPv6.
    pub v6: bool,
    /// Where the IP header begins.
    pub ip: usize,
    /// Where what is above IP, and above the extension headers of IPv6, begins.
    pub transport: usize,
    /// The protocol of that.
    pub protocol: u8,
    /// Where the IP packet ends; what follows in the frame is padding.
    pub end: usize,
}

impl Headers {
    /// Those of a frame; `None` if it carries anything else, or what is malformed.
    pub fn of(frame: Frame<'_>) -> Option<Headers> {
        let link = Link::parse(frame).ok()?;
        let ip = frame.length - link.rest.length;
        let (v6, whole) = match link.ethertype {
            ethertype::IPV4 => (false, ipv4::whole(link.rest)?),
            ethertype::IPV6 => (true, ipv6::whole(link.rest)?),
            _ => return None,
        };
        let (protocol, above, length) = whole;
        let [ip, transport, end] = [ip, ip + length - above, ip + length].map(|at| at as usize);
        Some(Headers { v6, ip, transport, protocol, end })
    }
}
