use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use crate::error::{Error, reason};

static STARTED: AtomicBool = AtomicBool::new(false);

/// EAL's main thread is as large as a process's main thread, which DPDK expects it to be.
const STACK: usize = 8 << 20;

/// DPDK's environment abstraction layer, started. Copies share it, and so do all
/// pools, ports and rings; the last one dropped cleans it up.
///
/// EAL takes the thread that starts it for its main lcore, pins it there and
/// gives it mempool caches. That is a thread of its own here, which then sleeps:
/// no thread of the program is pinned, and only those that register have caches.
#[derive(Clone, Debug)]
pub struct Eal(#[expect(dead_code, reason = "held to keep EAL alive")] Arc<Running>);

#[derive(Debug)]
struct Running {
    /// Dropped to wake EAL's main thread for its end.
    alive: Option<SyncSender<()>>,
    main: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.alive.take();
        if let Some(main) = self.main.take() {
            // It cannot be joined only if it panicked, and there is nothing left to do then.
            let _ = main.join();
        }
    }
}

/// The life of EAL's main thread.
fn main_thread(arguments: Vec<CString>, started: &SyncSender<Result<(), String>>, alive: &Receiver<()>) {
    // EAL permutes the pointers, and keeps some to the strings for the life of the process.
    let mut argv: Vec<*mut _> = arguments.into_iter().map(CString::into_raw).collect();
    let argc = argv.len() as i32;
    argv.push(ptr::null_mut());
    // SAFETY: `argc` strings, which live for ever, and a null; the array outlives EAL.
    if unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) } < 0 {
        // SAFETY: reads the calling thread's rte_errno.
        let _ = started.send(Err(reason(unsafe { dpdk_sys::sgs_errno() })));
        return;
    }
    let _ = started.send(Ok(()));
    // Nothing is ever sent: this ends when the last `Eal` is dropped.
    let _ = alive.recv();
    // SAFETY: EAL runs. Pools, ports and rings each hold an `Eal` and are gone,
    // and with them every mbuf (see the module `census`).
    unsafe { dpdk_sys::rte_eal_cleanup() };
}

impl Eal {
    /// Starts EAL with these arguments (without the program's name), untouched.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] from the second call on, also after a failure
    /// or an end: DPDK does not start twice in a process. [`Error::Eal`] if EAL
    /// refuses; it prints more on standard error.
    pub fn init(program: &str, arguments: &[String]) -> Result<Eal, Error> {
        let argv = std::iter::once(program)
            .chain(arguments.iter().map(String::as_str))
            .map(|a| CString::new(a).map_err(|_| Error::ZeroByte(a.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyStarted);
        }
        let refused = |reason: String| Error::Eal { reason, arguments: arguments.join(" ") };
        let (started, outcome) = mpsc::sync_channel(1);
        let (alive, ended) = mpsc::sync_channel(1);
        let main = thread::Builder::new()
            .name("eal-main".to_string())
            .stack_size(STACK)
            .spawn(move || main_thread(argv, &started, &ended))
            .map_err(|e| refused(e.to_string()))?;
        match outcome.recv() {
            Ok(Ok(())) => Ok(Eal(Arc::new(Running { alive: Some(alive), main: Some(main) }))),
            Ok(Err(reason)) => Err(refused(reason)),
            Err(_) => Err(refused("its main thread ended".to_string())),
        }
    }

    /// The CPUs of EAL's lcores, that of the main lcore first.
    pub fn lcores(&self) -> Vec<usize> {
        // SAFETY: EAL is started; these read its configuration.
        unsafe {
            let mut lcores = vec![dpdk_sys::rte_get_main_lcore()];
            let mut next = dpdk_sys::rte_get_next_lcore(u32::MAX, 1, 0);
            while next < dpdk_sys::SGS_MAX_LCORE {
                lcores.push(next);
                next = dpdk_sys::rte_get_next_lcore(next, 1, 0);
            }
            let cpu = |lcore: u32| dpdk_sys::rte_lcore_to_cpu_id(lcore as i32);
            lcores.into_iter().filter_map(|lcore| usize::try_from(cpu(lcore)).ok()).collect()
        }
    }
}

/// The processor's time stamp counter.
#[inline]
pub fn cycles() -> u64 {
    // SAFETY: reading the counter is allowed everywhere DPDK runs.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// How many of those a second has. 0 before EAL has started.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a number that EAL sets once.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
