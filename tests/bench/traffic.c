/* SPDX-License-Identifier: Apache-2.0 */
/* An EAL plugin that makes the net_null ports of any DPDK program a source and a
 * sink of known flows, by DPDK's public API alone:
 *
 *     TRAFFIC_STATS=FILE TRAFFIC_net_null0=KIND,FLOWS,RULES PROGRAM -d traffic.so --vdev net_null0,size=64
 *
 * net_null takes mbufs from the program's own pool; a receive callback writes a
 * frame made beforehand into each, a transmit callback counts. So one core does
 * all, without a second process, a system call or a NIC, and every program is
 * given the same packets in the same order. Frames are made by frames.h.
 *
 * A port sends while its bit of `gate` is set. TRAFFIC_QUEUES says which receive
 * queue a frame comes by: `one`, the first of each port (unless said otherwise);
 * `any`, all of them in turn; `rss`, the one that a card would choose by the key
 * and table that the program has told the port. The first two know nothing of
 * flows. Queues are dealt to when `deal` is set to 1, once the program is ready. With
 * TRAFFIC_WINDOW, packets come no faster than they leave. With TRAFFIC_TIMED, datagrams
 * carry when they came, and how long each took until it was sent is counted; they come at
 * random, `pace` cycles after one another on average, and wait outside where the program
 * does not ask for them in time (0: one is there whenever it asks).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
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

#include "frames.h"

#define PORTS 3
#define QUEUES 4
/* Frames ahead of which memory is asked for. */
#define AHEAD 16
/* Marks along the first round of port 0. */
#define MARKS 256
/* Seconds after which a packet is given up for lost. */
#define PATIENCE 2
/* Packets that may be under way where a frame comes by any queue: what a program
 * hands from thread to thread must find room. They are counted at every so many polls. */
#define WINDOW 1024
#define POLLS 8
/* Where a datagram carries when it came: in what it holds, which has no checksum. */
#define STAMP 48
/* Intervals of a Poisson process, of length 1 on average, in 1/65536. */
#define INTERVALS 4096
/* What packets took, in cycles: up to 32 each, and then 32 to an octave. */
#define FINE 32
#define WAITS (60 * FINE)

/* What the reader sees, as 64-bit words; one writer for each queue. */
struct counts {
	volatile uint64_t sent, rounds, received, stray, first_tsc, last_tsc, pad[2];
};
struct shared {
	volatile uint64_t ready, gate, tsc_hz, deal, dealt, pace, pad[2];
	struct counts queue[PORTS][QUEUES];
	volatile uint64_t mark[MARKS], wait[WAITS];
};

/* One receive queue's part of the frames. */
struct queue {
	uint64_t begin, end, at;
	uint64_t polls, refused_tsc, given_up;
	uint64_t due_tsc, arrivals;
	struct counts *counts;
	struct source *source;
};

struct source {
	char name[24];
	struct frames frames;
	uint64_t mark_every;
	struct queue queue[QUEUES];
	int port;
};

static struct source sources[PORTS];
static struct shared *shared;
static int ports, has_window, is_timed;
static uint64_t interval[INTERVALS];
static char dealing[8] = "one";

/* Of conversations: whose turn it is, and how many packets of it came out. */
static struct {
	uint64_t step, given, passed, last_tsc;
} talk;

static void send_frame(struct rte_mbuf *mbuf, const struct frames *frames, const uint8_t *slot)
{
	rte_prefetch0(slot + AHEAD * frames->slot);
	if (frames->slot == 64) {
		memcpy(rte_pktmbuf_mtod(mbuf, void *), slot, 64);
	} else {
		rte_prefetch0(slot + AHEAD * frames->slot + 64);
		memcpy(rte_pktmbuf_mtod(mbuf, void *), slot, 128);
	}
	mbuf->data_len = mbuf->pkt_len = frames->length ? frames->length : frame_length(slot);
	mbuf->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_RSS_HASH;
	memcpy(&mbuf->hash.rss, slot + frames->slot - 4, sizeof mbuf->hash.rss);
	mbuf->packet_type = 0;
}

/* Whether so few packets are under way that another burst may come. */
static int has_room(struct queue *queue)
{
	uint64_t way = 0;
	if (!has_window || (!queue->refused_tsc && ++queue->polls % POLLS))
		return 1;
	for (int i = 0; i < ports; i++)
		for (int number = 0; number < QUEUES; number++)
			way += shared->queue[i][number].sent - shared->queue[i][number].received;
	if ((int64_t)(way - queue->given_up) < WINDOW) {
		queue->refused_tsc = 0;
		return 1;
	}
	if (!queue->refused_tsc)
		queue->refused_tsc = rte_rdtsc();
	if (rte_rdtsc() - queue->refused_tsc > PATIENCE * shared->tsc_hz)
		queue->given_up = way;
	return 0;
}

static uint16_t receive(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, uint16_t most, void *arg)
{
	struct queue *queue = arg;
	struct source *source = queue->source;
	struct counts *counts = queue->counts;
	const struct frames *frames = &source->frames;
	(void)port; (void)number; (void)most;
	if (!(shared->gate >> source->port & 1) || queue->begin == queue->end ||
	    (frames->is_once && counts->rounds) || !has_room(queue)) {
		rte_pktmbuf_free_bulk(mbufs, count);
		return 0;
	}
	if (!counts->first_tsc)
		counts->first_tsc = rte_rdtsc();
	uint16_t given = 0;
	while (given < count) {
		send_frame(mbufs[given++], frames, frames->bytes + queue->at * frames->slot);
		if (++queue->at == queue->end) {
			queue->at = queue->begin + (frames->loop_from < queue->end ? frames->loop_from : 0);
			counts->rounds++;
			counts->last_tsc = rte_rdtsc();
			if (frames->is_once) {
				rte_pktmbuf_free_bulk(mbufs + given, count - given);
				break;
			}
		}
	}
	uint64_t before = counts->sent;
	counts->sent = before + given;
	if (source->mark_every && before / source->mark_every != counts->sent / source->mark_every &&
	    counts->sent / source->mark_every < MARKS)
		shared->mark[counts->sent / source->mark_every] = rte_rdtsc();
	return given;
}

/* Datagrams that came at their time, whenever that is noticed. */
static uint16_t receive_timed(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, uint16_t most, void *arg)
{
	struct queue *queue = arg;
	struct counts *counts = queue->counts;
	const struct frames *frames = &queue->source->frames;
	uint64_t now = rte_rdtsc(), pace = shared->pace;
	uint16_t given = 0;
	(void)port; (void)number; (void)most;
	int is_open = shared->gate >> queue->source->port & 1 && queue->begin != queue->end;
	if (!is_open || !pace || !queue->due_tsc)
		queue->due_tsc = now;
	while (is_open && given < count && queue->due_tsc <= now) {
		struct rte_mbuf *mbuf = mbufs[given++];
		send_frame(mbuf, frames, frames->bytes + queue->at * frames->slot);
		memcpy(rte_pktmbuf_mtod_offset(mbuf, void *, STAMP), &queue->due_tsc, sizeof queue->due_tsc);
		queue->due_tsc += pace * interval[queue->arrivals++ % INTERVALS] >> 16;
		if (++queue->at == queue->end) {
			queue->at = queue->begin;
			counts->rounds++;
		}
	}
	counts->sent += given;
	rte_pktmbuf_free_bulk(mbufs + given, count - given);
	return given;
}

/* Both ends of conversations take turns: a step of all connections of a batch goes
 * out when all packets of the step before came in. One thread polls both. */
static uint16_t converse(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, uint16_t most, void *arg)
{
	struct queue *queue = arg;
	struct source *source = queue->source;
	const struct frames *frames = &source->frames;
	struct counts *counts = queue->counts;
	uint16_t given = 0;
	(void)port; (void)number; (void)most;
	if (talk.given == BATCH &&
	    (talk.passed >= BATCH || rte_rdtsc() - talk.last_tsc > PATIENCE * shared->tsc_hz)) {
		talk.step++;
		talk.given = talk.passed = 0;
	}
	if (shared->gate >> source->port & 1 && !counts->rounds && (talk.step & 1) == (uint64_t)source->port) {
		if (!counts->first_tsc)
			counts->first_tsc = rte_rdtsc();
		while (given < count && talk.given < BATCH) {
			send_frame(mbufs[given++], frames, frames->bytes + queue->at++ * frames->slot);
			talk.given++;
			if (queue->at == queue->end) {
				counts->rounds++;
				break;
			}
		}
		counts->sent += given;
		if (given)
			counts->last_tsc = talk.last_tsc = rte_rdtsc();
	}
	rte_pktmbuf_free_bulk(mbufs + given, count - given);
	return given;
}

static uint16_t transmit(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, void *arg)
{
	(void)port; (void)number; (void)mbufs;
	((struct counts *)arg)->received += count;
	return count;
}

static uint16_t transmit_talk(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, void *arg)
{
	talk.passed += count;
	return transmit(port, number, mbufs, count, arg);
}

static uint16_t transmit_timed(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, void *arg)
{
	uint64_t now = rte_rdtsc();
	for (uint16_t i = 0; i < count; i++) {
		uint64_t came;
		memcpy(&came, rte_pktmbuf_mtod_offset(mbufs[i], void *, STAMP), sizeof came);
		uint64_t wait = now - came;
		unsigned int octave = wait < FINE ? 0 : 63 - __builtin_clzll(wait) - __builtin_ctz(FINE);
		shared->wait[octave * FINE + (wait >> octave)]++;
	}
	return transmit(port, number, mbufs, count, arg);
}

/* Where there is an attacker: what is his is counted apart. */
static uint16_t transmit_apart(uint16_t port, uint16_t number, struct rte_mbuf *mbufs[], uint16_t count, void *arg)
{
	struct counts *counts = arg;
	uint64_t strays = 0;
	(void)port; (void)number;
	for (uint16_t i = 0; i < count; i++)
		strays += *rte_pktmbuf_mtod_offset(mbufs[i], uint8_t *, 11) == ATTACKER;
	counts->stray += strays;
	counts->received += count - strays;
	return count;
}

/* Toeplitz's hash of addresses and ports, bit by bit, as a card has it. */
static uint32_t toeplitz(const uint8_t *key, const uint8_t *slot)
{
	int is_v6 = slot[12] == 0x86;
	const uint8_t *input = slot + (is_v6 ? 22 : 26);
	uint32_t hash = 0, window = key[0] << 24 | key[1] << 16 | key[2] << 8 | key[3];
	for (unsigned int i = 0; i < (is_v6 ? 36 : 12); i++) {
		for (int bit = 7; bit >= 0; bit--) {
			if (input[i] >> bit & 1)
				hash ^= window;
			window = window << 1 | (key[i + 4] >> bit & 1);
		}
	}
	return hash;
}

/* Puts the frames of each queue together. */
static int deal_by_hash(struct source *source, uint16_t port)
{
	struct rte_eth_dev_info info;
	uint8_t key[40];
	struct rte_eth_rss_conf conf = { .rss_key = key, .rss_key_len = sizeof key };
	struct rte_eth_rss_reta_entry64 table[2] = { { .mask = UINT64_MAX }, { .mask = UINT64_MAX } };
	struct frames *frames = &source->frames;
	if (!frames->bytes)
		return 0;
	if (rte_eth_dev_info_get(port, &info) || rte_eth_dev_rss_hash_conf_get(port, &conf) ||
	    rte_eth_dev_rss_reta_query(port, table, 128))
		return -1;
	uint8_t *bytes = aligned_alloc(64, frames->count * frames->slot), *to = bytes;
	if (!bytes)
		return -1;
	for (uint16_t number = 0; number < info.nb_rx_queues && number < QUEUES; number++) {
		source->queue[number].begin = source->queue[number].at = (to - bytes) / frames->slot;
		for (uint64_t i = 0; i < frames->count; i++) {
			const uint8_t *slot = frames->bytes + i * frames->slot;
			uint32_t entry = toeplitz(key, slot) & 127;
			if (table[entry / 64].reta[entry % 64] == number) {
				memcpy(to, slot, frames->slot);
				to += frames->slot;
			}
		}
		source->queue[number].end = (to - bytes) / frames->slot;
	}
	free(frames->bytes);
	frames->bytes = bytes;
	return 0;
}

/* Of each queue a run of the frames, which are in random order. */
static void deal_by_count(struct source *source, uint16_t queues)
{
	uint64_t count = source->frames.bytes ? source->frames.count : 0;
	for (uint16_t number = 0; number < queues; number++) {
		source->queue[number].begin = source->queue[number].at = count * number / queues;
		source->queue[number].end = count * (number + 1) / queues;
	}
}

/* Ports have a queue when they come, and more when the program sets them up. */
static void *attach(void *arg)
{
	(void)arg;
	uint16_t sending[PORTS] = { 0 }, receiving[PORTS] = { 0 }, port[PORTS] = { 0 };
	for (;;) {
		for (int i = 0; i < ports; i++) {
			struct source *source = &sources[i];
			struct rte_eth_dev_info info;
			if (rte_eth_dev_get_port_by_name(source->name, &port[i]) ||
			    rte_eth_dev_info_get(port[i], &info) || !info.nb_rx_queues || !info.nb_tx_queues)
				continue;
			for (; sending[i] < info.nb_tx_queues && sending[i] < QUEUES; sending[i]++)
				rte_eth_add_tx_callback(port[i], sending[i],
							is_timed		? transmit_timed :
							ports > 2		? transmit_apart :
							source->frames.is_talk ? transmit_talk :
										 transmit,
							&shared->queue[i][sending[i]]);
			int is_new = receiving[i] == 0;
			for (; receiving[i] < info.nb_rx_queues && receiving[i] < QUEUES; receiving[i]++)
				rte_eth_add_rx_callback(port[i], receiving[i],
							is_timed		? receive_timed :
							source->frames.is_talk ? converse :
										 receive,
							&source->queue[receiving[i]]);
			if (!is_new)
				continue;
			deal_by_count(source, 1);
			shared->tsc_hz = rte_get_tsc_hz();
			shared->ready++;
		}
		if (shared->deal && !shared->dealt) {
			for (int i = 0; i < ports; i++) {
				if (!strcmp(dealing, "any"))
					deal_by_count(&sources[i], receiving[i]);
				else if (!strcmp(dealing, "rss") && deal_by_hash(&sources[i], port[i])) {
					fprintf(stderr, "traffic: %s has no key or table of 128 queues\n", sources[i].name);
					exit(1);
				}
			}
			shared->dealt = 1;
		}
		usleep(shared->ready < (uint64_t)ports ? 500 : 20000);
	}
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("TRAFFIC_STATS"), *how = getenv("TRAFFIC_QUEUES");
	int file = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
	if (file < 0 || ftruncate(file, sizeof *shared)) {
		perror("traffic: TRAFFIC_STATS");
		exit(1);
	}
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (shared == MAP_FAILED)
		exit(1);
	if (how)
		snprintf(dealing, sizeof dealing, "%s", how);
	has_window = getenv("TRAFFIC_WINDOW") != NULL;
	is_timed = getenv("TRAFFIC_TIMED") != NULL;
	for (uint64_t i = 0; i < INTERVALS; i++)
		interval[i * 1597 % INTERVALS] = -log((i + 0.5) / INTERVALS) * 65536;
	for (ports = 0; ports < PORTS; ports++) {
		struct source *source = &sources[ports];
		char variable[32], kind[16];
		uint64_t flows, rules;
		snprintf(source->name, sizeof source->name, "net_null%d", ports);
		snprintf(variable, sizeof variable, "TRAFFIC_net_null%d", ports);
		const char *value = getenv(variable);
		if (!value)
			break;
		if (sscanf(value, "%15[a-z0-9-],%lu,%lu", kind, &flows, &rules) != 3 ||
		    make_frames(&source->frames, kind, flows, rules)) {
			fprintf(stderr, "traffic: %s must be KIND,FLOWS,RULES, and there must be memory: %s\n", variable, value);
			exit(1);
		}
		source->port = ports;
		if (ports == 0 && source->frames.is_once)
			source->mark_every = (source->frames.count + MARKS - 2) / (MARKS - 1);
		for (int number = 0; number < QUEUES; number++) {
			source->queue[number].source = source;
			source->queue[number].counts = &shared->queue[ports][number];
		}
	}
	pthread_t thread;
	if (!pthread_create(&thread, NULL, attach, NULL))
		pthread_detach(thread);
}
