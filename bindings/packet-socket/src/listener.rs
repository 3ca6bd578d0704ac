use std::io;
use std::time::Duration;

use crate::RxQueue;
use crate::system::{Epoll, Event};

/// The most queues that one listening tells of; of more, the next one tells of the others.
const TOLD: usize = 64;

/// Tells which of many receive queues have something to receive, by one system call for
/// all of them (epoll(7)), or sleeps until one has.
#[derive(Debug)]
pub struct Listener {
    epoll: Epoll,
    /// By place: whether it is a queue's, and whether that had something.
    places: Vec<Place>,
    count: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    is_taken: bool,
    was_heard: bool,
}

impl Listener {
    /// One that listens to no queue yet.
    ///
    /// # Errors
    /// The kernel's reason: mostly that there are too many descriptors.
    pub fn open() -> io::Result<Listener> {
        Ok(Listener { epoll: Epoll::open()?, places: Vec::new(), count: 0 })
    }

    /// Listens to a queue from now on. To one at which this fails it does not listen.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn add(&mut self, queue: &mut RxQueue) -> io::Result<()> {
        let free = self.places.iter().position(|place| !place.is_taken);
        let at = free.unwrap_or(self.places.len());
        self.epoll.add(queue.socket(), at as u64)?;
        if free.is_none() {
            self.places.push(Place::default());
        }
        self.places[at] = Place { is_taken: true, was_heard: true };
        self.count += 1;
        queue.place = Some(at);
        Ok(())
    }

    /// Listens to a queue no more.
    pub fn remove(&mut self, queue: &mut RxQueue) {
        if let Some(place) = queue.place.take() {
            self.epoll.remove(queue.socket());
            self.places[place] = Place::default();
            self.count -= 1;
        }
    }

    /// How many queues it listens to.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Finds out which queues have something now; if none has, waits until one has, but no
    /// longer than this.
    pub fn listen(&mut self, longest: Duration) {
        let mut events = [Event::NONE; TOLD];
        match self.epoll.wait(&mut events, longest) {
            Ok(count) => {
                self.places.iter_mut().for_each(|place| place.was_heard = false);
                for event in &events[..count] {
                    if let Some(place) = self.places.get_mut(event.number() as usize) {
                        place.was_heard = true;
                    }
                }
            }
            // Who cannot hear asks everyone.
            Err(_) => self.places.iter_mut().for_each(|place| place.was_heard = true),
        }
    }

    /// Whether a queue may have something: it had when it was listened to, or had when it
    /// was received from, or is not listened to.
    #[inline]
    pub fn may_have(&self, queue: &RxQueue) -> bool {
        !queue.is_silent || queue.place.is_none_or(|place| self.places[place].was_heard)
    }
}
