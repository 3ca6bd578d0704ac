/* SPDX-License-Identifier: Apache-2.0 */
/* What Rust needs of DPDK and headers alone cannot give: inline functions and
 * macros. What the datapath uses is called once per burst, never per packet. */
#ifndef SGS_SHIM_H
#define SGS_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_bond.h>
#include <rte_eth_vhost.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_vhost.h>

#include <linux/virtio_net.h>

/* Macros that bindgen does not see. */
static const uint32_t SGS_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t SGS_MAX_LCORE = RTE_MAX_LCORE;
static const uint16_t SGS_MAX_ETHPORTS = RTE_MAX_ETHPORTS;
static const uint64_t SGS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SGS_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SGS_RX_OFFLOAD_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SGS_TX_OFFLOAD_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t SGS_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SGS_TX_OFFLOAD_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint32_t SGS_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t SGS_DEV_INTR_LSC = RTE_ETH_DEV_INTR_LSC;
static const int SGS_BOND_ACTIVE_BACKUP = BONDING_MODE_ACTIVE_BACKUP;
static const uint32_t SGS_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE;
/* What the owner of a flow is a function of: addresses, and ports of TCP and UDP. */
static const uint64_t SGS_RSS_TYPES = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_TCP |
	RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV4_OTHER | RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 |
	RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP | RTE_ETH_RSS_NONFRAG_IPV6_OTHER |
	RTE_ETH_RSS_IPV6_EX | RTE_ETH_RSS_IPV6_TCP_EX | RTE_ETH_RSS_IPV6_UDP_EX;
static const uint64_t SGS_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t SGS_MBUF_MEMORY = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
static const uint64_t SGS_MBUF_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t SGS_MBUF_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t SGS_MBUF_TX_OFFLOADS = RTE_MBUF_F_TX_OFFLOAD_MASK;
static const uint64_t SGS_MBUF_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SGS_MBUF_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t SGS_MBUF_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SGS_MBUF_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t SGS_MBUF_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t SGS_MBUF_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t SGS_MBUF_TX_UDP_SEG = RTE_MBUF_F_TX_UDP_SEG;
static const uint64_t SGS_VHOST_GUEST_TSO4 = 1ULL << VIRTIO_NET_F_GUEST_TSO4;
static const uint64_t SGS_VHOST_GUEST_TSO6 = 1ULL << VIRTIO_NET_F_GUEST_TSO6;
static const uint32_t SGS_RING_F_SP_ENQ = RING_F_SP_ENQ;
static const uint32_t SGS_RING_F_SC_DEQ = RING_F_SC_DEQ;

int sgs_errno(void);
uint32_t sgs_lcore_id(void);

uint16_t sgs_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t sgs_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
void sgs_free(struct rte_mbuf *mbuf);
void sgs_free_bulk(struct rte_mbuf **mbufs, unsigned int n);
struct rte_mbuf *sgs_alloc(struct rte_mempool *pool);
unsigned int sgs_ring_enqueue(struct rte_ring *ring, struct rte_mbuf *const *mbufs, unsigned int n);
unsigned int sgs_ring_dequeue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int n);
/* One rx and one tx queue with DPDK's defaults but for the offloads. */
int sgs_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket, struct rte_mempool *pool);
int sgs_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket);
/* Link speed in Mbit/s and state, which are bit fields. */
int sgs_link(uint16_t port, uint32_t *speed, uint8_t *up);

/* The offloads of a packet, whose fields are bit fields: bytes of the headers, of
 * data in each segment, and what the device is to do. */
void sgs_set_offload(struct rte_mbuf *mbuf, uint64_t flags, uint32_t l2, uint32_t l3, uint32_t l4, uint16_t size);
uint16_t sgs_segment_size(const struct rte_mbuf *mbuf);
void sgs_header_lengths(const struct rte_mbuf *mbuf, uint32_t *l2, uint32_t *l3, uint32_t *l4);
uint16_t sgs_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* What the guest of a vhost-user port has negotiated, 0 without one: kept up to
 * date by the driver's own notices, on its thread. */
int sgs_vhost_watch(uint16_t port);
void sgs_vhost_unwatch(uint16_t port);
uint64_t sgs_vhost_features(uint16_t port);

/* Offsets and sizes as the C compiler has them, for the layout test. */
struct sgs_layout {
	const char *what;
	size_t offset;
};
extern const struct sgs_layout sgs_layouts[];
extern const size_t sgs_layouts_count;

#endif
