//! From start to stop.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use caps::CapSet;
use dpdk::{Eal, Mempool, MempoolConfig};
use engine::snapshot::Snapshot;
use policy::{Compiler, Context, Precedent, Rulebook, self_check_by, validate};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use worker::{Datapath, DatapathConfig};

use crate::accounts::{Accounts, Names};
use crate::config::Config;
use crate::flow_log::FlowLog;
use crate::inbox;
use crate::metrics::PushMetrics;
use crate::notify;
use crate::ports::{self, Ports};
use crate::push::{SELF_CHECK_SAMPLES, counts};
use crate::server::{self, Listeners};
use crate::socket::ApiSocket;
use crate::store::Store;
use crate::switch::{Current, Switch};
use crate::watchdog::{self, Watch};

/// Mbufs that each thread keeps at hand.
const MEMPOOL_CACHE: u32 = 256;

/// Starts the switch, serves until a signal, and stops it.
pub fn run(config: Config) -> Result<()> {
    engine_runs_here()?;
    take_up_capabilities()?;
    // Before anything else: a signal that arrives while the switch starts stops it in order.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = Signals::new(&runtime)?;
    // Then this, so that a second daemon touches neither DPDK nor the store.
    let socket = ApiSocket::claim(&config.socket, config.socket_mode, config.socket_group.as_deref())?;
    let metrics_listener = config.metrics.map(listen).transpose()?;
    let store = Store::open(&config.store, config.kept)?;
    let eal = Eal::init("sgswitchd", &config.eal)?;
    let pool_config = MempoolConfig {
        mbufs: config.mbufs,
        cache: MEMPOOL_CACHE.min(config.mbufs / 2),
        data_room: config.mbuf_room,
        socket: None,
    };
    let pool = Mempool::new(&eal, "packets", &pool_config).context("the packet pool (--mbufs)")?;
    let mut ports = Ports::new(&eal, &config, store.ports())?;
    let mut compiler =
        Compiler::new(config.interfaces).with_timeouts(config.timeouts).with_allowance(config.allowance);
    let current = restore(&store, &mut compiler, &ports)?;
    let datapath_config = DatapathConfig {
        cores: cores(&eal, &config),
        idle: config.idle,
        connections_per_worker: config.connections,
        interface_slots: config.interfaces,
        ring_size: config.ring_size,
        seed: seed(),
        rx_descriptors: config.descriptors.0,
        tx_descriptors: config.descriptors.1,
    };
    let initial = current.as_ref().map_or_else(Snapshot::closed, |c| c.snapshot.clone());
    let mut datapath = Datapath::start(&eal, &pool, &datapath_config, initial)?;
    for (index, node) in
        datapath.workers().iter().enumerate().filter_map(|(i, w)| Some((i, w.without_memory?)))
    {
        tracing::warn!(
            "worker {index} runs on NUMA node {node}, where DPDK has no memory for its packets: it uses another \
             node's, which costs speed; reserve hugepages there"
        );
    }
    ports.open_all(&mut datapath);
    tracing::info!(
        "{} workers on CPUs {:?}, ports: {}",
        datapath.workers().len(),
        datapath_config.cores,
        ports.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    );
    let (flow_log, writer) = config.flow_log.clone().map(FlowLog::begin).transpose()?.unzip();
    let (accounts, keeper) = Accounts::keep(&datapath, flow_log)?;
    if let Some(current) = &current {
        let names = Names { interfaces: compiler.interface_names().clone(), vpcs: compiler.vpc_names() };
        accounts.published(current.generation, current.book.clone(), names);
    }
    let metrics = Arc::new(PushMetrics::new());
    let enforce_timeout = config.enforce_timeout;
    let watch = Arc::new(Watch::new(datapath.workers().len()));
    let switch = Switch {
        datapath,
        compiler,
        store,
        ports,
        current,
        precedent: Precedent::default(),
        enforce_timeout,
        metrics,
        accounts,
        watch,
        pool,
    };
    let listeners = Listeners { socket, metrics: metrics_listener };
    let served = serve(runtime, signals, listeners, switch, config.stall);
    // They end behind the workers, when all is written.
    for thread in [Some(keeper), writer].into_iter().flatten() {
        drop(thread.join());
    }
    served
}

/// Puts into effect what this process is permitted: a user of a container has what the
/// program's file permits and the container was given, and starts with none of it. Before
/// there are other threads, which take it over.
fn take_up_capabilities() -> Result<()> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    Ok(caps::set(None, CapSet::Effective, &permitted)?)
}

/// What the operator stops the daemon with.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new(runtime: &Runtime) -> Result<Signals> {
        let _context = runtime.enter();
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("metrics cannot be served at {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers requests until SIGTERM or SIGINT; then stops API, workers and ports.
fn serve(
    runtime: Runtime,
    signals: Signals,
    listeners: Listeners,
    switch: Switch,
    stall: Duration,
) -> Result<()> {
    let (workers, watch) = (switch.datapath.workers().to_vec(), switch.watch.clone());
    let (handle, inbox, answers) = inbox::channel();
    let control =
        std::thread::Builder::new().name("control".to_string()).spawn(move || inbox.serve(switch))?;
    runtime.spawn(answers.hand_out());
    let served = runtime.block_on(async {
        // The server first: nobody is told that we are ready before it has begun.
        tokio::select! {
            biased;
            () = signals.any() => Ok(()),
            result = server::serve(&listeners, handle.clone()) => result,
            never = watchdog::keep(&watch, &workers, stall, &handle) => match never {},
            never = ports::keep(&handle) => match never {},
        }
    });
    tracing::info!("stopping");
    notify::stopping();
    // Connections end with their runtime, and with the last handle the control thread.
    drop(runtime);
    drop((listeners, handle));
    if control.join().is_err() {
        bail!("the control thread has panicked");
    }
    tracing::info!("stopped");
    served
}

/// Refuses a processor that the build is not for, in words instead of a signal.
fn engine_runs_here() -> Result<()> {
    let has = [("avx2", is_x86_feature_detected!("avx2")), ("aes", is_x86_feature_detected!("aes"))];
    for (feature, present) in has {
        ensure!(present, "this processor has no {feature}, which the switch is built for");
    }
    Ok(())
}

/// The last good policy, compiled before ports open (D29: without one, closed).
fn restore(store: &Store, compiler: &mut Compiler, ports: &Ports) -> Result<Option<Current>> {
    let Some(stored) = store.last()? else {
        tracing::warn!("there is no policy yet: the switch is closed until one is pushed");
        return Ok(None);
    };
    let generation = stored.generation;
    let document = serde_json::from_str(&stored.document)
        .with_context(|| format!("the stored policy of generation {generation} is no JSON"))?;
    let ports = ports.bindable(None);
    let context = Context { ports: &ports, partial: false, missing_ports_are_notices: true };
    let compiled = validate(&document, &context).and_then(|(policy, notices)| {
        compiler.compile(&policy, generation, &ports).map(|snapshot| (policy, notices, snapshot))
    });
    let (policy, notices, snapshot) = match compiled {
        Ok(compiled) => compiled,
        Err(faults) => {
            let first = faults.errors.first().map_or(String::new(), |f| format!("{}: {}", f.path, f.message));
            bail!(
                "the stored policy of generation {generation} is not valid for this daemon ({first}); \
                 start with another --store to push a policy anew"
            );
        }
    };
    notices.iter().for_each(|n| tracing::warn!("restoring: {}: {}", n.path, n.message));
    let policy = Arc::new(policy);
    let book = Rulebook::new(policy.clone());
    if let Err(mismatch) = self_check_by(&book, |id| compiler.interface_id(id), &snapshot, SELF_CHECK_SAMPLES)
    {
        bail!("the stored policy cannot be enforced: {mismatch}");
    }
    tracing::info!("generation {generation} is restored");
    let counts = counts(&policy);
    Ok(Some(Current { generation, policy, book, counts, snapshot }))
}

fn cores(eal: &Eal, config: &Config) -> Vec<usize> {
    if !config.cores.is_empty() {
        return config.cores.clone();
    }
    match &eal.lcores()[..] {
        [_, workers @ ..] if !workers.is_empty() => workers.to_vec(),
        main => main.to_vec(),
    }
}

/// Random numbers from the system, by way of the standard library's hasher keys.
fn seed() -> [u64; 4] {
    std::array::from_fn(|i| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(i);
        hasher.finish()
    })
}
