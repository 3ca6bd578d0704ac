/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

int sgs_errno(void) { return rte_errno; }

uint32_t sgs_lcore_id(void) { return rte_lcore_id(); }

/* The inline wrappers run the callbacks (capture, replay, latency statistics)
 * that a direct call of the driver would skip. */
uint16_t sgs_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t sgs_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

void sgs_free(struct rte_mbuf *mbuf) { rte_pktmbuf_free(mbuf); }

void sgs_free_bulk(struct rte_mbuf **mbufs, unsigned int n) { rte_pktmbuf_free_bulk(mbufs, n); }

struct rte_mbuf *sgs_alloc(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

unsigned int sgs_ring_enqueue(struct rte_ring *ring, struct rte_mbuf *const *mbufs, unsigned int n)
{
	return rte_ring_sp_enqueue_burst(ring, (void *const *)mbufs, n, NULL);
}

unsigned int sgs_ring_dequeue(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_ring_sc_dequeue_burst(ring, (void **)mbufs, n, NULL);
}

int sgs_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket, struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors, socket, NULL, pool);
}

int sgs_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, int socket)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors, socket, NULL);
}

int sgs_link(uint16_t port, uint32_t *speed, uint8_t *up)
{
	struct rte_eth_link link;
	int rc = rte_eth_link_get_nowait(port, &link);
	if (rc == 0) {
		*speed = link.link_speed;
		*up = link.link_status;
	}
	return rc;
}

void sgs_set_offload(struct rte_mbuf *mbuf, uint64_t flags, uint32_t l2, uint32_t l3, uint32_t l4, uint16_t size)
{
	mbuf->ol_flags = flags;
	mbuf->tx_offload = rte_mbuf_tx_offload(l2, l3, l4, size, 0, 0, 0);
}

uint16_t sgs_segment_size(const struct rte_mbuf *mbuf) { return mbuf->tso_segsz; }

void sgs_header_lengths(const struct rte_mbuf *mbuf, uint32_t *l2, uint32_t *l3, uint32_t *l4)
{
	*l2 = mbuf->l2_len;
	*l3 = mbuf->l3_len;
	*l4 = mbuf->l4_len;
}

uint16_t sgs_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, mbufs, n);
}

static _Atomic uint64_t vhost_features[RTE_MAX_ETHPORTS];

/* The driver calls it when a guest has come, before it goes, and never at once
 * for one port, so the device behind the number is there as long as this runs. */
static int on_vhost_link(uint16_t port, enum rte_eth_event_type type, void *argument, void *result)
{
	struct rte_eth_link link;
	uint64_t features = 0;
	int vid = rte_eth_vhost_get_vid_from_port_id(port);
	(void)type, (void)argument, (void)result;
	if (vid < 0 || rte_eth_link_get_nowait(port, &link) != 0 || !link.link_status ||
	    rte_vhost_get_negotiated_features(vid, &features) != 0)
		features = 0;
	vhost_features[port] = features;
	return 0;
}

int sgs_vhost_watch(uint16_t port)
{
	int rc = rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_LSC, on_vhost_link, NULL);
	if (rc == 0)
		on_vhost_link(port, RTE_ETH_EVENT_INTR_LSC, NULL, NULL);
	return rc;
}

void sgs_vhost_unwatch(uint16_t port)
{
	rte_eth_dev_callback_unregister(port, RTE_ETH_EVENT_INTR_LSC, on_vhost_link, NULL);
	vhost_features[port] = 0;
}

uint64_t sgs_vhost_features(uint16_t port) { return vhost_features[port]; }

#define AT(type, field) { #type "." #field, offsetof(struct type, field) }
const struct sgs_layout sgs_layouts[] = {
	{ "rte_mbuf", sizeof(struct rte_mbuf) },
	AT(rte_mbuf, buf_addr),
	AT(rte_mbuf, data_off),
	AT(rte_mbuf, refcnt),
	AT(rte_mbuf, nb_segs),
	AT(rte_mbuf, port),
	AT(rte_mbuf, ol_flags),
	AT(rte_mbuf, pkt_len),
	AT(rte_mbuf, data_len),
	AT(rte_mbuf, buf_len),
	AT(rte_mbuf, pool),
	AT(rte_mbuf, next),
	{ "rte_eth_dev_info", sizeof(struct rte_eth_dev_info) },
	AT(rte_eth_dev_info, device),
	AT(rte_eth_dev_info, driver_name),
	AT(rte_eth_dev_info, min_mtu),
	AT(rte_eth_dev_info, max_mtu),
	AT(rte_eth_dev_info, max_rx_queues),
	AT(rte_eth_dev_info, max_tx_queues),
	AT(rte_eth_dev_info, rx_offload_capa),
	AT(rte_eth_dev_info, tx_offload_capa),
	AT(rte_eth_dev_info, reta_size),
	AT(rte_eth_dev_info, hash_key_size),
	AT(rte_eth_dev_info, flow_type_rss_offloads),
	{ "rte_eth_conf", sizeof(struct rte_eth_conf) },
	{ "rte_eth_rxmode", sizeof(struct rte_eth_rxmode) },
	AT(rte_eth_rxmode, mtu),
	AT(rte_eth_rxmode, offloads),
	{ "rte_eth_txmode", sizeof(struct rte_eth_txmode) },
	AT(rte_eth_txmode, offloads),
	AT(rte_eth_conf, rxmode),
	AT(rte_eth_conf, txmode),
	{ "rte_eth_stats", sizeof(struct rte_eth_stats) },
	AT(rte_eth_stats, ipackets),
	AT(rte_eth_stats, oerrors),
	AT(rte_eth_stats, rx_nombuf),
	{ "rte_eth_xstat", sizeof(struct rte_eth_xstat) },
	AT(rte_eth_xstat, id),
	AT(rte_eth_xstat, value),
	{ "rte_eth_xstat_name", sizeof(struct rte_eth_xstat_name) },
	AT(rte_eth_xstat_name, name),
};
const size_t sgs_layouts_count = sizeof(sgs_layouts) / sizeof(sgs_layouts[0]);
