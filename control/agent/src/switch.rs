//! The switch as the control thread holds it. Nothing here is shared: the API
//! hands closures to the thread that owns it, one after the other.

use std::sync::Arc;
use std::time::Duration;

use engine::snapshot::Snapshot;
use policy::{Compiler, Context, ExplainError, ExplainRequest, Explanation, Validated, explain};
use tokio::sync::{mpsc, oneshot};
use worker::Datapath;

use crate::metrics::PushMetrics;
use crate::store::Store;

/// The policy in force.
pub struct Current {
    /// Its generation.
    pub generation: u64,
    /// The policy.
    pub policy: Arc<Validated>,
    /// The snapshot that the workers judge by.
    pub snapshot: Snapshot,
}

/// Everything that a push changes.
pub struct Switch {
    pub datapath: Datapath,
    pub compiler: Compiler,
    pub store: Store,
    pub ports: Vec<String>,
    /// `None`: closed, since there has been no policy yet.
    pub current: Option<Current>,
    pub enforce_timeout: Duration,
    pub metrics: Arc<PushMetrics>,
    /// Mbufs of the pool, and how to see how many are out.
    pub pool: dpdk::Mempool,
}

impl Switch {
    /// The generation in force; 0 for none.
    pub fn generation(&self) -> u64 {
        self.current.as_ref().map_or(0, |c| c.generation)
    }

    /// What a document is validated against.
    pub fn context(&self, partial: bool) -> Context<'_> {
        Context { ports: &self.ports, partial, missing_ports_are_notices: false }
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

/// The control thread's end.
pub struct Inbox(mpsc::Receiver<Task>);

/// A handle and its inbox. So many requests wait at most; more wait for a place.
pub fn channel() -> (Handle, Inbox) {
    let (sender, receiver) = mpsc::channel(64);
    (Handle(sender), Inbox(receiver))
}

impl Handle {
    /// Runs a closure on the control thread and returns what it returns; `None`
    /// if the switch is stopping.
    pub async fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Switch) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone when the answer comes.
        let task: Task = Box::new(move |switch| drop(reply.send(task(switch))));
        self.0.send(task).await.ok()?;
        answer.await.ok()
    }
}

impl Inbox {
    /// Works off requests until the last handle is gone.
    pub fn serve(mut self, mut switch: Switch) {
        while let Some(task) = self.0.blocking_recv() {
            task(&mut switch);
            switch.datapath.reclaim();
        }
    }
}
