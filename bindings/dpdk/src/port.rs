use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::error::Error;
use crate::{Eal, Mempool, RxQueue, TxQueue};

/// An Ethernet device of DPDK. Copies share it; once started, it is stopped and
/// closed when the last of them and of its queues is dropped.
#[derive(Clone, Debug)]
pub struct Port(Arc<Opened>);

#[derive(Debug)]
pub(crate) struct Opened {
    id: u16,
    name: String,
    /// Set once the port is started; its receive queues fill mbufs of this pool.
    pool: OnceLock<Mempool>,
    _eal: Eal,
}

impl Opened {
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.pool.get().is_some() {
            // SAFETY: the port is started, and no queue of it is left.
            unsafe {
                dpdk_sys::rte_eth_dev_stop(self.id);
                dpdk_sys::rte_eth_dev_close(self.id);
            }
        }
    }
}

/// The ports in use, so that each is closed once however often it is asked for.
static OPENED: Mutex<BTreeMap<u16, Weak<Opened>>> = Mutex::new(BTreeMap::new());

/// How a port is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; adjusted to what the driver allows.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, likewise.
    pub tx_descriptors: u16,
    /// The largest IP packet, where the device is to be told.
    pub mtu: Option<u16>,
}

impl Default for PortConfig {
    fn default() -> PortConfig {
        PortConfig { rx_queues: 1, tx_queues: 1, rx_descriptors: 1024, tx_descriptors: 1024, mtu: None }
    }
}

/// What a port is and offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The driver's name, such as `net_af_packet`.
    pub driver: String,
    /// The device's own MAC.
    pub mac: [u8; 6],
    /// The most receive queues.
    pub max_rx_queues: u16,
    /// The most transmit queues.
    pub max_tx_queues: u16,
    /// The NUMA node the device is at, if it says so.
    pub socket: Option<u32>,
    /// Which kinds of packets it can spread over queues (DPDK's `RTE_ETH_RSS_` bits); 0 for none.
    pub rss: u64,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub up: bool,
    /// Mbit/s, if the device says so.
    pub speed: Option<u32>,
}

/// The number of the port of this name.
fn find(name: &CStr) -> Option<u16> {
    let mut id = 0;
    // SAFETY: reads the name, writes the number.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(id)
}

impl Port {
    /// All devices that EAL has found.
    pub fn all(eal: &Eal) -> Vec<Port> {
        // SAFETY: walks EAL's table of ports, whose end is the limit.
        let next =
            |id| Some(unsafe { dpdk_sys::rte_eth_find_next(id) }).filter(|i| *i < dpdk_sys::SGS_MAX_ETHPORTS);
        std::iter::successors(next(0), |id| next(id + 1)).map(|id| Port::open(eal, id)).collect()
    }

    /// The device of this name, such as `net_af_packet0` or a PCI address.
    ///
    /// # Errors
    /// [`Error::NoPort`] if EAL has none.
    pub fn by_name(eal: &Eal, name: &str) -> Result<Port, Error> {
        let c_name = CString::new(name).map_err(|_| Error::ZeroByte(name.to_string()))?;
        find(&c_name).map(|id| Port::open(eal, id)).ok_or_else(|| Error::NoPort(name.to_string()))
    }

    /// Attaches a device by its device arguments, such as
    /// `net_af_packet0,iface=veth0` or `0000:01:00.0`.
    ///
    /// # Errors
    /// [`Error::Call`] with the driver's reason.
    pub fn attach(eal: &Eal, devargs: &str) -> Result<Port, Error> {
        let zero_byte = |_| Error::ZeroByte(devargs.to_string());
        let name = devargs.split(',').next().unwrap_or(devargs);
        let c_devargs = CString::new(devargs).map_err(zero_byte)?;
        if find(&CString::new(name).map_err(zero_byte)?).is_some() {
            let (action, reason) =
                (format!("attaching '{devargs}'"), "a port has this name already".to_string());
            return Err(Error::Call { action, reason });
        }
        // SAFETY: EAL is started; the string lives through the call.
        match unsafe { dpdk_sys::rte_dev_probe(c_devargs.as_ptr()) } {
            0 => Port::by_name(eal, name),
            code => Err(Error::call(format!("attaching '{devargs}'"), code)),
        }
    }

    fn open(eal: &Eal, id: u16) -> Port {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = opened.get(&id).and_then(Weak::upgrade) {
            return Port(port);
        }
        let mut name = [0; dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: writes a string of at most that length for a valid port.
        let name = unsafe {
            dpdk_sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr());
            CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
        };
        let port = Arc::new(Opened { id, name, pool: OnceLock::new(), _eal: eal.clone() });
        opened.insert(id, Arc::downgrade(&port));
        Port(port)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// DPDK's number of the port, as mbufs carry it.
    pub fn id(&self) -> u16 {
        self.0.id
    }

    fn raw_info(&self) -> Result<dpdk_sys::rte_eth_dev_info, Error> {
        let mut info = MaybeUninit::zeroed();
        // SAFETY: fills the structure for a valid port; all zeros is a value of it.
        match unsafe { dpdk_sys::rte_eth_dev_info_get(self.0.id, info.as_mut_ptr()) } {
            // SAFETY: filled.
            0 => Ok(unsafe { info.assume_init() }),
            code => Err(Error::call(format!("asking port '{}' what it is", self.name()), code)),
        }
    }

    /// What it is and offers.
    ///
    /// # Errors
    /// [`Error::Call`] if the driver does not answer.
    pub fn info(&self) -> Result<PortInfo, Error> {
        let raw = self.raw_info()?;
        let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: both write to what they are given for a valid port; the
        // driver's name is a string that lives as long as the driver.
        let (driver, socket) = unsafe {
            dpdk_sys::rte_eth_macaddr_get(self.0.id, &mut mac);
            let name = raw.driver_name;
            let driver = if name.is_null() {
                String::new()
            } else {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            };
            (driver, dpdk_sys::rte_eth_dev_socket_id(self.0.id))
        };
        Ok(PortInfo {
            driver,
            mac: mac.addr_bytes,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            socket: u32::try_from(socket).ok(),
            rss: raw.flow_type_rss_offloads,
        })
    }

    /// Sets the port up and starts it: promiscuous, since it receives for
    /// others, with segmented frames where the driver can. Queues are in order
    /// of their numbers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is started already or has fewer queues,
    /// [`Error::Call`] with the driver's reason.
    pub fn start(&self, config: &PortConfig, pool: &Mempool) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        let info = self.raw_info()?;
        let unsupported = |what: String| Error::Unsupported { port: self.name().to_string(), what };
        if config.rx_queues > info.max_rx_queues || config.tx_queues > info.max_tx_queues {
            let (rx, tx) = (info.max_rx_queues, info.max_tx_queues);
            return Err(unsupported(format!("has {rx} receive and {tx} transmit queues at most")));
        }
        if self.0.pool.get().is_some() {
            return Err(unsupported("is started already".to_string()));
        }
        let check = |action: &str, code: i32| match code {
            0 => Ok(()),
            code => Err(Error::call(format!("{action} port '{}'", self.name()), code)),
        };
        let mut conf = dpdk_sys::rte_eth_conf::default();
        conf.rxmode.offloads = info.rx_offload_capa & dpdk_sys::SGS_RX_OFFLOAD_SCATTER;
        conf.txmode.offloads = info.tx_offload_capa & dpdk_sys::SGS_TX_OFFLOAD_MULTI_SEGS;
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        let id = self.0.id;
        // SAFETY: the port is valid and not started; all structures live through
        // their calls, the pool as long as the port.
        unsafe {
            let code = dpdk_sys::rte_eth_dev_configure(id, config.rx_queues, config.tx_queues, &conf);
            check("configuring", code)?;
            if let Some(mtu) = config.mtu {
                check("setting the MTU of", dpdk_sys::rte_eth_dev_set_mtu(id, mtu))?;
            }
            check("sizing the queues of", dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx, &mut tx))?;
            let socket = dpdk_sys::rte_eth_dev_socket_id(id);
            for queue in 0..config.rx_queues {
                let code = dpdk_sys::sgs_rx_queue_setup(id, queue, rx, socket, pool.raw());
                check("setting up a receive queue of", code)?;
            }
            for queue in 0..config.tx_queues {
                check("setting up a transmit queue of", dpdk_sys::sgs_tx_queue_setup(id, queue, tx, socket))?;
            }
            self.0.pool.get_or_init(|| pool.clone());
            check("starting", dpdk_sys::rte_eth_dev_start(id))?;
            // Virtual devices without the mode receive everything anyway.
            dpdk_sys::rte_eth_promiscuous_enable(id);
        }
        let rx = (0..config.rx_queues).map(|queue| RxQueue { port: self.0.clone(), queue });
        let tx = (0..config.tx_queues).map(|queue| TxQueue { port: self.0.clone(), queue });
        Ok((rx.collect(), tx.collect()))
    }

    /// The state of the link; `None` if the driver does not say.
    pub fn link(&self) -> Option<Link> {
        let (mut speed, mut up) = (0, 0);
        // SAFETY: writes both for a valid port.
        let code = unsafe { dpdk_sys::sgs_link(self.0.id, &mut speed, &mut up) };
        let known = speed != 0 && speed != u32::MAX;
        (code == 0).then_some(Link { up: up != 0, speed: known.then_some(speed) })
    }
}
