use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, reason};

static STARTED: AtomicBool = AtomicBool::new(false);

/// DPDK's environment abstraction layer, started. Copies share it; the last one
/// dropped cleans it up.
#[derive(Clone, Debug)]
pub struct Eal(#[expect(dead_code, reason = "held to keep EAL alive")] Arc<Started>);

#[derive(Debug)]
struct Started;

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: EAL was started; ports, pools and rings hold an `Eal` and are gone.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

impl Eal {
    /// Starts EAL with these arguments (without the program's name), untouched.
    /// The calling thread becomes EAL's main thread and is pinned to the main
    /// lcore; threads it makes later inherit that affinity.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] from the second call on, also after a failure:
    /// DPDK keeps what it has set up so far. [`Error::Eal`] if EAL refuses.
    pub fn init(program: &str, arguments: &[String]) -> Result<Eal, Error> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyStarted);
        }
        let all = std::iter::once(program).chain(arguments.iter().map(String::as_str));
        let all = all
            .map(|a| CString::new(a).map_err(|_| Error::ZeroByte(a.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        // EAL keeps pointers into its arguments for the life of the process.
        let argv: Vec<*mut _> = all.into_iter().map(CString::into_raw).chain([ptr::null_mut()]).collect();
        let argc = argv.len() as i32 - 1;
        let argv = argv.leak();
        // SAFETY: argc strings and a null, all of which live for ever.
        let rc = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        if rc < 0 {
            // SAFETY: reads the calling thread's rte_errno.
            let code = unsafe { dpdk_sys::sgs_errno() };
            return Err(Error::Eal { reason: reason(code), arguments: arguments.join(" ") });
        }
        Ok(Eal(Arc::new(Started)))
    }

    /// The CPUs of EAL's lcores, that of the main lcore first.
    pub fn lcores(&self) -> Vec<usize> {
        // SAFETY: EAL is started; these read its configuration.
        unsafe {
            let main = dpdk_sys::rte_get_main_lcore();
            let mut lcores = vec![main];
            let mut next = dpdk_sys::rte_get_next_lcore(u32::MAX, 1, 0);
            while next < dpdk_sys::SGS_MAX_LCORE {
                lcores.push(next);
                next = dpdk_sys::rte_get_next_lcore(next, 1, 0);
            }
            let cpu = |lcore: u32| dpdk_sys::rte_lcore_to_cpu_id(lcore as i32);
            lcores.into_iter().filter_map(|lcore| usize::try_from(cpu(lcore)).ok()).collect()
        }
    }

    /// Makes the calling thread one of DPDK's, so that mempools give it a cache:
    /// without, each allocation takes three times as long. To be called before
    /// the thread's first use of a pool or ring; ends when the result is dropped.
    ///
    /// # Errors
    /// [`Error::Call`] if no lcore number is left.
    pub fn register_thread(&self) -> Result<ThreadRegistration, Error> {
        // SAFETY: EAL is started.
        let rc = unsafe { dpdk_sys::rte_thread_register() };
        // SAFETY: reads a number of the calling thread.
        if rc != 0 || unsafe { dpdk_sys::sgs_lcore_id() } == dpdk_sys::SGS_LCORE_ID_ANY {
            return Err(Error::last("registering a thread with EAL"));
        }
        Ok(ThreadRegistration { _eal: self.clone(), _of_this_thread: PhantomData })
    }
}

/// The calling thread is one of DPDK's until this is dropped.
#[derive(Debug)]
pub struct ThreadRegistration {
    _eal: Eal,
    /// A registration cannot move to another thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: this thread was registered, and the type cannot leave it.
        unsafe { dpdk_sys::rte_thread_unregister() };
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
