use std::borrow::Cow;
use std::fmt::{self, Write};

use ipnet::IpNet;

use crate::model::{Peer, RuleService};

/// A rule as EC2's messages name it.
pub(crate) struct InWords<'r>(pub &'r RuleService, pub &'r Peer);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.say(f)
    }
}

impl InWords<'_> {
    /// Writes it. Ids are made of these words, thousands at a time: so what most rules
    /// have is written without the ways of formatting.
    pub fn say(&self, to: &mut impl Write) -> fmt::Result {
        let InWords(service, peer) = self;
        to.write_str("peer: ")?;
        match peer {
            Peer::Cidr(IpNet::V4(net)) => {
                for (n, octet) in net.addr().octets().into_iter().enumerate() {
                    to.write_str(if n == 0 { "" } else { "." })?;
                    say_number(to, octet.into())?;
                }
                to.write_str("/")?;
                say_number(to, net.prefix_len().into())?;
            }
            Peer::Group { id, stale: false } => to.write_str(id)?,
            other => write!(to, "{other}")?,
        }
        to.write_str(", ")?;
        match service.protocol() {
            _ if **service == RuleService::All => to.write_str("ALL")?,
            Cow::Borrowed("tcp") => to.write_str("TCP")?,
            Cow::Borrowed("udp") => to.write_str("UDP")?,
            other => to.write_str(&other.to_ascii_uppercase())?,
        }
        if let Some((from, up_to)) = service.range() {
            to.write_str(", from port: ")?;
            say_number(to, from)?;
            to.write_str(", to port: ")?;
            say_number(to, up_to)?;
        }
        to.write_str(", ALLOW")
    }
}

/// A number of a rule: at most a port's, or -1.
fn say_number(to: &mut impl Write, number: i64) -> fmt::Result {
    let Ok(mut left) = u16::try_from(number) else { return write!(to, "{number}") };
    let mut digits = [b'0'; 5];
    let mut start = digits.len();
    while left > 0 || start == digits.len() {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    to.write_str(std::str::from_utf8(&digits[start..]).map_err(|_| fmt::Error)?)
}
