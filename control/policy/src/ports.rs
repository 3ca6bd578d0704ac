use std::collections::BTreeMap;

use engine::ids::PortIndex;

/// The ports that a policy may bind, by name.
///
/// A port that was removed while a policy binds it stays known, without a number:
/// its bindings are noticed and lead nowhere, until it comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(BTreeMap<String, Option<PortIndex>>);

impl Ports {
    /// Whether there is such a port, or was one that is still bound.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Its number, if it is there.
    pub fn index(&self, name: &str) -> Option<PortIndex> {
        self.0.get(name).copied().flatten()
    }

    /// Adds a port. `None`: it was removed, and is bound.
    pub fn insert(&mut self, name: String, index: Option<PortIndex>) {
        self.0.insert(name, index);
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PortIndex)> {
        self.0.iter().filter_map(|(name, index)| Some((name.as_str(), (*index)?)))
    }
}

impl<S: Into<String>> FromIterator<S> for Ports {
    /// Numbers them in order.
    fn from_iter<T: IntoIterator<Item = S>>(names: T) -> Ports {
        let numbered = (0..).zip(names).map(|(n, name)| (name.into(), Some(PortIndex(n))));
        Ports(numbered.collect())
    }
}
