//! Small numbers that name things inside a switch.

use std::fmt;

/// A port as the switch numbers it: its slot in the low eight bits, and above them
/// how often that slot had been given away before.
///
/// Packets under way keep this number. When a port is removed and its slot is given
/// to another, the numbers differ, and nothing of the one is taken for the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u16);

impl PortIndex {
    /// How many slots there can be.
    pub const MAX_SLOTS: usize = 1 << 8;

    /// The index into whatever is kept by port.
    #[inline]
    pub const fn slot(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// The number of the next port in the same slot; after 256 of them they begin anew.
    pub const fn successor(self) -> PortIndex {
        PortIndex(self.0.wrapping_add(1 << 8))
    }
}

/// A VPC of the snapshot: the scope of addresses. Stable while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct VpcIndex(pub u16);

/// A worker, 0 to N - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerIndex(pub u8);

/// A VLAN identifier, 1 to 4094 (IEEE 802.1Q).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(pub u16);

/// An interface: its slot in the snapshot and the slot's incarnation.
///
/// Connections keep this number. When an interface is deleted and its slot is
/// given to another, the incarnation differs and old connections no longer match.
/// `NONE` (zero) stands for an end that is not on this switch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct InterfaceId(u32);

impl InterfaceId {
    /// Not an interface of this switch.
    pub const NONE: InterfaceId = InterfaceId(0);
    /// How many slots there can be: 2^20.
    pub const MAX_SLOTS: usize = 1 << 20;

    /// `incarnation` is 1 to 4095, `slot` below [`Self::MAX_SLOTS`]; higher bits are cut off.
    pub const fn new(slot: u32, incarnation: u16) -> InterfaceId {
        InterfaceId((incarnation as u32) << 20 | slot & 0xf_ffff)
    }

    /// The index into the snapshot's interfaces.
    #[inline]
    pub const fn slot(self) -> usize {
        (self.0 & 0xf_ffff) as usize
    }

    /// Which use of the slot this is; 0 only for `NONE`.
    #[inline]
    pub const fn incarnation(self) -> u16 {
        (self.0 >> 20) as u16
    }

    /// Whether this names an interface at all.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Debug for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.incarnation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_away_again_has_another_number() {
        let first = PortIndex(3);
        let mut port = first;
        for _ in 0..255 {
            port = port.successor();
            assert_eq!(port.slot(), 3);
            assert_ne!(port, first);
        }
        assert_eq!(port.successor(), first);
    }
}
