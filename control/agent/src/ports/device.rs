//! DPDK's device arguments, as far as the switch reads them.

use dpdk::{Eal, Error, Port};
use nix::net::if_::if_nametoindex;

/// A device as it is given: a PCI address, or a virtual device and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    arguments: String,
}

/// Drivers over a kernel interface, `iface` of their arguments. With others that is
/// an interface which they make, and which may be moved to another namespace
/// (`net_tap`), or the path of a socket (`net_vhost`).
const OVER_INTERFACES: [&str; 3] = ["net_af_packet", "net_af_xdp", "net_pcap"];

impl Device {
    pub fn new(arguments: impl Into<String>) -> Device {
        Device { arguments: arguments.into() }
    }

    /// As it was given.
    pub fn arguments(&self) -> &str {
        &self.arguments
    }

    /// EAL's name of it.
    pub fn name(&self) -> &str {
        self.arguments.split(',').next().unwrap_or_default()
    }

    /// The kernel interface that it is over.
    fn interface(&self) -> Option<&str> {
        let is_over_one = OVER_INTERFACES.iter().any(|driver| self.name().starts_with(driver));
        let mut arguments = self.arguments.split(',').filter(|_| is_over_one);
        arguments.find_map(|argument| argument.strip_prefix("iface="))
    }

    /// The kernel's number of that interface, which another of its name does not
    /// have; `None` if it is over none, or there is none.
    pub fn interface_index(&self) -> Option<u32> {
        self.interface().and_then(|name| if_nametoindex(name).ok())
    }

    /// What it waits for: an interface that is not there.
    pub fn missing(&self) -> Option<&str> {
        self.interface().filter(|_| self.interface_index().is_none())
    }

    /// Opens it, or takes the one that EAL has of this name.
    pub fn open(&self, eal: &Eal) -> Result<Port, Error> {
        let port = match Port::by_name(eal, self.name()) {
            Err(Error::NoPort(_)) => Port::attach(eal, &self.arguments)?,
            known => known?,
        };
        // EAL keeps nothing of it: the next one of this name is new.
        port.remove_when_closed();
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_waited_for_where_the_driver_is_over_one() {
        let device = |text| Device::new(text);
        assert_eq!(device("net_af_packet0,iface=nosuch0,qpairs=1").missing(), Some("nosuch0"));
        assert_eq!(device("net_af_packet0,iface=lo").missing(), None);
        assert_eq!(device("net_tap0,iface=nosuch0").missing(), None);
        assert_eq!(device("net_tap0,iface=lo").interface_index(), None, "it may be in another namespace");
        assert_eq!(device("net_vhost0,iface=/run/vm1.sock").missing(), None);
        assert_eq!(device("net_null0").missing(), None);
        assert_eq!(device("0000:01:00.0").interface_index(), None);
        assert_eq!(device("net_af_packet0,iface=lo").interface_index(), Some(1));
        assert_eq!(device("net_af_xdp1,iface=lo,start_queue=0").name(), "net_af_xdp1");
    }
}
