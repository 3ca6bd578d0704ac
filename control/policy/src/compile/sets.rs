//! The sets of groups that interfaces have, each with its policy and whose it is.

use std::sync::Arc;

use imbl::OrdSet;

use super::rules::Compiled;
use crate::by_id::HashMap;
use crate::model::{Id, NetworkInterface};

/// A set of groups: their ids, in order.
pub(super) type Groups = Arc<[Id]>;

/// The sets in use. A copy shares all that is the same.
#[derive(Clone, Default)]
pub(super) struct Sets {
    /// Each in memory of its own: what is copied for a change counts up what it shares.
    sets: HashMap<Groups, Arc<Set>>,
    /// The sets that each group in use is in.
    by_group: HashMap<Id, OrdSet<Groups>>,
}

#[derive(Clone, Default)]
struct Set {
    compiled: Option<Compiled>,
    interfaces: OrdSet<Id>,
}

impl Sets {
    /// An interface has these groups.
    pub fn add(&mut self, interface: &NetworkInterface) {
        if let Some(set) = self.sets.get_mut(&interface.groups[..]) {
            Arc::make_mut(set).interfaces.insert(interface.id.clone());
            return;
        }
        let groups: Groups = interface.groups.as_slice().into();
        let set = Set { compiled: None, interfaces: OrdSet::unit(interface.id.clone()) };
        self.sets.insert(groups.clone(), Arc::new(set));
        for group in groups.iter() {
            self.by_group.entry(group.clone()).or_default().insert(groups.clone());
        }
    }

    /// It has them no longer. A set that nobody has is forgotten.
    pub fn remove(&mut self, interface: &NetworkInterface) {
        let Some(set) = self.sets.get_mut(&interface.groups[..]) else { return };
        let set = Arc::make_mut(set);
        set.interfaces.remove(&interface.id);
        if !set.interfaces.is_empty() {
            return;
        }
        self.sets.remove(&interface.groups[..]);
        for group in &interface.groups {
            if let Some(sets) = self.by_group.get_mut(group) {
                sets.remove(&interface.groups[..]);
                if sets.is_empty() {
                    self.by_group.remove(group);
                }
            }
        }
    }

    /// Whether an interface has this group.
    pub fn is_used(&self, group: &str) -> bool {
        self.by_group.contains_key(group)
    }

    /// The groups that interfaces have.
    pub fn used(&self) -> impl Iterator<Item = &Id> {
        self.by_group.keys()
    }

    /// The sets that a group is in.
    pub fn with(&self, group: &str) -> impl Iterator<Item = &Groups> {
        self.by_group.get(group).into_iter().flatten()
    }

    /// Whose the groups are.
    pub fn interfaces(&self, groups: &[Id]) -> impl Iterator<Item = &Id> {
        self.sets.get(groups).into_iter().flat_map(|set| &set.interfaces)
    }

    /// What a set compiles to; `None` for one that is not compiled, or not in use.
    pub fn compiled(&self, groups: &[Id]) -> Option<&Compiled> {
        self.sets.get(groups)?.compiled.as_ref()
    }

    /// Sets it.
    pub fn compile(&mut self, groups: &[Id], compiled: Compiled) {
        if let Some(set) = self.sets.get_mut(groups) {
            Arc::make_mut(set).compiled = Some(compiled);
        }
    }

    /// The sets in use.
    pub fn iter(&self) -> impl Iterator<Item = &Groups> {
        self.sets.keys()
    }
}
