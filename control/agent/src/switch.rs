//! The switch as the control thread holds it. Nothing here is shared: the API
//! hands closures to the thread that owns it, one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use engine::snapshot::Snapshot;
use policy::{Compiler, ExplainError, ExplainRequest, Explanation, Precedent, Rulebook, Validated, explain};
use tokio::sync::{mpsc, oneshot};
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

type Task = Box<dyn FnOnce(&mut Switch) + Send>;

/// How the API reaches the control thread.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Task>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The switch stops.
    Stopping,
    /// The request has panicked.
    Failed,
}

/// The control thread's end.
pub struct Inbox(mpsc::Receiver<Task>);

/// A handle and its inbox. So many requests wait at most; more wait for a place.
pub fn channel() -> (Handle, Inbox) {
    let (sender, receiver) = mpsc::channel(64);
    (Handle(sender), Inbox(receiver))
}

impl Handle {
    /// Runs a closure on the control thread and returns what it returns.
    pub async fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Switch) -> R + Send + 'static,
    ) -> Result<R, Unanswered> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone when the answer comes.
        let task: Task = Box::new(move |switch| drop(reply.send(task(switch))));
        self.0.send(task).await.map_err(|_| Unanswered::Stopping)?;
        answer.await.map_err(|_| Unanswered::Failed)
    }
}

impl Inbox {
    /// Works off requests until the last handle is gone. One that panics, which
    /// is a defect, costs its own answer and not the switch: what is in force is
    /// replaced at the end of a push, as a whole.
    pub fn serve(mut self, mut switch: Switch) {
        while let Some(task) = self.0.blocking_recv() {
            if catch_unwind(AssertUnwindSafe(|| task(&mut switch))).is_err() {
                tracing::error!("a request has failed inside the switch: this is a defect");
            }
            switch.datapath.reclaim();
        }
    }
}
