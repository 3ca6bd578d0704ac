/// What a port offers of receive side scaling: spreading packets over its
/// receive queues by a hash of their headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The kinds of packets it can hash: DPDK's `RTE_ETH_RSS_` bits.
    pub packet_types: u64,
    /// Bytes of the hash's key; 0 if the driver does not say.
    pub key_bytes: u8,
    /// Entries of the table from hashes to queues; 0 if it has none.
    pub table_entries: u16,
}

impl Rss {
    /// Whether it offers any.
    pub fn is_offered(&self) -> bool {
        self.packet_types != 0
    }
}
