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
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

/* Macros that bindgen does not see. */
static const uint32_t SGS_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t SGS_MAX_LCORE = RTE_MAX_LCORE;
static const uint16_t SGS_MAX_ETHPORTS = RTE_MAX_ETHPORTS;
static const uint64_t SGS_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SGS_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SGS_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;
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

/* Offsets and sizes as the C compiler has them, for the layout test. */
struct sgs_layout {
	const char *what;
	size_t offset;
};
extern const struct sgs_layout sgs_layouts[];
extern const size_t sgs_layouts_count;

#endif
