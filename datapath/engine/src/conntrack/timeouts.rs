use super::State;
use crate::time::Ticks;

/// How long a silent connection is remembered (D18). EC2's names and ranges
/// for the first three: `ConnectionTrackingConfiguration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// `TcpEstablishedTimeout`.
    pub tcp_established: Ticks,
    /// `UdpTimeout`: a flow that saw one direction, or a single exchange.
    pub udp: Ticks,
    /// `UdpStreamTimeout`: a flow with more than one request and reply.
    pub udp_stream: Ticks,
    /// Every other protocol (S48), and TCP in mid-stream seen from one side only.
    pub other: Ticks,
    /// TCP before its handshake is complete.
    pub syn: Ticks,
    /// TCP with one direction closed, or with an end announced (a FIN or reset)
    /// that the other side has not confirmed.
    pub closing: Ticks,
    /// TCP after both directions were closed, or a reset.
    pub closed: Ticks,
    /// ICMP queries and messages.
    pub icmp: Ticks,
}

impl Timeouts {
    /// EC2's defaults, and ours where EC2 names none.
    pub const DEFAULT: Timeouts = Timeouts {
        tcp_established: Ticks::from_secs(432_000),
        udp: Ticks::from_secs(30),
        udp_stream: Ticks::from_secs(180),
        other: Ticks::from_secs(600),
        syn: Ticks::from_secs(30),
        closing: Ticks::from_secs(60),
        closed: Ticks::from_secs(10),
        icmp: Ticks::from_secs(30),
    };

    /// The longer ones of two ends that both track a connection.
    pub fn longest(&self, other: &Timeouts) -> Timeouts {
        Timeouts {
            tcp_established: self.tcp_established.max(other.tcp_established),
            udp: self.udp.max(other.udp),
            udp_stream: self.udp_stream.max(other.udp_stream),
            other: self.other.max(other.other),
            syn: self.syn.max(other.syn),
            closing: self.closing.max(other.closing),
            closed: self.closed.max(other.closed),
            icmp: self.icmp.max(other.icmp),
        }
    }

    /// How long a connection in this state lives without a packet.
    #[inline]
    pub fn of(&self, state: State) -> Ticks {
        match state {
            State::SynSent | State::SynReceived => self.syn,
            // No better known than a flow without states.
            State::PickedUp => self.tcp_established.min(self.other),
            State::Established => self.tcp_established,
            State::FinWait => self.closing,
            State::Closed => self.closed,
            State::UdpRequest | State::UdpReplied => self.udp,
            State::UdpStream => self.udp_stream,
            State::Icmp | State::IcmpReplied => self.icmp,
            State::Other => self.other,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts::DEFAULT
    }
}
