use hashbrown::HashMap;

use super::SourceId;
use crate::addr::{Addr, Family, Prefix};

/// The most blocks and prefix lists that may hold one address.
pub const MAX_COVERING: usize = 64;

/// Bits of an address that one node decides.
const STRIDE: u32 = 6;

/// For each address the sources whose blocks hold it: a trie for each family,
/// six bits a step, children and leaves found by counting bits, so that a node
/// takes 24 bytes however full it is. At most 6 steps for IPv4, 22 for IPv6.
#[derive(Clone, Debug)]
pub struct Cidrs {
    tries: [Trie; 2],
    /// The lists that leaves refer to, one after the other.
    sources: Vec<SourceId>,
    /// Start and end of each list.
    classes: Vec<(u32, u32)>,
}

impl Default for Cidrs {
    fn default() -> Cidrs {
        Cidrs::new([]).expect("nothing covers nothing")
    }
}

/// A block lies within more than [`MAX_COVERING`] others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyCovering(pub Prefix);

#[derive(Clone, Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
    leaves: Vec<Class>,
}

/// A step of six bits: the bits of `inner` lead to nodes, the others to leaves.
/// Equal leaves beside each other are kept once: `runs` has a bit where one begins.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    inner: u64,
    runs: u64,
    first_node: u32,
    first_leaf: u32,
}

/// An interned list of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Class(u32);

impl Trie {
    #[inline]
    fn class(&self, bits: u128) -> Class {
        let mut at = 0;
        let mut offset = 0;
        // The trie is at most 22 deep; the bound is for the reader.
        while let Some(node) = self.nodes.get(at) {
            let branch = branch(bits, offset);
            let up_to = u64::MAX >> (63 - branch);
            if node.inner >> branch & 1 == 0 {
                let run = (node.runs & up_to).count_ones() as usize;
                return self.leaves[node.first_leaf as usize + run - 1];
            }
            at = node.first_node as usize + (node.inner & up_to).count_ones() as usize - 1;
            offset += STRIDE;
        }
        Class::default()
    }
}

/// The six bits from `offset` on; beyond the end they are 0.
#[inline]
fn branch(bits: u128, offset: u32) -> u32 {
    (bits << offset >> (128 - STRIDE)) as u32
}

/// The address as the trie reads it, from its first bit on.
#[inline]
fn bits(addr: Addr) -> u128 {
    match addr.family() {
        Family::V4 => addr.0 << 96,
        Family::V6 => addr.0,
    }
}

/// A block on its way into a trie.
#[derive(Clone, Copy)]
struct Block {
    bits: u128,
    length: u32,
    source: SourceId,
}

impl Cidrs {
    /// From blocks in any order; a block may have several sources.
    ///
    /// # Errors
    /// [`TooManyCovering`] names a block that lies in too many others.
    pub fn new(blocks: impl IntoIterator<Item = (Prefix, SourceId)>) -> Result<Cidrs, TooManyCovering> {
        let mut by_family = [Vec::new(), Vec::new()];
        for (prefix, source) in blocks {
            let block = Block { bits: bits(prefix.addr()), length: u32::from(prefix.length()), source };
            by_family[prefix.family() as usize].push(block);
        }
        let mut classes = Classes::default();
        let mut tries = [Trie::default(), Trie::default()];
        for (family, blocks) in by_family.iter_mut().enumerate() {
            blocks.sort_unstable_by_key(|b| (b.bits, b.length, b.source));
            let trie = &mut tries[family];
            trie.nodes.push(Node::default());
            build(trie, &mut classes, 0, 0, blocks, Class::default()).map_err(|block| {
                let addr = if family == 0 { Addr::v4((block.bits >> 96) as u32) } else { Addr(block.bits) };
                TooManyCovering(Prefix::new(addr, block.length as u8).unwrap_or(Prefix::host(addr)))
            })?;
        }
        let mut sources = Vec::new();
        let spans = classes.lists.iter().map(|list| {
            let start = sources.len() as u32;
            sources.extend_from_slice(list);
            (start, sources.len() as u32)
        });
        let classes = spans.collect();
        Ok(Cidrs { tries, sources, classes })
    }

    /// The sources whose blocks hold the address, each once.
    #[inline]
    pub fn covering(&self, addr: Addr) -> &[SourceId] {
        let class = self.tries[addr.family() as usize].class(bits(addr));
        let (start, end) = self.classes[class.0 as usize];
        &self.sources[start as usize..end as usize]
    }
}

/// Interned lists of sources, each list made from another by one more.
struct Classes {
    lists: Vec<Vec<SourceId>>,
    with: HashMap<(Class, SourceId), Class>,
    known: HashMap<Vec<SourceId>, Class>,
}

impl Default for Classes {
    fn default() -> Classes {
        Classes { lists: vec![vec![]], with: HashMap::new(), known: HashMap::from_iter([(vec![], Class(0))]) }
    }
}

impl Classes {
    /// The list with one more source; `None` if it would be too long.
    fn with(&mut self, class: Class, source: SourceId) -> Option<Class> {
        if let Some(known) = self.with.get(&(class, source)) {
            return Some(*known);
        }
        let mut list = self.lists[class.0 as usize].clone();
        if let Err(at) = list.binary_search(&source) {
            list.insert(at, source);
        }
        if list.len() > MAX_COVERING {
            return None;
        }
        let fresh = Class(self.lists.len() as u32);
        let next = *self.known.entry(list).or_insert_with_key(|list| {
            self.lists.push(list.clone());
            fresh
        });
        self.with.insert((class, source), next);
        Some(next)
    }
}

/// Fills the node `at`, which decides the bits from `offset` on, with sorted
/// blocks that agree in all bits before and are longer than that; `inherited`
/// are the sources of the blocks that hold all of it.
fn build(
    trie: &mut Trie,
    classes: &mut Classes,
    at: usize,
    offset: u32,
    blocks: &[Block],
    inherited: Class,
) -> Result<(), Block> {
    let mut slots = [inherited; 64];
    for block in blocks.iter().filter(|b| b.length <= offset + STRIDE) {
        let first = branch(block.bits, offset) as usize;
        // The last step of IPv6 has two bits only: the others are 0 in every address.
        let count = 1 << (offset + STRIDE - block.length);
        for slot in &mut slots[first..first + count] {
            *slot = classes.with(*slot, block.source).ok_or(*block)?;
        }
    }
    let deeper: Vec<&[Block]> = blocks
        .chunk_by(|a, b| branch(a.bits, offset) == branch(b.bits, offset))
        .filter(|chunk| chunk.iter().any(|b| b.length > offset + STRIDE))
        .collect();
    let inner = deeper.iter().fold(0, |inner, chunk| inner | 1u64 << branch(chunk[0].bits, offset));
    let mut node =
        Node { inner, runs: 0, first_node: trie.nodes.len() as u32, first_leaf: trie.leaves.len() as u32 };
    let mut last = None;
    for (branch, class) in slots.iter().enumerate().filter(|(branch, _)| inner >> branch & 1 == 0) {
        if last != Some(class) {
            node.runs |= 1 << branch;
            trie.leaves.push(*class);
            last = Some(class);
        }
    }
    let first_node = trie.nodes.len();
    trie.nodes.resize(first_node + deeper.len(), Node::default());
    trie.nodes[at] = node;
    for (child, chunk) in deeper.iter().enumerate() {
        let slot = branch(chunk[0].bits, offset) as usize;
        // Shorter blocks of the chunk are in `inherited` already.
        let longer: Vec<Block> = chunk.iter().copied().filter(|b| b.length > offset + STRIDE).collect();
        build(trie, classes, first_node + child, offset + STRIDE, &longer, slots[slot])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(blocks: &[(Prefix, SourceId)], addr: Addr) -> Vec<SourceId> {
        let mut list: Vec<_> = blocks.iter().filter(|(p, _)| p.contains(addr)).map(|(_, s)| *s).collect();
        list.sort();
        list.dedup();
        list
    }

    fn prefixes() -> impl Strategy<Value = Prefix> {
        // Few distinct bits, so that blocks nest and touch.
        let v4 =
            (any::<u8>(), 0u8..=32).prop_map(|(n, l)| (Addr::v4(0x0a00_0000 | u32::from(n) << (n % 20)), l));
        let v6 = (any::<u8>(), 0u8..=128)
            .prop_map(|(n, l)| (Addr(0x2001_0db8 << 96 | u128::from(n) << (u32::from(n) % 90)), l));
        prop_oneof![v4, v6].prop_filter_map("a prefix", |(a, l)| Prefix::new(a, l))
    }

    proptest! {
        #[test]
        fn finds_what_a_walk_finds(list in proptest::collection::vec((prefixes(), 0u32..9), 0..40)) {
            let blocks: Vec<_> = list.into_iter().map(|(p, s)| (p, SourceId(s))).collect();
            let cidrs = Cidrs::new(blocks.clone()).unwrap();
            for (prefix, _) in &blocks {
                let first = prefix.addr();
                // The block's edges, and the addresses just outside of them.
                let size = match prefix.family() {
                    Family::V4 => (1u128 << (32 - prefix.length())) - 1,
                    Family::V6 => u128::MAX.checked_shr(u32::from(prefix.length())).unwrap_or(0),
                };
                let last = Addr(first.0.wrapping_add(size));
                for addr in [first, last, Addr(first.0.wrapping_sub(1)), Addr(last.0.wrapping_add(1))] {
                    let mut found = cidrs.covering(addr).to_vec();
                    found.sort();
                    prop_assert_eq!(found, slow(&blocks, addr), "{} near {}", addr, prefix);
                }
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let addr = Addr(0x2001_0db8 << 96);
        let nest = |n: u8| (1..=n).map(move |l| (Prefix::new(addr, l).unwrap(), SourceId(u32::from(l))));
        assert_eq!(Cidrs::new(nest(64)).unwrap().covering(addr).len(), 64);
        assert_eq!(Cidrs::new(nest(65)).unwrap_err(), TooManyCovering(Prefix::new(addr, 65).unwrap()));
    }

    #[test]
    fn an_empty_table_covers_nothing() {
        assert!(Cidrs::default().covering(Addr::v4(1)).is_empty());
        assert!(Cidrs::default().covering(Addr(1)).is_empty());
    }
}
