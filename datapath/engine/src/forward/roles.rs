use super::Uplink;
use crate::ids::{InterfaceId, PortIndex};

/// What a port is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortRole {
    /// Bound to nothing: all it sends is dropped.
    #[default]
    Unbound,
    /// Serves one interface, untagged.
    Interface(InterfaceId),
    /// Leads to the rest of the network.
    Uplink(Uplink),
}

/// The role of each port. A port without one is unbound, and so is one that has
/// the slot of another that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRoles(Vec<(PortIndex, PortRole)>);

impl PortRoles {
    /// What the port is for.
    #[inline]
    pub fn get(&self, port: PortIndex) -> &PortRole {
        match self.0.get(port.slot()) {
            Some((index, role)) if *index == port => role,
            _ => &PortRole::Unbound,
        }
    }

    /// The ports that lead to the rest of the network.
    pub fn uplinks(&self) -> impl Iterator<Item = PortIndex> {
        self.0.iter().filter(|(_, role)| matches!(role, PortRole::Uplink(_))).map(|(port, _)| *port)
    }

    /// Gives a port its role.
    pub fn set(&mut self, port: PortIndex, role: PortRole) {
        while self.0.len() <= port.slot() {
            self.0.push((PortIndex(self.0.len() as u16), PortRole::Unbound));
        }
        self.0[port.slot()] = (port, role);
    }
}

impl FromIterator<(PortIndex, PortRole)> for PortRoles {
    fn from_iter<T: IntoIterator<Item = (PortIndex, PortRole)>>(roles: T) -> PortRoles {
        let mut all = PortRoles::default();
        roles.into_iter().for_each(|(port, role)| all.set(port, role));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_of_one_port_and_not_of_its_slot() {
        let role = PortRole::Interface(InterfaceId::new(1, 1));
        let old = PortIndex(2);
        let new = old.successor();
        let roles: PortRoles = [(new, role.clone())].into_iter().collect();
        assert_eq!(*roles.get(new), role);
        for unbound in [old, new.successor(), PortIndex(0), PortIndex(3), PortIndex(255)] {
            assert_eq!(*roles.get(unbound), PortRole::Unbound, "{unbound:?}");
        }
    }
}
