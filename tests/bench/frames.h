/* SPDX-License-Identifier: Apache-2.0 */
/* The frames that traffic.c sends, made beforehand. Kinds:
 *
 * requests, replies         datagrams of known flows, client to server over and over, and back
 * requests6, replies6       the same over IPv6
 * segments, answers         acknowledgements of TCP, likewise
 * popular, liked            as requests and replies, once each and then by Zipf's law
 * new                       as requests, one round
 * strays                    as requests, from sources that no rule names
 * calls, calledback         TCP connections from open to close, both ends in turn
 *
 * and, of an attacker with a MAC of his own:
 *
 * scan                      one source, every port of the server
 * synflood                  to an open port, each from a source of its own
 * fragments                 pieces that overlap, lack their first, or never end
 * malformed                 headers that lie or are cut off
 * crowd                     new flows of one source, for rules between many groups
 * churn                     new flows that rules permit, more than there is room for
 *
 * Of rule r the clients are 10.(1 + r / 256).(r % 256).0/24 and fd00:0:0:r::/64, and
 * the server's UDP and TCP port is 1000 + r * 37 % 50000.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The last byte of the MAC of whoever means no good. */
#define ATTACKER 0x0c
/* Connections that are open at a time in conversations, and packets of each. */
#define BATCH 256
#define STEPS 16

struct frames {
	/* Each in a slot of this size, which ends with what a NIC would hash it to. */
	uint8_t *bytes;
	unsigned int slot;
	/* Of each; 0: as noted in the slot. */
	unsigned int length;
	uint64_t count;
	/* Where a round begins but the first. */
	uint64_t loop_from;
	int is_once, is_talk;
};

static inline uint16_t frame_length(const uint8_t *slot)
{
	uint16_t length;
	memcpy(&length, slot + 122, sizeof length);
	return length;
}

static uint64_t random_number(uint64_t *state)
{
	uint64_t x = (*state += 0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint32_t sum_of(const uint8_t *bytes, unsigned int length)
{
	uint32_t sum = 0;
	for (unsigned int i = 0; i < length; i++)
		sum += bytes[i] << (i % 2 ? 0 : 8);
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8; at[1] = value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value); }

static const uint8_t client_mac[6] = { 2, 0, 0, 0, 0, 0x0a }, server_mac[6] = { 2, 0, 0, 0, 0, 0x0b },
		     attacker_mac[6] = { 2, 0, 0, 0, 0, ATTACKER };
static const uint32_t SERVER = 192u << 24 | 168u << 16 | 11, ATTACKERS = 172u << 24 | 16u << 16;

/* The ends of a flow. */
struct flow {
	uint32_t client, server, rule, host;
	uint16_t client_port, server_port;
};

static struct flow flow_of(uint64_t number, uint64_t rules)
{
	uint64_t rule = number % rules, rest = number / rules;
	struct flow flow = {
		.client = 10u << 24 | (1 + (uint32_t)(rule >> 8)) << 16 | (rule & 255) << 8 | (rest & 255),
		.server = SERVER,
		.rule = rule,
		.host = rest & 255,
		.client_port = 1024 + (rest >> 8) % 60000,
		.server_port = 1000 + rule * 37 % 50000,
	};
	return flow;
}

static void put_macs(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	put16(frame + 12, type);
}

/* An IPv4 header behind the MACs, for so many bytes of payload. */
static void put_ipv4(uint8_t *frame, uint8_t protocol, uint32_t from, uint32_t to, unsigned int payload)
{
	frame[14] = 0x45;
	put16(frame + 16, 20 + payload);
	frame[20] = 0x40;
	frame[22] = 64;
	frame[23] = protocol;
	put32(frame + 26, from);
	put32(frame + 30, to);
	put16(frame + 24, folded(sum_of(frame + 14, 20)));
}

static void put_udp(uint8_t *at, uint16_t from, uint16_t to, uint16_t length)
{
	put16(at, from);
	put16(at + 2, to);
	put16(at + 4, length);
	/* Over IPv4 a checksum of 0 is none (RFC 768). */
}

static void put_tcp(uint8_t *at, uint16_t from, uint16_t to, uint32_t seq, uint32_t ack, uint8_t flags)
{
	put16(at, from);
	put16(at + 2, to);
	put32(at + 4, seq);
	put32(at + 8, ack);
	at[12] = 0x50;
	at[13] = flags;
	put16(at + 14, 0xffff);
}

/* The checksum of a TCP segment or datagram of so many bytes. */
static void put_checksum(uint8_t *at, unsigned int where, const uint8_t *addresses, unsigned int address_bytes, uint8_t protocol,
			 unsigned int length)
{
	put16(at + where, folded(sum_of(addresses, address_bytes) + protocol + length + sum_of(at, length)));
}

static void put_hash(uint8_t *slot, unsigned int size, uint64_t number)
{
	uint32_t hash = random_number(&number);
	memcpy(slot + size - 4, &hash, sizeof hash);
}

static void make_datagram(uint8_t *slot, const struct flow *flow, int back)
{
	put_macs(slot, back ? client_mac : server_mac, back ? server_mac : client_mac, 0x0800);
	put_ipv4(slot, 17, back ? flow->server : flow->client, back ? flow->client : flow->server, 26);
	put_udp(slot + 34, back ? flow->server_port : flow->client_port, back ? flow->client_port : flow->server_port, 26);
}

static void make_datagram6(uint8_t *slot, const struct flow *flow, int back)
{
	uint8_t *client = slot + (back ? 38 : 22), *server = slot + (back ? 22 : 38);
	put_macs(slot, back ? client_mac : server_mac, back ? server_mac : client_mac, 0x86dd);
	slot[14] = 0x60;
	put16(slot + 18, 8);
	slot[20] = 17;
	slot[21] = 64;
	client[0] = 0xfd;
	put16(client + 6, flow->rule);
	put16(client + 14, 1 + flow->host);
	server[0] = 0xfd;
	server[1] = 1;
	server[15] = 0x11;
	put_udp(slot + 54, back ? flow->server_port : flow->client_port, back ? flow->client_port : flow->server_port, 8);
	put_checksum(slot + 54, 6, slot + 22, 32, 17, 8);
}

static void make_segment(uint8_t *slot, const struct flow *flow, int back, uint32_t seq, uint32_t ack, uint8_t flags,
			 unsigned int data)
{
	put_macs(slot, back ? client_mac : server_mac, back ? server_mac : client_mac, 0x0800);
	put_ipv4(slot, 6, back ? flow->server : flow->client, back ? flow->client : flow->server, 20 + data);
	put_tcp(slot + 34, back ? flow->server_port : flow->client_port, back ? flow->client_port : flow->server_port, seq,
		ack, flags);
	put_checksum(slot + 34, 16, slot + 26, 8, 6, 20 + data);
}

/* The packets of a connection: open, four requests each acknowledged, close. */
static void make_step(uint8_t *slot, const struct flow *flow, uint64_t number, unsigned int step)
{
	enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16, DATA = 6 };
	uint64_t state = number;
	uint32_t ours = random_number(&state), theirs = random_number(&state);
	int back = step % 2;
	unsigned int requests = step < 4 ? 0 : step < 12 ? step / 2 - 1 : 4, is_request = !back && step >= 4 && step < 12;
	/* Sequence numbers of what comes next from client and server, once acknowledged. */
	uint32_t client = ours + 1 + DATA * (requests - is_request) + (step > 12), server = theirs + 1 + (step > 13);
	switch (step) {
	case 0:
		make_segment(slot, flow, 0, ours, 0, SYN, 0);
		break;
	case 1:
		make_segment(slot, flow, 1, theirs, ours + 1, SYN | ACK, 0);
		break;
	case 12:
	case 13:
		make_segment(slot, flow, back, back ? server : client, back ? client : server, FIN | ACK, 0);
		break;
	default:
		make_segment(slot, flow, back, back ? server : client, back ? client : server, ACK | (is_request ? PSH : 0),
			     is_request ? DATA : 0);
	}
}

static void make_attack(uint8_t *slot, const char *kind, uint64_t number)
{
	uint64_t state = number;
	uint64_t dice = random_number(&state), more = random_number(&state);
	uint32_t source = ATTACKERS | 5;
	uint16_t length = 60;
	put_macs(slot, server_mac, attacker_mac, 0x0800);
	if (!strcmp(kind, "scan")) {
		put_ipv4(slot, number & 1 ? 17 : 6, source, SERVER, 26);
		if (number & 1)
			put_udp(slot + 34, 1024 + (number >> 17) % 60000, number >> 1, 26);
		else
			put_tcp(slot + 34, 1024 + (number >> 17) % 60000, number >> 1, dice, 0, 2);
	} else if (!strcmp(kind, "synflood")) {
		put_ipv4(slot, 6, ATTACKERS | (dice & 0xfffff), SERVER, 20);
		put_tcp(slot + 34, 1024 + (dice >> 20) % 60000, 900, more, 0, 2);
	} else if (!strcmp(kind, "crowd")) {
		put_ipv4(slot, 17, source, SERVER, 26);
		put_udp(slot + 34, 1024 + dice % 60000, 61000 + (dice >> 32) % 4000, 26);
	} else if (!strcmp(kind, "churn")) {
		put_ipv4(slot, 17, ATTACKERS | (number & 0xfffff), SERVER, 26);
		put_udp(slot + 34, 1024 + (number >> 20), 900, 26);
	} else if (!strcmp(kind, "fragments")) {
		/* First alone, one in the middle alone, an end alone, a pair that overlaps. */
		put_ipv4(slot, 17, ATTACKERS | (dice & 0xfffff), SERVER, 32);
		put_udp(slot + 34, 1024, 900, 200);
		length = 66;
		put16(slot + 18, (number & 3) == 3 ? number >> 2 : more);
		put16(slot + 20, (const uint16_t[]){ 0x2000, 0x2000 | 4, 4, 0x2000 | (number >> 2 & 1) }[number & 3]);
		put16(slot + 24, 0);
		put16(slot + 24, folded(sum_of(slot + 14, 20)));
	} else {
		put_ipv4(slot, dice & 16 ? 6 : 17, source, SERVER, 26);
		for (int i = 34; i < 60; i++)
			slot[i] = more >> i;
		switch (number % 10) {
		case 0:
			length = 14 + dice % 20;
			break;
		case 1:
			put16(slot + 16, 61 + dice % 60000);
			break;
		case 2:
			slot[14] = 0x40 | dice % 5;
			break;
		case 3:
			slot[14] = 0x4f;
			break;
		case 4:
			slot[14] = dice;
			break;
		case 5:
			put16(slot + 38, dice % 8);
			break;
		case 6:
			slot[46] = dice & 0x4f;
			break;
		case 7:
			/* IPv6 whose extension headers lead beyond its end. */
			put16(slot + 12, 0x86dd);
			memset(slot + 14, 0, 46);
			slot[14] = 0x60;
			put16(slot + 18, 6);
			slot[21] = 64;
			slot[23] = 1;
			slot[55] = dice;
			break;
		case 8:
			put16(slot + 12, (const uint16_t[]){ 0x8100, 0x88a8, 0x0806, 0x0001 }[dice & 3]);
			break;
		default:
			for (int i = 12; i < 60; i++)
				slot[i] = (dice ^ more >> i % 40) * (i | 1);
		}
	}
	memcpy(slot + 122, &length, sizeof length);
	put_hash(slot, 128, dice);
}

/* All flows in random order. */
static uint64_t *shuffled(uint64_t flows)
{
	uint64_t state = 1, *order = malloc(flows * sizeof *order);
	for (uint64_t i = 0; order && i < flows; i++)
		order[i] = i;
	for (uint64_t i = flows - 1; order && i > 0; i--) {
		uint64_t j = random_number(&state) % (i + 1), flow = order[i];
		order[i] = order[j];
		order[j] = flow;
	}
	return order;
}

/* One of so many things, the n-th with a chance in proportion to 1 / n: by the
 * inverse of the sum, whose error at small n does not matter here. */
static uint64_t zipf(uint64_t *state, uint64_t count)
{
	double chance = (double)(random_number(state) >> 11) / (double)(1ull << 53);
	uint64_t rank = exp(chance * log((double)count + 1)) - 1;
	return rank < count ? rank : count - 1;
}

/* Returns 0, or -1 if there is no such kind or not enough memory. */
static int make_frames(struct frames *frames, const char *kind, uint64_t flows, uint64_t rules)
{
	static const struct {
		const char *kind;
		unsigned int slot, length;
		char what, is_back, is_once, is_talk, is_popular;
	} kinds[] = {
		{ "requests", 64, 60, 'u', 0, 0, 0, 0 },  { "replies", 64, 60, 'u', 1, 0, 0, 0 },
		{ "requests6", 128, 62, '6', 0, 0, 0, 0 }, { "replies6", 128, 62, '6', 1, 0, 0, 0 },
		{ "segments", 64, 60, 't', 0, 0, 0, 0 },  { "answers", 64, 60, 't', 1, 0, 0, 0 },
		{ "popular", 64, 60, 'u', 0, 0, 0, 1 },   { "liked", 64, 60, 'u', 1, 0, 0, 1 },
		{ "new", 64, 60, 'u', 0, 1, 0, 0 },	   { "strays", 64, 60, 'u', 0, 0, 0, 0 },
		{ "calls", 64, 60, 'c', 0, 1, 1, 0 },	   { "calledback", 64, 60, 'c', 1, 1, 1, 0 },
		{ "scan", 128, 0, 'a', 0, 0, 0, 0 },	   { "synflood", 128, 0, 'a', 0, 0, 0, 0 },
		{ "fragments", 128, 0, 'a', 0, 0, 0, 0 }, { "malformed", 128, 0, 'a', 0, 0, 0, 0 },
		{ "crowd", 128, 0, 'a', 0, 0, 0, 0 },	   { "churn", 128, 0, 'a', 0, 0, 0, 0 },
	};
	unsigned int k = 0;
	if (!strcmp(kind, "none"))
		return 0;
	while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].kind, kind))
		k++;
	if (k == sizeof kinds / sizeof *kinds || !flows || !rules)
		return -1;
	int back = kinds[k].is_back;
	frames->slot = kinds[k].slot;
	frames->length = kinds[k].length;
	frames->is_once = kinds[k].is_once;
	frames->is_talk = kinds[k].is_talk;
	if (kinds[k].is_talk)
		flows -= flows % BATCH;
	frames->count = kinds[k].is_talk ? flows * STEPS / 2 : kinds[k].is_popular ? flows * 4 : flows;
	frames->loop_from = kinds[k].is_popular ? flows : 0;
	uint64_t *order = shuffled(flows), state = 2 + back;
	frames->bytes = aligned_alloc(64, frames->count * frames->slot);
	if (!order || !frames->bytes)
		return -1;
	memset(frames->bytes, 0, frames->count * frames->slot);
	/* A reply comes when its request is no longer fresh in a cache. */
	uint64_t shift = back && !kinds[k].is_talk ? flows / 2 : 0;
	for (uint64_t i = 0; i < frames->count; i++) {
		uint8_t *slot = frames->bytes + i * frames->slot;
		uint64_t at = i, step = 0;
		if (kinds[k].is_talk) {
			/* All of a batch take each step together. */
			step = i / BATCH % (STEPS / 2) * 2 + back;
			at = i / BATCH / (STEPS / 2) * BATCH + i % BATCH;
		} else if (i >= flows) {
			at = zipf(&state, flows);
		}
		uint64_t number = order[(at + shift) % flows];
		if (i >= flows && kinds[k].is_popular)
			number = order[at];
		struct flow flow = flow_of(number, rules);
		if (!strcmp(kind, "strays"))
			flow.client |= 128u << 16;
		switch (kinds[k].what) {
		case 'u': make_datagram(slot, &flow, back); break;
		case '6': make_datagram6(slot, &flow, back); break;
		case 't': make_segment(slot, &flow, back, 1000 + back * 1000, 2000 - back * 1000, 16, 0); break;
		case 'c': make_step(slot, &flow, number, step); break;
		default: make_attack(slot, kind, number); continue;
		}
		put_hash(slot, frames->slot, number * 2 + back);
	}
	free(order);
	return 0;
}

#endif
