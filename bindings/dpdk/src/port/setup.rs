use super::traits::Traits;
use super::{Port, driver, raw_info, rss};
use crate::queue::Offloads;
use crate::{Error, Mempool, RxQueue, TxOffloads, TxQueue};

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
    /// The largest IP packet in bytes; `None` leaves it as it is.
    pub mtu: Option<u16>,
}

impl Default for PortConfig {
    fn default() -> PortConfig {
        PortConfig { rx_queues: 1, tx_queues: 1, rx_descriptors: 1024, tx_descriptors: 1024, mtu: None }
    }
}

/// Ethernet's header, one VLAN tag and the frame check sequence, which some devices deliver.
const FRAMING: u32 = 14 + 4 + 4;

/// Ethernet's header and the frame check sequence.
const ETHERNET: u32 = 14 + 4;

/// ENOTSUP of Linux: the driver has nothing to be told.
const NOT_SUPPORTED: i32 = -95;

impl Port {
    /// Sets the port up and starts it: promiscuous, since it receives for
    /// others, with frames in several segments where the driver can. The queues
    /// are in order of their numbers. After a failure it may be called again.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is started already, has fewer queues, cannot
    /// have the MTU, or the pool's mbufs are too small for it; [`Error::Call`]
    /// with the driver's reason.
    pub fn start(&self, config: &PortConfig, pool: &Mempool) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        self.start_near(config, &vec![pool.clone(); config.rx_queues.max(1).into()])
    }

    /// [`Port::start`] with a pool for each receive queue, such as one near the thread
    /// that polls it; one at least.
    ///
    /// # Errors
    /// As there, and if pools are missing.
    pub fn start_near(
        &self,
        config: &PortConfig,
        pools: &[Mempool],
    ) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        let mut control = self.0.control();
        let id = self.id();
        let info = raw_info(id).map_err(|code| self.failed("asking", code))?;
        if control.started {
            return Err(self.unsupported("is started already"));
        }
        if config.rx_queues > info.max_rx_queues || config.tx_queues > info.max_tx_queues {
            let (rx, tx) = (info.max_rx_queues, info.max_tx_queues);
            return Err(self.unsupported(format!("has {rx} receive and {tx} transmit queues at most")));
        }
        if pools.len() < config.rx_queues.max(1).into() {
            return Err(self.unsupported("needs a pool for each receive queue"));
        }
        if config.rx_queues == 0 && config.tx_queues == 0 {
            // DPDK would take it for the driver's own preference.
            return Err(self.unsupported("needs a queue"));
        }
        let mut conf = dpdk_sys::rte_eth_conf::default();
        let traits = Traits::of(&driver(&info));
        let (receive, transmit) = traits.offloads();
        conf.rxmode.offloads = info.rx_offload_capa & receive;
        conf.txmode.offloads = info.tx_offload_capa & transmit;
        if config.rx_queues > 1 {
            rss::prepare(&mut conf, &info);
        }
        let scatters = conf.rxmode.offloads & dpdk_sys::SGS_RX_OFFLOAD_SCATTER != 0;
        if let Some(mtu) = config.mtu {
            // A driver that does not say has the longest frame as its limit.
            let longest = info.max_rx_pktlen.saturating_sub(ETHERNET);
            let max = match info.max_mtu {
                u16::MAX => u16::try_from(longest).unwrap_or(u16::MAX),
                max => max,
            };
            if mtu < info.min_mtu || mtu > max {
                let min = info.min_mtu;
                return Err(self.unsupported(format!("has an MTU of {min} to {max} bytes, not {mtu}")));
            }
            let room = pools.iter().map(Mempool::data_room).min().unwrap_or(u16::MAX);
            if !scatters && u32::from(mtu) + FRAMING > room.into() {
                let what =
                    format!("needs mbufs for a whole frame at an MTU of {mtu}; the pool's hold {room}");
                return Err(self.unsupported(what));
            }
            conf.rxmode.mtu = mtu.into();
        }

        // From here on the device may hold on to the pools until it is closed.
        control.pools.extend_from_slice(pools);
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port is valid, and its control calls are ours alone; it is
        // not started. The structures live through their calls, the pool as long
        // as the port.
        unsafe {
            let code = dpdk_sys::rte_eth_dev_configure(id, config.rx_queues, config.tx_queues, &conf);
            self.check("configuring", code)?;
            if let Some(mtu) = config.mtu {
                // Kernel devices are told by this call only, most others by the one above;
                // where there is no such call, nothing follows the one above either.
                match dpdk_sys::rte_eth_dev_set_mtu(id, mtu) {
                    NOT_SUPPORTED => return Err(self.unsupported("has no MTU that can be set")),
                    code => self.check("setting the MTU of", code)?,
                }
            }
            let code = dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx, &mut tx);
            self.check("sizing the queues of", code)?;
            let socket = dpdk_sys::rte_eth_dev_socket_id(id);
            for (queue, pool) in (0..config.rx_queues).zip(pools) {
                let code = dpdk_sys::sgs_rx_queue_setup(id, queue, rx, socket, pool.raw());
                self.check("setting up a receive queue of", code)?;
            }
            for queue in 0..config.tx_queues {
                let code = dpdk_sys::sgs_tx_queue_setup(id, queue, tx, socket);
                self.check("setting up a transmit queue of", code)?;
            }
            if traits == Traits::Guest && !control.watched {
                self.check("watching the guest of", dpdk_sys::sgs_vhost_watch(id))?;
                control.watched = true;
            }
            self.check("starting", dpdk_sys::rte_eth_dev_start(id))?;
            (control.started, control.rx_queues) = (true, config.rx_queues);
            // Virtual devices without the mode receive everything anyway.
            match dpdk_sys::rte_eth_promiscuous_enable(id) {
                NOT_SUPPORTED => (),
                code => self.check("opening to all receivers' frames", code)?,
            }
        }
        let offered = |offload| conf.txmode.offloads & offload == offload;
        let segments = offered(dpdk_sys::SGS_TX_OFFLOAD_MULTI_SEGS);
        let cuts = offered(dpdk_sys::SGS_TX_OFFLOAD_TCP_TSO | dpdk_sys::SGS_TX_OFFLOAD_IPV4_CKSUM);
        let checksum = offered(dpdk_sys::SGS_TX_OFFLOAD_CKSUM);
        let offloads = match traits {
            Traits::Guest => Offloads::OfGuest,
            Traits::KernelInterface | Traits::Software | Traits::Bond | Traits::Plain => {
                Offloads::Fixed(TxOffloads {
                    checksum,
                    tcp4: checksum && cuts,
                    tcp6: checksum && cuts,
                    udp: false,
                })
            }
        };
        let rx = (0..config.rx_queues).map(|queue| RxQueue { port: self.0.clone(), queue });
        let is_bond = traits == Traits::Bond;
        let tx = (0..config.tx_queues).map(|queue| TxQueue {
            port: self.0.clone(),
            queue,
            segments,
            offloads,
            is_bond,
        });
        Ok((rx.collect(), tx.collect()))
    }
}
