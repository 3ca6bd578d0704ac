use hashbrown::HashMap;

use super::SourceId;
use crate::addr::{Addr, Family, Prefix};
use crate::arch::prefetch_slice;

/// The most blocks and prefix lists that may hold one address.
pub const MAX_COVERING: usize = 64;

/// Bits of an address that one node decides.
const STRIDE: u32 = 6;

/// For each address the sources whose blocks hold it: for each family a table of
/// its first bits, and behind it a trie of six bits a step, children and leaves
/// found by counting bits, so that a node takes 24 bytes however full it is. At
/// most 4 nodes for IPv4 (2 where there are many blocks), 21 for IPv6.
#[derive(Clone, Debug)]
pub struct Cidrs {
    tries: [Trie; 2],
    /// The lists that leaves refer to, one after the other, each behind its length:
    /// none, or more than one. One source alone is in the leaf itself.
    sources: Vec<SourceId>,
}

impl Default for Cidrs {
    fn default() -> Cidrs {
        Cidrs::new([]).expect("nothing covers nothing")
    }
}

/// A block lies within more than [`MAX_COVERING`] others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyCovering(pub Prefix);

/// The bits that the table of a family decides, for so many blocks of it: it
/// takes four bytes for each, which are worth a step of the trie.
fn root_bits(family: usize, blocks: usize) -> u32 {
    match (family, blocks) {
        (_, 0..=8) => 6,
        (0, 2049..) => 18,
        _ => 12,
    }
}

#[derive(Clone, Debug)]
struct Trie {
    root_bits: u32,
    /// By the first bits: [`NODE`] and a node, or a leaf.
    root: Vec<SourceId>,
    nodes: Vec<Node>,
    /// While the trie is built, numbers of classes; then a source, or [`LIST`] and
    /// where a list lies.
    leaves: Vec<SourceId>,
}

/// Of an entry of the root: it leads to a node.
const NODE: u32 = 1 << 31;

/// Of a leaf: it is not a source.
const LIST: u32 = 1 << 30;

/// A step of six bits: the bits of `inner` lead to nodes, the others to leaves.
/// Equal leaves beside each other are kept once: `runs` has a bit where one begins.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    inner: u64,
    runs: u64,
    first_node: u32,
    first_leaf: u32,
}

/// An interned list of sources, while a trie is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Class(u32);

impl Trie {
    /// Asks for the line that a search begins at.
    #[inline]
    fn prefetch(&self, bits: u128) {
        prefetch_slice(&self.root, ((bits >> 64) as u64 >> (64 - self.root_bits)) as usize);
    }

    #[inline]
    fn leaf(&self, bits: u128) -> Option<&SourceId> {
        // Of IPv4 all bits are in the upper half, of IPv6 most that matter.
        let upper = (bits >> 64) as u64;
        let entry = &self.root[(upper >> (64 - self.root_bits)) as usize];
        if entry.0 & NODE == 0 {
            return Some(entry);
        }
        let mut at = (entry.0 ^ NODE) as usize;
        let mut offset = self.root_bits;
        // The trie is at most 21 deep; the bound is for the reader.
        while let Some(node) = self.nodes.get(at) {
            let branch = match offset + STRIDE <= 64 {
                true => (upper << offset >> (64 - STRIDE)) as u32,
                false => branch(bits, offset),
            };
            let up_to = u64::MAX >> (63 - branch);
            if node.inner >> branch & 1 == 0 {
                let run = (node.runs & up_to).count_ones() as usize;
                return self.leaves.get(node.first_leaf as usize + run - 1);
            }
            at = node.first_node as usize + (node.inner & up_to).count_ones() as usize - 1;
            offset += STRIDE;
        }
        None
    }
}

/// The six bits from `offset` on; beyond the end they are 0.
#[inline]
fn branch(bits: u128, offset: u32) -> u32 {
    (bits << offset >> (128 - STRIDE)) as u32
}

/// The address, of this family, as the trie reads it, from its first bit on.
#[inline]
fn bits(family: Family, addr: Addr) -> u128 {
    match family {
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
            let block = Block {
                bits: bits(prefix.family(), prefix.addr()),
                length: u32::from(prefix.length()),
                source,
            };
            by_family[prefix.family() as usize].push(block);
        }
        let mut classes = Classes::default();
        let mut tries = Vec::with_capacity(2);
        for (family, blocks) in by_family.iter_mut().enumerate() {
            blocks.sort_unstable_by_key(|b| (b.bits, b.length, b.source));
            tries.push(trie(&mut classes, blocks, root_bits(family, blocks.len())).map_err(|block| {
                let addr = if family == 0 { Addr::v4((block.bits >> 96) as u32) } else { Addr(block.bits) };
                TooManyCovering(Prefix::new(addr, block.length as u8).unwrap_or(Prefix::host(addr)))
            })?);
        }
        let mut sources = Vec::new();
        let leaves = classes.lists.iter().map(|list| match list[..] {
            [source] if source.0 < LIST => source,
            _ => {
                sources.push(SourceId(list.len() as u32));
                sources.extend_from_slice(list);
                SourceId(LIST | (sources.len() - list.len() - 1) as u32)
            }
        });
        let leaves: Vec<SourceId> = leaves.collect();
        for Trie { root, leaves: own, .. } in &mut tries {
            let classes = root.iter_mut().filter(|entry| entry.0 & NODE == 0).chain(own);
            classes.for_each(|class| *class = leaves[class.0 as usize]);
        }
        let [v4, v6] = tries.try_into().expect("a trie for each family");
        Ok(Cidrs { tries: [v4, v6], sources })
    }

    /// The sources whose blocks hold the address, each once.
    #[inline]
    pub fn covering(&self, addr: Addr) -> &[SourceId] {
        self.covering_of(addr.family(), addr)
    }

    /// The same of an address whose family is known.
    #[inline]
    pub(super) fn covering_of(&self, family: Family, addr: Addr) -> &[SourceId] {
        let Some(leaf) = self.tries[family as usize].leaf(bits(family, addr)) else { return &[] };
        if leaf.0 & LIST == 0 {
            return std::slice::from_ref(leaf);
        }
        let [count, rest @ ..] = &self.sources[(leaf.0 ^ LIST) as usize..] else { return &[] };
        &rest[..count.0 as usize]
    }

    /// Asks for the line that a search for the address begins at.
    #[inline]
    pub(super) fn prefetch(&self, family: Family, addr: Addr) {
        self.tries[family as usize].prefetch(bits(family, addr));
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

/// The trie of sorted blocks behind a table of so many bits.
fn trie(classes: &mut Classes, blocks: &[Block], root_bits: u32) -> Result<Trie, Block> {
    let first = |block: &Block| (block.bits >> (128 - root_bits)) as usize;
    let mut slots = vec![Class::default(); 1 << root_bits];
    for block in blocks.iter().filter(|b| b.length <= root_bits) {
        let count = 1 << (root_bits - block.length);
        fill(classes, &mut slots[first(block)..][..count], block)?;
    }
    let root = slots.iter().map(|class| SourceId(class.0)).collect();
    let mut trie = Trie { root_bits, root, nodes: Vec::new(), leaves: Vec::new() };
    for chunk in blocks.chunk_by(|a, b| first(a) == first(b)) {
        let longer: Vec<Block> = chunk.iter().copied().filter(|b| b.length > root_bits).collect();
        if let Some(block) = longer.first() {
            let (slot, at) = (first(block), trie.nodes.len());
            trie.nodes.push(Node::default());
            trie.root[slot] = SourceId(NODE | at as u32);
            build(&mut trie, classes, at, root_bits, &longer, slots[slot])?;
        }
    }
    Ok(trie)
}

/// Adds a block to what it covers.
fn fill(classes: &mut Classes, slots: &mut [Class], block: &Block) -> Result<(), Block> {
    let mut last = None;
    for slot in slots {
        // Most that lie beside each other are the same.
        let with = match last {
            Some((before, with)) if before == *slot => with,
            _ => classes.with(*slot, block.source).ok_or(*block)?,
        };
        last = Some((*slot, with));
        *slot = with;
    }
    Ok(())
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
        fill(classes, &mut slots[first..first + count], block)?;
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
            trie.leaves.push(SourceId(class.0));
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
        fn finds_what_a_walk_finds(
            list in proptest::collection::vec((prefixes(), 0u32..9), 0..40),
            // What others there are decides how many bits the table has.
            others in prop_oneof![8 => 0u32..12, 1 => Just(3000)],
        ) {
            let other = |n: u32| (Prefix::new(Addr::v4(0xc000_0000 | n << 12), 28).unwrap(), SourceId(9));
            let list = list.into_iter().map(|(p, s)| (p, SourceId(s)));
            let blocks: Vec<_> = list.chain((0..others).map(other)).collect();
            let cidrs = Cidrs::new(blocks.clone()).unwrap();
            let near = blocks.len() - others as usize..blocks.len();
            for (prefix, _) in blocks[..near.start].iter().chain(blocks[near].iter().take(3)) {
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
