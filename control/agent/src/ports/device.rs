//! Device arguments, as far as the switch reads them.

use anyhow::{Result, bail};
use dpdk::{Eal, Error, Port};
use nix::net::if_::if_nametoindex;

/// A device as it is given: a PCI address, or a virtual device and its arguments,
/// one of DPDK's or `packet_socket`, which is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    arguments: String,
}

/// Drivers over a kernel interface, `iface` of their arguments. With others that is
/// an interface which they make, and which may be moved to another namespace
/// (`net_tap`), or the path of a socket (`net_vhost`).
const OVER_INTERFACES: [&str; 4] = [PACKET_SOCKET, "net_af_packet", "net_af_xdp", "net_pcap"];

/// A kernel interface, by packet sockets with the virtio-net header.
const PACKET_SOCKET: &str = "packet_socket";

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
    pub fn open(&self, eal: &Eal) -> Result<worker::Device> {
        if self.name().starts_with(PACKET_SOCKET) {
            return self.open_packet_socket();
        }
        let port = match Port::by_name(eal, self.name()) {
            Err(Error::NoPort(_)) => Port::attach(eal, &self.for_dpdk())?,
            known => known?,
        };
        // EAL keeps nothing of it: the next one of this name is new.
        port.remove_when_closed();
        Ok(port.into())
    }

    fn open_packet_socket(&self) -> Result<worker::Device> {
        let mut arguments = self.arguments.split(',').skip(1);
        let (Some(Some(interface)), None) =
            (arguments.next().map(|argument| argument.strip_prefix("iface=")), arguments.next())
        else {
            bail!("'{}': expected packet_socketN,iface=INTERFACE", self.arguments);
        };
        Ok(packet_socket::Port::open(self.name(), interface)?.into())
    }

    /// The arguments that DPDK is given: of vhost-user, guests may leave the cutting
    /// of super-frames to the switch, if nothing else is said.
    fn for_dpdk(&self) -> String {
        let is_said = self.arguments.split(',').any(|argument| argument.starts_with("tso="));
        match self.name().starts_with("net_vhost") && !is_said {
            true => format!("{},tso=1", self.arguments),
            false => self.arguments.clone(),
        }
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
        assert_eq!(device("packet_socket0,iface=nosuch0").missing(), Some("nosuch0"));
    }

    #[test]
    fn guests_may_leave_their_segments_to_the_switch() {
        let given = |text| Device::new(text).for_dpdk();
        assert_eq!(given("net_vhost0,iface=/run/a.sock"), "net_vhost0,iface=/run/a.sock,tso=1");
        assert_eq!(given("net_vhost0,iface=/run/a.sock,tso=0"), "net_vhost0,iface=/run/a.sock,tso=0");
        assert_eq!(given("net_tap0"), "net_tap0");
    }

    #[test]
    fn a_packet_socket_has_an_interface_and_nothing_else() {
        for text in ["packet_socket0", "packet_socket0,iface=lo,queues=2", "packet_socket0,ifacelo"] {
            let refused = Device::new(text).open_packet_socket().unwrap_err().to_string();
            assert!(refused.contains("expected packet_socketN,iface=INTERFACE"), "{refused}");
        }
        let refused = Device::new("packet_socket0,iface=nosuch0").open_packet_socket().unwrap_err();
        assert_eq!(refused.to_string(), "there is no interface 'nosuch0'");
    }
}
