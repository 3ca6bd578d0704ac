use std::time::Duration;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: the least latency, and a core of its own.
    Spin,
    /// Sleeps after a while, for longer and longer up to this; for machines that
    /// the switch shares. A published policy waits for the sleeper as long.
    Sleep {
        /// The longest sleep.
        max: Duration,
    },
}

/// How the workers are to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathConfig {
    /// The CPU of each worker; one worker for each entry, 1 to 64.
    pub cores: Vec<usize>,
    /// What they do when idle.
    pub idle: Idle,
    /// Connections each worker has room for.
    pub connections_per_worker: usize,
    /// How many interfaces a policy may have at once.
    pub interface_slots: usize,
    /// Packets that fit each ring between two workers.
    pub ring_size: u32,
    /// The key of the flow hash; to be random, so that nobody can choose flows
    /// that collide.
    pub seed: [u64; 4],
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
}
