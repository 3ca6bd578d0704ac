//! Memory near the workers that use it, on machines with several NUMA nodes.

use std::collections::BTreeMap;
use std::fs::read_dir;
use std::path::Path;

use dpdk::Mempool;

/// The NUMA node of a CPU; `None` where the system does not say.
pub(crate) fn node_of(cpu: usize) -> Option<u32> {
    node_in(Path::new("/sys/devices/system/cpu"), cpu)
}

/// A CPU's folder has a link to its node's.
fn node_in(folder: &Path, cpu: usize) -> Option<u32> {
    let links = read_dir(folder.join(format!("cpu{cpu}"))).ok()?;
    links.flatten().find_map(|link| link.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// The pools that workers receive into: one for each node that has workers.
///
/// With all workers on one node that is the pool there is.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    first: Mempool,
    /// `None`: DPDK has no memory at that node.
    near: BTreeMap<u32, Option<Mempool>>,
}

impl Pools {
    /// For workers at these nodes; `first` is at any. `make` makes one at a node.
    pub fn new(
        first: &Mempool,
        nodes: &[Option<u32>],
        make: impl Fn(u32) -> Result<Mempool, dpdk::Error>,
    ) -> Pools {
        let is_one = nodes.iter().all(|node| *node == nodes[0]);
        let all = nodes.iter().flatten().filter(|_| !is_one);
        let mut near = BTreeMap::new();
        for node in all {
            near.entry(*node).or_insert_with(|| make(*node).ok());
        }
        Pools { first: first.clone(), near }
    }

    /// The pool for a worker at this node.
    pub fn at(&self, node: Option<u32>) -> &Mempool {
        let near = node.and_then(|node| self.near.get(&node)?.as_ref());
        near.unwrap_or(&self.first)
    }

    /// Whether a worker at this node has to do with memory of another.
    pub fn is_far(&self, node: Option<u32>) -> bool {
        node.is_some_and(|node| self.near.get(&node).is_some_and(Option::is_none))
    }
}

/// Makes a pool like this one at a node.
pub(crate) fn at_node(pool: &Mempool, node: u32) -> Result<Mempool, dpdk::Error> {
    pool.sibling(&format!("{}-node{node}", pool.name()), Some(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpdk::MempoolConfig;

    #[test]
    fn a_cpu_is_at_the_node_that_its_folder_names() {
        let folder = std::env::temp_dir().join(format!("sgswitch-numa-{}", std::process::id()));
        for path in ["cpu0/node0", "cpu1/cache", "cpu1/node12", "cpu2/cache"] {
            std::fs::create_dir_all(folder.join(path)).unwrap();
        }
        let nodes = [0, 1, 2, 3].map(|cpu| node_in(&folder, cpu));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(nodes, [Some(0), Some(12), None, None]);
    }

    #[test]
    fn workers_on_one_node_use_the_pool_there_is_and_others_one_of_their_own() {
        let eal = crate::test_eal();
        let config = MempoolConfig { mbufs: 1023, cache: 32, ..MempoolConfig::default() };
        let first = Mempool::new(&eal, "first", &config).unwrap();
        for node in [None, Some(0)] {
            let none = |node| panic!("a pool at node {node}");
            let pools = Pools::new(&first, &[node, node], none);
            assert_eq!((pools.at(node).name(), pools.is_far(node)), ("first", false));
        }
        // No memory here is at node 7, nor on most machines.
        let nodes = [Some(0), Some(7), Some(0), None];
        let pools = Pools::new(&first, &nodes, |node| at_node(&first, node));
        let names = nodes.map(|node| pools.at(node).name().to_string());
        assert_eq!(names, ["first-node0", "first", "first-node0", "first"]);
        assert_eq!(nodes.map(|node| pools.is_far(node)), [false, true, false, false]);
        assert_eq!(pools.at(Some(0)).data_room(), first.data_room());
    }
}
