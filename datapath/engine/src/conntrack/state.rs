/// What a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: asked for by one side.
    SynSent,
    /// TCP: answered by the other, or asked for by both at once.
    SynReceived,
    /// TCP: picked up in mid-stream (D30), seen from one side only.
    PickedUp,
    /// TCP: both sides have acknowledged each other.
    Established,
    /// TCP: one side has closed, and the other has acknowledged that.
    FinWait,
    /// TCP: both sides have closed, or one has reset it.
    Closed,
    /// UDP: never answered.
    UdpRequest,
    /// UDP: answered, one exchange so far.
    UdpReplied,
    /// UDP: asked again after an answer.
    UdpStream,
    /// ICMP: never answered.
    Icmp,
    /// ICMP: answered.
    IcmpReplied,
    /// Any other protocol.
    Other,
}

impl State {
    /// Whether it is one of UDP.
    #[inline]
    pub const fn is_udp(self) -> bool {
        matches!(self, State::UdpRequest | State::UdpReplied | State::UdpStream)
    }

    /// All, in order.
    pub const ALL: [State; 12] = [
        State::SynSent,
        State::SynReceived,
        State::PickedUp,
        State::Established,
        State::FinWait,
        State::Closed,
        State::UdpRequest,
        State::UdpReplied,
        State::UdpStream,
        State::Icmp,
        State::IcmpReplied,
        State::Other,
    ];

    /// Whether only one end has shown an interest so far. Anyone can open such
    /// connections by the million under false addresses.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            State::SynSent | State::SynReceived | State::PickedUp | State::UdpRequest | State::Icmp
        )
    }

    /// Whether a full table may give the connection up for a newcomer (D23):
    /// it is half-open, or over.
    #[inline]
    pub const fn is_expendable(self) -> bool {
        self.is_half_open() || matches!(self, State::Closed)
    }

    /// The stable name.
    pub const fn label(self) -> &'static str {
        match self {
            State::SynSent => "syn_sent",
            State::SynReceived => "syn_received",
            State::PickedUp => "picked_up",
            State::Established => "established",
            State::FinWait => "fin_wait",
            State::Closed => "closed",
            State::UdpRequest => "udp_request",
            State::UdpReplied => "udp_replied",
            State::UdpStream => "udp_stream",
            State::Icmp => "icmp",
            State::IcmpReplied => "icmp_replied",
            State::Other => "other",
        }
    }
}
