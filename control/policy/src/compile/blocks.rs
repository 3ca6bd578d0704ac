//! The blocks that rules in use name, and those of prefix lists that these name:
//! counted, so that a change costs by what changed.

use engine::addr::Prefix;
use engine::policy::SourceId;
use imbl::OrdMap;
use ipnet::IpNet;

use super::rules::{Lists, Source, Sources, prefix};
use crate::by_id::HashMap;
use crate::model::{Id, Peer, PrefixList, SecurityGroup, Validated};

/// Blocks and how often each is named. A copy shares all that is the same.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    counts: OrdMap<(IpNet, SourceId), u32>,
    /// Rules that name a prefix list.
    lists: HashMap<Id, u32>,
    /// Whether other blocks are named than when this was last asked.
    changed: bool,
}

impl Blocks {
    /// Counts what a group's rules name.
    pub fn add(&mut self, sources: &mut Sources, all: &Validated, group: &SecurityGroup, lists: Lists) {
        self.each_of(sources, all, group, lists, true);
    }

    /// No longer counts it.
    pub fn remove(&mut self, sources: &mut Sources, all: &Validated, group: &SecurityGroup, lists: Lists) {
        self.each_of(sources, all, group, lists, false);
    }

    /// A prefix list has become another.
    pub fn replace(&mut self, sources: &mut Sources, [old, new]: [Option<&PrefixList>; 2], lists: Lists) {
        let id = old.or(new).map(|list| list.id.as_str());
        if id.is_some_and(|id| self.lists.contains_key(id)) {
            for (list, add) in [(old, false), (new, true)] {
                list.into_iter().for_each(|list| self.entries(sources, list, lists, add));
            }
        }
    }

    fn each_of(
        &mut self,
        sources: &mut Sources,
        all: &Validated,
        group: &SecurityGroup,
        lists: Lists,
        add: bool,
    ) {
        for rule in group.inbound.iter().chain(&group.outbound) {
            match &rule.peer {
                Peer::Cidr(net) if net.prefix_len() > 0 => {
                    self.count((*net, sources.of(Source::Cidr(*net))), add);
                }
                Peer::PrefixList(id) => {
                    let (before, after) = change(&mut self.lists, id.clone(), add);
                    if before.min(after) == 0
                        && let Some(list) = all.prefix_lists.get(id)
                    {
                        self.entries(sources, list, lists, add);
                    }
                }
                Peer::Cidr(_) | Peer::Group { .. } => {}
            }
        }
    }

    fn entries(&mut self, sources: &mut Sources, list: &PrefixList, lists: Lists, add: bool) {
        for (net, _) in &list.entries {
            let source = match lists {
                Lists::AsSources => Source::PrefixList(list.id.clone()),
                Lists::AsBlocks => Source::Cidr(*net),
            };
            self.count((*net, sources.of(source)), add);
        }
    }

    fn count(&mut self, block: (IpNet, SourceId), add: bool) {
        let (before, after) = match self.counts.get_mut(&block) {
            Some(count) => {
                let before = *count;
                *count = if add { before + 1 } else { before - 1 };
                (before, *count)
            }
            None => {
                self.counts.insert(block, 1);
                (0, 1)
            }
        };
        if after == 0 {
            self.counts.remove(&block);
        }
        self.changed |= before.min(after) == 0;
    }

    /// They count as changed, whatever is added.
    pub fn begin_anew(&mut self) {
        self.changed = true;
    }

    /// Whether other blocks are named than when this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The blocks, each once.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, SourceId)> {
        self.counts.keys().map(|(net, source)| (prefix(net), *source))
    }
}

/// One more or less; how many there were, and are. What is at none is forgotten.
fn change(counts: &mut HashMap<Id, u32>, key: Id, add: bool) -> (u32, u32) {
    let before = counts.get(&key).copied().unwrap_or(0);
    let after = if add { before + 1 } else { before.saturating_sub(1) };
    match after {
        0 => drop(counts.remove(&key)),
        _ => drop(counts.insert(key, after)),
    }
    (before, after)
}
