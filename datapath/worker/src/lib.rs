//! Poll-mode workers: ports, queues, steering rings, counters.
