//! Ports: handles of DPDK's Ethernet devices, and when these are closed.

mod info;
mod rss;
mod setup;
mod traits;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

pub use info::{Link, PortInfo};
pub use rss::Rss;
pub use setup::PortConfig;

use crate::{Burst, Eal, Error, Mempool};

/// The most ports of a process: as many as this build of DPDK has room for
/// (`RTE_MAX_ETHPORTS`), those included that a bond joins.
pub const MAX_PORTS: usize = dpdk_sys::SGS_MAX_ETHPORTS as usize;

/// An Ethernet device of DPDK. Copies share it. Once set up or attached, it is
/// stopped and closed when the last of them and of its queues is dropped.
#[derive(Clone, Debug)]
pub struct Port(Arc<Opened>);

#[derive(Debug)]
pub(crate) struct Opened {
    id: u16,
    name: String,
    /// Whether the device is to go with the port: it was attached here, or is to be removed.
    attached: AtomicBool,
    /// Packets that the driver refused to prepare for its offloads.
    pub(crate) unprepared: AtomicU64,
    /// DPDK wants the calls that control a port one at a time.
    control: Mutex<Control>,
    _eal: Eal,
}

#[derive(Debug, Default)]
struct Control {
    /// The pools that the device has been told of; not empty once it is set up.
    pools: Vec<Mempool>,
    rx_queues: u16,
    started: bool,
    /// Whether the guest of a vhost-user port is watched.
    watched: bool,
}

/// The ports that have handles, so that each device is closed once however often
/// it is asked for. The lock is held while devices come and go.
static OPENED: Mutex<BTreeMap<u16, Weak<Opened>>> = Mutex::new(BTreeMap::new());

/// Told when an entry leaves `OPENED`.
static CLOSED: Condvar = Condvar::new();

/// Bursts that are taken from a queue of a closing software ring; it holds 1024 packets.
const DRAIN_BURSTS: usize = 64;

fn opened() -> MutexGuard<'static, BTreeMap<u16, Weak<Opened>>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the port of this name.
fn find(name: &CStr) -> Option<u16> {
    let mut id = 0;
    // SAFETY: reads the name, writes the number.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(id)
}

/// The numbers of all ports.
fn ids() -> impl Iterator<Item = u16> {
    let next = |from| {
        // SAFETY: walks EAL's table of ports, whose end is the limit.
        Some(unsafe { dpdk_sys::rte_eth_find_next(from) }).filter(|id| *id < dpdk_sys::SGS_MAX_ETHPORTS)
    };
    std::iter::successors(next(0), move |id| next(id + 1))
}

/// What the driver says of a port.
fn raw_info(id: u16) -> Result<dpdk_sys::rte_eth_dev_info, i32> {
    let mut info = MaybeUninit::zeroed();
    // SAFETY: fills the structure for a valid port, and refuses any other.
    match unsafe { dpdk_sys::rte_eth_dev_info_get(id, info.as_mut_ptr()) } {
        // SAFETY: filled.
        0 => Ok(unsafe { info.assume_init() }),
        code => Err(code),
    }
}

/// The driver's name, which lives as long as the driver.
fn driver(info: &dpdk_sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: a string of the driver.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

impl Opened {
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back all that the device holds. `&mut`: no handle and no queue is left.
    fn close(&mut self) {
        let attached = *self.attached.get_mut();
        let control = self.control.get_mut().unwrap_or_else(PoisonError::into_inner);
        if control.pools.is_empty() && !attached {
            return;
        }
        let (device, is_ring) = raw_info(self.id)
            .map_or((ptr::null_mut(), false), |info| (info.device, driver(&info) == "net_ring"));
        if control.watched {
            // SAFETY: waits until the notice that runs has ended.
            unsafe { dpdk_sys::sgs_vhost_unwatch(self.id) };
        }
        if control.started {
            // Other drivers free what they hold; this one frees the ring around it.
            let queues = if is_ring { control.rx_queues } else { 0 };
            for queue in 0..queues {
                let received = || {
                    let mut burst = Burst::new();
                    // SAFETY: the port is started and nobody else uses its queues.
                    burst.fill(|mbufs, n| unsafe { dpdk_sys::sgs_rx_burst(self.id, queue, mbufs, n) }.into())
                };
                (0..DRAIN_BURSTS).take_while(|_| received() > 0).for_each(drop);
            }
            // SAFETY: the port is started.
            unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        }
        // SAFETY: the port is stopped. The device is removed if this was its only port.
        unsafe {
            dpdk_sys::rte_eth_dev_close(self.id);
            let is_last = || dpdk_sys::rte_eth_find_next_of(0, device) >= dpdk_sys::SGS_MAX_ETHPORTS;
            if attached && !device.is_null() && is_last() {
                dpdk_sys::rte_dev_remove(device);
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut opened = opened();
        self.close();
        opened.remove(&self.id);
        CLOSED.notify_all();
    }
}

impl Port {
    /// All devices that EAL has found.
    pub fn all(eal: &Eal) -> Vec<Port> {
        let known: Vec<u16> = ids().collect();
        known.into_iter().filter_map(|id| Port::open(eal, || ids().find(|i| *i == id))).collect()
    }

    /// The device of this name, such as `net_af_packet0` or a PCI address.
    ///
    /// # Errors
    /// [`Error::NoPort`] if EAL has none.
    pub fn by_name(eal: &Eal, name: &str) -> Result<Port, Error> {
        let c_name = CString::new(name).map_err(|_| Error::ZeroByte(name.to_string()))?;
        Port::open(eal, || find(&c_name)).ok_or_else(|| Error::NoPort(name.to_string()))
    }

    /// Attaches a device by its device arguments, such as
    /// `net_af_packet0,iface=veth0` or `0000:01:00.0`, and opens its first port.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if there are [`MAX_PORTS`]; [`Error::Call`] with the driver's
    /// reason, or if a port has this name.
    pub fn attach(eal: &Eal, devargs: &str) -> Result<Port, Error> {
        let action = || format!("attaching '{devargs}'");
        let zero_byte = |_| Error::ZeroByte(devargs.to_string());
        let name = CString::new(devargs.split(',').next().unwrap_or(devargs)).map_err(zero_byte)?;
        let c_devargs = CString::new(devargs).map_err(zero_byte)?;
        let mut opened = opened();
        let before: Vec<u16> = ids().collect();
        if find(&name).is_none() {
            if before.len() >= MAX_PORTS {
                return Err(Error::NoRoom(devargs.to_string()));
            }
            // SAFETY: EAL is started; the string lives through the call.
            let code = unsafe { dpdk_sys::rte_dev_probe(c_devargs.as_ptr()) };
            if code != 0 {
                return Err(Error::call(action(), code));
            }
        }
        // The port's name need not be that of the arguments: PCI addresses have a short form.
        match ids().find(|id| !before.contains(id)) {
            Some(id) => Ok(Port::insert(eal, &mut opened, id, true)),
            None => Err(Error::Call { action: action(), reason: "it is attached already".to_string() }),
        }
    }

    /// The handle of the port that `which` names, new if there is none.
    fn open(eal: &Eal, which: impl Fn() -> Option<u16>) -> Option<Port> {
        let mut opened = opened();
        loop {
            let id = which()?;
            match opened.get(&id).map(Weak::upgrade) {
                None => return Some(Port::insert(eal, &mut opened, id, false)),
                Some(Some(port)) => return Some(Port(port)),
                // Its last handle is being dropped, and waits for the lock.
                Some(None) => opened = CLOSED.wait(opened).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn insert(eal: &Eal, opened: &mut BTreeMap<u16, Weak<Opened>>, id: u16, attached: bool) -> Port {
        let mut name = [0; dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: writes a string of at most that length for a valid port.
        let name = unsafe {
            dpdk_sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr());
            CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
        };
        let port = Arc::new(Opened {
            id,
            name,
            attached: attached.into(),
            unprepared: AtomicU64::new(0),
            control: Mutex::default(),
            _eal: eal.clone(),
        });
        opened.insert(id, Arc::downgrade(&port));
        Port(port)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Has the device removed from EAL when the port is closed, also one that EAL
    /// has found by its own arguments; [`Port::attach`] brings it back.
    pub fn remove_when_closed(&self) {
        self.0.attached.store(true, Ordering::Relaxed);
    }

    /// DPDK's number of the port, as mbufs carry it.
    pub fn id(&self) -> u16 {
        self.0.id
    }

    fn failed(&self, action: &str, code: i32) -> Error {
        Error::call(format!("{action} port '{}'", self.name()), code)
    }

    fn check(&self, action: &str, code: i32) -> Result<(), Error> {
        if code == 0 { Ok(()) } else { Err(self.failed(action, code)) }
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { port: self.name().to_string(), what: what.into() }
    }
}
