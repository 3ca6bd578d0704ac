//! The words for what became of a packet.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $name:ident = $label:literal;)+) => {
        /// Why a packet was dropped: at once the counter, the metric's label and
        /// the text of a trace. Exhaustive: nothing is dropped without one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])+ $name,)+ }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name: the metric's label value.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)+ }
            }
        }
    };
}

drop_reasons! {
    // What cannot be a packet.
    /// Shorter than its Ethernet header, or a header runs past the frame.
    Truncated = "truncated";
    /// A header contradicts itself: lengths that lie, versions that differ from the EtherType, reserved sizes.
    MalformedHeader = "malformed_header";
    /// A checksum of the IPv4 header that is wrong.
    BadChecksum = "bad_checksum";
    /// More IPv6 extension headers than a host would send, or in a forbidden order.
    ExtensionHeaders = "extension_headers";
    /// An address that may not appear on the wire: group source, loopback, source equal to destination, IPv4-mapped.
    MartianAddress = "martian_address";
    /// Neither IPv4, IPv6 nor ARP.
    UnknownEtherType = "unknown_ethertype";
    /// A first fragment without the whole header that its packet is judged by (RFC 1858, RFC 7112).
    FragmentTiny = "fragment_tiny";
    /// A fragment that overlaps another of its packet, or its end (RFC 5722).
    FragmentOverlap = "fragment_overlap";
    /// A later fragment whose first did not come in time, or did not pass (D27).
    FragmentOrphan = "fragment_orphan";

    // Who sent it.
    /// The port is bound to no interface and is no uplink.
    PortUnbound = "port_unbound";
    /// There is no policy yet: the switch is closed.
    NoPolicy = "no_policy";
    /// A VLAN tag that does not belong on this port.
    UnexpectedVlan = "unexpected_vlan";
    /// A source MAC that is not the interface's own.
    SpoofedMac = "spoofed_mac";
    /// A source address that is not the interface's own.
    SpoofedAddress = "spoofed_address";
    /// ARP that claims an address or MAC of another.
    SpoofedArp = "spoofed_arp";
    /// Neighbour discovery that claims an address or MAC of another, or a role (router) an interface has not.
    SpoofedNd = "spoofed_nd";
    /// By an uplink, from a MAC or address that the policy says is behind another.
    WrongUplink = "wrong_uplink";
    /// Unfiltered traffic (ARP, ND, DHCP) above the interface's allowance.
    ExemptRate = "exempt_rate";

    // Where it wanted to go.
    /// No interface or uplink of the VPC has the destination MAC.
    NoDestination = "no_destination";
    /// The destination interface does not own the destination address, and checks it.
    DestinationCheck = "destination_check";
    /// It would leave by the port it came from.
    Hairpin = "hairpin";

    // What the groups say.
    /// No rule of the sender's groups permits it.
    OutboundDenied = "outbound_denied";
    /// No rule of the receiver's groups permits it.
    InboundDenied = "inbound_denied";
    /// A flow that was untracked, and whose rule was removed in mid-stream.
    RuleRevoked = "rule_revoked";
    /// The network ACL of the sender's subnet does not let it out (S49).
    AclOutbound = "network_acl_outbound";
    /// The network ACL of the receiver's subnet does not let it in (S49).
    AclInbound = "network_acl_inbound";
    /// An ICMP error whose quoted packet belongs to no permitted flow.
    UnrelatedError = "unrelated_error";
    /// A TCP segment or reset that does not fit the connection (RFC 5961).
    InvalidTcp = "invalid_tcp";

    // What there was no room for.
    /// A connection must be tracked and the table is full.
    ConntrackFull = "conntrack_full";
    /// A connection must be tracked and the interface has as many as it may.
    AllowanceExceeded = "conntrack_allowance_exceeded";
    /// ICMP errors about connections, above the interface's allowance (D17).
    RelatedRate = "related_rate";
    /// A fragment, with as many of its sender's waiting for their first as may.
    FragmentFull = "fragment_full";
    /// The ring to the worker that owns the flow is full.
    HandOverFull = "hand_over_full";
    /// A frame in several buffers, for a port whose driver sends frames of one
    /// buffer only: larger buffers (`mbuf_room`) hold larger frames.
    Segmented = "segmented";
    /// A frame that is longer than the port it was to leave by carries, and is not
    /// to be cut.
    ExceedsMtu = "exceeds_mtu";
    /// A frame that its sender has left to be cut or completed, and that cannot be:
    /// neither TCP nor UDP, or more than 128 packets.
    OffloadRefused = "offload_refused";
    /// The port that it was to leave by is out of service, or was removed while it was on its way.
    PortGone = "port_gone";
    /// The transmit queue took no more.
    TransmitFull = "transmit_full";
    /// No mbuf was left for a copy.
    NoBuffer = "no_buffer";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How the groups of one end judge a packet for which that end has no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// No rule permits it.
    Denied,
    /// Permitted, and the flow must be remembered so that its replies pass.
    Tracked,
    /// Permitted by an all-addresses rule whose return direction is open to
    /// everything: judged by the rules on each packet, never remembered.
    Untracked,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_and_in_order() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
        }
    }
}
