//! The queues that a worker receives from.

use std::time::Duration;

use dpdk::Burst;
use engine::ids::PortIndex;
use packet_socket::{Landing, Listener};

use crate::device::RxQueue;

/// From so many silent packet sockets on, a worker finds out by one system call which of
/// them have something, instead of asking each.
const MANY: usize = 2;

/// Queues, none of them a packet socket, for which judged packets wait without a look at the
/// clock, whose reading takes as long as asking one that has nothing.
const FEW: usize = 1;

/// The receive queues of a worker, each with its port.
pub(crate) struct Intake {
    queues: Vec<(PortIndex, RxQueue)>,
    /// Where the frames of packet sockets land, since there was one.
    landing: Option<Landing>,
    /// `None`: the kernel gave none, and packet sockets are asked one by one.
    listener: Option<Listener>,
    /// Packet sockets that had nothing in this turn, so far.
    silent: usize,
    /// Whether it was listened in this turn.
    has_listened: bool,
}

impl Intake {
    /// Room for so many queues.
    pub fn with_room(queues: usize) -> Intake {
        Intake {
            queues: Vec::with_capacity(queues),
            landing: None,
            listener: Listener::open().ok(),
            silent: 0,
            has_listened: false,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// Takes a queue up.
    pub fn plug(&mut self, port: PortIndex, mut queue: RxQueue) {
        if let RxQueue::Packet(queue) = &mut queue {
            if self.landing.is_none() {
                self.landing = queue.take_landing();
            }
            // One that is not listened to is asked each time.
            let _ = self.listener.as_mut().map(|listener| listener.add(queue));
        }
        self.queues.push((port, queue));
    }

    /// Lets go of a port's queues.
    pub fn unplug(&mut self, port: PortIndex) -> Vec<RxQueue> {
        let mut gone = Vec::new();
        while let Some(at) = self.queues.iter().position(|(of, _)| *of == port) {
            let (_, mut queue) = self.queues.swap_remove(at);
            if let (RxQueue::Packet(queue), Some(listener)) = (&mut queue, &mut self.listener) {
                listener.remove(queue);
            }
            gone.push(queue);
        }
        gone
    }

    /// Begins a turn: finds out which packet sockets have something, where many had nothing
    /// in the last one.
    #[inline]
    pub fn listen(&mut self) {
        let is_worth_it = std::mem::take(&mut self.silent) >= MANY;
        self.has_listened = is_worth_it && self.listener.is_some();
        if let (true, Some(listener)) = (is_worth_it, &mut self.listener) {
            listener.listen(Duration::ZERO);
        }
    }

    /// Whether asking the queues behind this place may take long: where that is a system call,
    /// or they are many.
    #[inline]
    pub fn takes_long_after(&self, at: usize) -> bool {
        takes_long(self.queues.len().saturating_sub(at + 1), self.landing.is_some())
    }

    /// Sleeps, until a packet socket has something at the latest.
    pub fn sleep(&mut self, longest: Duration) {
        match &mut self.listener {
            Some(listener) if listener.count() > 0 => listener.listen(longest),
            _ => std::thread::sleep(longest),
        }
    }

    /// Fills an empty burst from the queue at this place, and says whose port it is.
    /// `None`: nothing has come.
    #[inline]
    pub fn receive(&mut self, at: usize, burst: &mut Burst) -> Option<(PortIndex, usize)> {
        let (port, queue) = &mut self.queues[at];
        let RxQueue::Packet(socket) = queue else {
            let count = queue.receive(None, burst);
            return (count > 0).then_some((*port, count));
        };
        let has_nothing =
            self.has_listened && self.listener.as_ref().is_some_and(|listener| !listener.may_have(socket));
        let count = if has_nothing { 0 } else { queue.receive(self.landing.as_mut(), burst) };
        self.silent += usize::from(count == 0);
        (count > 0).then_some((*port, count))
    }
}

/// Whether asking so many queues may, where there are packet sockets among all of them or not.
#[inline]
fn takes_long(left: usize, has_sockets: bool) -> bool {
    left > FEW || left > 0 && has_sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_by_the_clock_for_packet_sockets_and_for_many_queues() {
        assert_eq!([0, 1, 2, 100].map(|left| takes_long(left, false)), [false, false, true, true]);
        assert_eq!([0, 1, 2, 100].map(|left| takes_long(left, true)), [false, true, true, true]);
        assert!(!Intake::with_room(0).takes_long_after(0), "there is none behind");
    }
}
