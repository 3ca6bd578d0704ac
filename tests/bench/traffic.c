/* SPDX-License-Identifier: Apache-2.0 */
/* An EAL plugin that makes the net_null ports of any DPDK program a source and a
 * sink of known flows, by DPDK's public API alone:
 *
 *     TRAFFIC_STATS=FILE TRAFFIC_net_null0=KIND,FLOWS,RULES PROGRAM -d traffic.so --vdev net_null0,size=64
 *
 * net_null takes mbufs from the program's own pool; a receive callback writes a
 * frame made beforehand into each, a transmit callback counts. So one core does
 * all, without a second process, a system call or a NIC, and every program is
 * given the same packets in the same order.
 *
 * Kinds: requests (one datagram per flow, client to server, over and over),
 * replies (the same flows back, half a round behind), new (as requests, one
 * round), strays (as requests, from sources that no rule names), none.
 *
 * Of rule r the clients are 10.(1 + r / 256).(r % 256).0/24 and the server's UDP
 * port is 1000 + r * 37 % 50000. Nothing is sent before `gate` is set to 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#define PORTS 2
#define SLOT 64
#define FRAME 60
/* Frames ahead of which memory is asked for. */
#define AHEAD 16

/* What the reader sees, as 64-bit words; one writer for each port. */
struct counts {
	volatile uint64_t sent, received, rounds, first_tsc, last_tsc, pad[3];
};
struct shared {
	volatile uint64_t ready, gate, tsc_hz, pad[5];
	struct counts port[PORTS];
};

struct source {
	char name[16];
	char kind[16];
	uint64_t flows, rules, at, most_rounds;
	uint8_t *frames;
	struct counts *counts;
};

static struct source sources[PORTS];
static struct shared *shared;

static uint64_t random_number(uint64_t *state)
{
	uint64_t x = (*state += 0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint16_t checksum(const uint8_t *bytes, unsigned int length)
{
	uint32_t sum = 0;
	for (unsigned int i = 0; i < length; i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8; at[1] = value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value); }

static void make_frame(uint8_t *frame, const struct source *source, uint64_t flow)
{
	static const uint8_t client_mac[6] = { 2, 0, 0, 0, 0, 0x0a }, server_mac[6] = { 2, 0, 0, 0, 0, 0x0b };
	int back = !strcmp(source->kind, "replies");
	uint64_t rule = flow % source->rules, rest = flow / source->rules;
	uint32_t client = 10u << 24 | (1 + (uint32_t)(rule >> 8)) << 16 | (rule & 255) << 8 | (rest & 255);
	uint16_t client_port = 1024 + (rest >> 8) % 60000, server_port = 1000 + rule * 37 % 50000;
	uint32_t server = 192u << 24 | 168u << 16 | 11;
	if (!strcmp(source->kind, "strays"))
		client |= 128u << 16;
	memset(frame, 0, SLOT);
	memcpy(frame, back ? client_mac : server_mac, 6);
	memcpy(frame + 6, back ? server_mac : client_mac, 6);
	put16(frame + 12, 0x0800);
	frame[14] = 0x45;
	put16(frame + 16, FRAME - 14);
	frame[20] = 0x40;
	frame[22] = 64;
	frame[23] = 17;
	put32(frame + 26, back ? server : client);
	put32(frame + 30, back ? client : server);
	put16(frame + 24, checksum(frame + 14, 20));
	put16(frame + 34, back ? server_port : client_port);
	put16(frame + 36, back ? client_port : server_port);
	put16(frame + 38, FRAME - 34);
	/* A UDP checksum of 0 is none (RFC 768). Behind the frame stands what a NIC
	 * would have hashed it to. */
	uint64_t state = flow * 2 + back;
	uint32_t hash = random_number(&state);
	memcpy(frame + FRAME, &hash, sizeof hash);
}

static int make_frames(struct source *source)
{
	uint64_t state = 1, *order = malloc(source->flows * sizeof *order);
	source->frames = aligned_alloc(SLOT, source->flows * SLOT);
	if (!order || !source->frames)
		return -1;
	for (uint64_t i = 0; i < source->flows; i++)
		order[i] = i;
	for (uint64_t i = source->flows - 1; i > 0; i--) {
		uint64_t j = random_number(&state) % (i + 1), flow = order[i];
		order[i] = order[j];
		order[j] = flow;
	}
	/* A reply comes when its request is no longer fresh in a cache. */
	uint64_t shift = strcmp(source->kind, "replies") ? 0 : source->flows / 2;
	for (uint64_t i = 0; i < source->flows; i++)
		make_frame(source->frames + i * SLOT, source, order[(i + shift) % source->flows]);
	free(order);
	return 0;
}

static uint16_t receive(uint16_t port, uint16_t queue, struct rte_mbuf *mbufs[], uint16_t count, uint16_t most, void *arg)
{
	struct source *source = arg;
	struct counts *counts = source->counts;
	(void)port; (void)queue; (void)most;
	if (!shared->gate || !source->frames || (source->most_rounds && counts->rounds == source->most_rounds)) {
		rte_pktmbuf_free_bulk(mbufs, count);
		return 0;
	}
	if (!counts->first_tsc)
		counts->first_tsc = rte_rdtsc();
	uint16_t given = 0;
	while (given < count) {
		struct rte_mbuf *mbuf = mbufs[given++];
		const uint8_t *frame = source->frames + source->at * SLOT;
		rte_prefetch0(frame + AHEAD * SLOT);
		memcpy(rte_pktmbuf_mtod(mbuf, void *), frame, SLOT);
		mbuf->data_len = mbuf->pkt_len = FRAME;
		mbuf->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_RSS_HASH;
		memcpy(&mbuf->hash.rss, frame + FRAME, sizeof mbuf->hash.rss);
		mbuf->packet_type = 0;
		if (++source->at == source->flows) {
			source->at = 0;
			counts->rounds++;
			counts->last_tsc = rte_rdtsc();
			if (counts->rounds == source->most_rounds) {
				rte_pktmbuf_free_bulk(mbufs + given, count - given);
				break;
			}
		}
	}
	counts->sent += given;
	return given;
}

static uint16_t transmit(uint16_t port, uint16_t queue, struct rte_mbuf *mbufs[], uint16_t count, void *arg)
{
	(void)port; (void)queue; (void)mbufs;
	((struct source *)arg)->counts->received += count;
	return count;
}

/* Ports come when the program sets them up, and queues when it does so again. */
static void *attach(void *arg)
{
	(void)arg;
	uint16_t attached[PORTS] = { 0 };
	for (;;) {
		for (int i = 0; i < PORTS; i++) {
			uint16_t port;
			struct rte_eth_dev_info info;
			if (rte_eth_dev_get_port_by_name(sources[i].name, &port) ||
			    rte_eth_dev_info_get(port, &info) || !info.nb_rx_queues)
				continue;
			int is_new = attached[i] == 0;
			for (; attached[i] < info.nb_tx_queues; attached[i]++)
				rte_eth_add_tx_callback(port, attached[i], transmit, &sources[i]);
			if (!is_new || !attached[i])
				continue;
			rte_eth_add_rx_callback(port, 0, receive, &sources[i]);
			shared->tsc_hz = rte_get_tsc_hz();
			shared->ready++;
		}
		usleep(shared->ready < PORTS ? 500 : 20000);
	}
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("TRAFFIC_STATS");
	int file = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
	if (file < 0 || ftruncate(file, sizeof *shared)) {
		perror("traffic: TRAFFIC_STATS");
		exit(1);
	}
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	for (int i = 0; i < PORTS; i++) {
		struct source *source = &sources[i];
		char variable[32];
		snprintf(source->name, sizeof source->name, "net_null%d", i);
		snprintf(variable, sizeof variable, "TRAFFIC_net_null%d", i);
		const char *value = getenv(variable);
		if (shared == MAP_FAILED || !value ||
		    sscanf(value, "%15[a-z],%lu,%lu", source->kind, &source->flows, &source->rules) != 3) {
			fprintf(stderr, "traffic: %s must be KIND,FLOWS,RULES\n", variable);
			exit(1);
		}
		source->counts = &shared->port[i];
		source->most_rounds = !strcmp(source->kind, "new");
		if (strcmp(source->kind, "none") && make_frames(source)) {
			fprintf(stderr, "traffic: no memory for %lu flows\n", source->flows);
			exit(1);
		}
	}
	pthread_t thread;
	if (!pthread_create(&thread, NULL, attach, NULL))
		pthread_detach(thread);
}
