//! What a worker counts. One writer, any number of readers: the writer's
//! additions are a plain load and store, readers see each number whole.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ids::InterfaceId;
use crate::verdict::DropReason;

/// A number that one thread adds to and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only ever called by the one writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Replaces the number, for those that measure a level; by the writer only.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The number as it stands.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a packet passed: every packet that is not dropped or handed over counts
/// in exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PassClass {
    /// By state: each local end tracks the flow.
    Established,
    /// By a rule of at least one end, and remembered from now on.
    NewTracked,
    /// By rules alone; nothing is remembered (untracked class, or a TCP reset
    /// or FIN that opens nothing).
    Untracked,
    /// An ICMP error about a flow that may pass (D17).
    Related,
    /// What groups never filter: ARP, neighbour discovery, DHCP (D22).
    Exempt,
    /// Broadcast or multicast, permitted by the sender and at least one receiver.
    Flooded,
}

impl PassClass {
    /// All, in the order of the counters.
    pub const ALL: [PassClass; 6] = [
        PassClass::Established,
        PassClass::NewTracked,
        PassClass::Untracked,
        PassClass::Related,
        PassClass::Exempt,
        PassClass::Flooded,
    ];

    /// The stable name: the metric's label value.
    pub const fn label(self) -> &'static str {
        match self {
            PassClass::Established => "established",
            PassClass::NewTracked => "new_tracked",
            PassClass::Untracked => "untracked",
            PassClass::Related => "related",
            PassClass::Exempt => "exempt",
            PassClass::Flooded => "flooded",
        }
    }
}

/// Drops by reason.
#[derive(Debug)]
pub struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Drops {
        Drops(std::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    /// How many packets were dropped for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }

    /// Of every reason together.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    #[inline]
    fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].add(packets);
    }
}

/// What is counted for one interface slot. "Outbound" leaves the interface's
/// machine, "inbound" goes to it, as in the rules.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    /// Packets it sent that passed.
    pub outbound_packets: Counter,
    /// Their bytes, Ethernet header included.
    pub outbound_bytes: Counter,
    /// Packets passed on to it.
    pub inbound_packets: Counter,
    /// Their bytes, Ethernet header included.
    pub inbound_bytes: Counter,
    /// Connections it tracks now, told a little late.
    pub connections: Counter,
    /// Packets it sent, or that were meant for it, and that were dropped.
    pub drops: Drops,
}

/// All counters of one worker's pipeline.
#[derive(Debug)]
pub struct Counters {
    /// Drops of this worker, whosoever packets they were.
    pub drops: Drops,
    passed: [Counter; PassClass::ALL.len()],
    /// Lookups that found their connection.
    pub table_hits: Counter,
    /// Lookups that found none.
    pub table_misses: Counter,
    interfaces: Box<[InterfaceCounters]>,
}

impl Counters {
    /// For interfaces in slots below `interface_slots`; those beyond are counted
    /// in the totals only.
    pub fn new(interface_slots: usize) -> Counters {
        Counters {
            drops: Drops::default(),
            passed: Default::default(),
            table_hits: Counter::default(),
            table_misses: Counter::default(),
            interfaces: (0..interface_slots).map(|_| InterfaceCounters::default()).collect(),
        }
    }

    /// A packet was dropped; `at` is the interface it is counted at, if any.
    #[inline]
    pub fn dropped(&self, reason: DropReason, at: InterfaceId) {
        self.dropped_many(reason, at, 1);
    }

    /// Packets were dropped for one reason, at one interface.
    #[inline]
    pub(super) fn dropped_many(&self, reason: DropReason, at: InterfaceId, packets: u64) {
        self.drops.add(reason, packets);
        if let Some(interface) = self.interface(at) {
            interface.drops.add(reason, packets);
        }
    }

    /// How many packets passed in this class.
    pub fn passed(&self, class: PassClass) -> u64 {
        self.passed[class as usize].get()
    }

    /// The counters of the slot of this interface.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&InterfaceCounters> {
        if id.is_some() { self.interfaces.get(id.slot()) } else { None }
    }

    pub(super) fn tell_connections(&self, slot: usize, connections: u32) {
        if let Some(interface) = self.interfaces.get(slot) {
            interface.connections.set(connections.into());
        }
    }

    #[inline]
    pub(super) fn pass(&self, class: PassClass, sender: InterfaceId, bytes: u32) {
        self.pass_many(class, 1);
        self.sent(sender, 1, bytes.into());
    }

    /// Packets passed, to be told of their senders by [`Counters::sent`].
    #[inline]
    pub(super) fn pass_many(&self, class: PassClass, packets: u64) {
        self.passed[class as usize].add(packets);
    }

    #[inline]
    pub(super) fn sent(&self, sender: InterfaceId, packets: u64, bytes: u64) {
        if let Some(interface) = self.interface(sender) {
            interface.outbound_packets.add(packets);
            interface.outbound_bytes.add(bytes);
        }
    }

    #[inline]
    pub(super) fn delivered(&self, receiver: InterfaceId, packets: u64, bytes: u64) {
        if let Some(interface) = self.interface(receiver) {
            interface.inbound_packets.add(packets);
            interface.inbound_bytes.add(bytes);
        }
    }
}
