//! The switch as the control thread holds it. Nothing here is shared: the API
//! asks the thread that owns it ([`crate::inbox`]).

use std::sync::Arc;
use std::time::Duration;

use engine::snapshot::Snapshot;
use policy::{Compiler, ExplainError, ExplainRequest, Explanation, Precedent, Rulebook, Validated, explain};
use worker::Datapath;

use crate::accounts::{Accounts, Names};
use crate::metrics::PushMetrics;
use crate::ports::Ports;
use crate::store::Store;
use crate::watchdog::Watch;

/// The policy in force.
pub struct Current {
    /// Its generation.
    pub generation: u64,
    /// The policy.
    pub policy: Arc<Validated>,
    /// It, arranged for questions.
    pub book: Rulebook,
    /// Its groups, rules and interfaces.
    pub counts: [usize; 3],
    /// The snapshot that the workers judge by.
    pub snapshot: Snapshot,
}

/// Everything that a push changes.
pub struct Switch {
    pub datapath: Datapath,
    pub compiler: Compiler,
    pub store: Store,
    pub ports: Ports,
    /// `None`: closed, since there has been no policy yet.
    pub current: Option<Current>,
    /// The last document that came into force, of which the next takes over what is the same.
    pub precedent: Precedent,
    pub enforce_timeout: Duration,
    pub metrics: Arc<PushMetrics>,
    pub accounts: Accounts,
    /// What has been seen of the workers' progress.
    pub watch: Arc<Watch>,
    /// Mbufs of the pool, and how to see how many are out.
    pub pool: dpdk::Mempool,
}

impl Switch {
    /// The generation in force; 0 for none.
    pub fn generation(&self) -> u64 {
        self.current.as_ref().map_or(0, |c| c.generation)
    }

    /// The names behind the numbers that workers speak in.
    pub fn names(&self) -> Names {
        Names { interfaces: self.compiler.interface_names().clone(), vpcs: self.compiler.vpc_names() }
    }

    /// The ports that a policy may bind.
    pub fn bindable(&self) -> policy::Ports {
        self.ports.bindable(self.current.as_ref().map(|current| &*current.policy))
    }

    /// Explains a packet by the policy in force.
    pub fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
        let closed = || {
            ExplainError::Invalid("there is no policy yet: the switch is closed, nothing passes".to_string())
        };
        let current = self.current.as_ref().ok_or_else(closed)?;
        explain(&current.policy, &self.compiler, &current.snapshot, request)
    }
}
