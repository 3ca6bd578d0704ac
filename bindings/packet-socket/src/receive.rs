use std::sync::Arc;

use dpdk::{BURST, Burst, Mbuf};

use crate::landing::{Landing, Seen};
use crate::port::Queue;
use crate::system::Socket;

/// A receive queue. One thread polls it at a time.
#[derive(Debug)]
pub struct RxQueue {
    queue: Arc<Queue>,
    landing: Option<Landing>,
    /// Whether nothing was there the last time.
    pub(crate) is_silent: bool,
    /// Its place at the listener, if one listens to it.
    pub(crate) place: Option<usize>,
}

impl RxQueue {
    pub(crate) fn new(queue: Arc<Queue>, landing: Landing) -> RxQueue {
        RxQueue { queue, landing: Some(landing), is_silent: false, place: None }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.queue.socket
    }

    /// Where a thread may receive the frames of all its queues to; each queue brings one,
    /// once, with mbufs of the pools that it was started with.
    pub fn take_landing(&mut self) -> Option<Landing> {
        self.landing.take()
    }

    /// Adds received frames to the burst, as many as there are and fit. `see` is
    /// shown each that came with a header or a tag, and says whether it is one to
    /// go on with. Returns how many were added.
    pub fn receive(
        &mut self,
        landing: &mut Landing,
        burst: &mut Burst,
        mut see: impl FnMut(&mut Mbuf, &Seen) -> bool,
    ) -> usize {
        let room = BURST - burst.len();
        let messages = landing.prepare();
        let ready = messages.len().min(room);
        if ready < room {
            self.queue.rx.starved.add(1);
        }
        // SAFETY: the messages point into the landing and into mbufs of its slots.
        let received = match unsafe { self.queue.socket.receive(&mut messages[..ready]) } {
            Ok(count) => count,
            // The interface is down, or a frame of a kind that has no header (EINVAL).
            Err(error) => {
                let is_of_a_frame = error.raw_os_error() == Some(libc::EINVAL);
                self.queue.rx.errors.add(is_of_a_frame.into());
                0
            }
        };
        landing.note(received);
        // Who was not asked may have had something.
        self.is_silent = received == 0 && ready > 0;
        let (mut added, mut bytes, mut errors, mut super_frames) = (0, 0, 0, 0);
        for index in 0..received {
            let taken = landing.take(index).and_then(|(mut packet, seen)| {
                let keep = seen == Seen::default() || see(&mut packet, &seen);
                keep.then_some((packet, seen))
            });
            let Some((packet, seen)) = taken else {
                errors += 1;
                continue;
            };
            bytes += u64::from(packet.total_len());
            super_frames += u64::from(seen.header.segments.is_some());
            added += usize::from(burst.push(packet).is_ok());
        }
        let counts = &self.queue.rx;
        counts.packets.add(added as u64);
        counts.bytes.add(bytes);
        counts.errors.add(errors);
        counts.super_frames.add(super_frames);
        added
    }
}
