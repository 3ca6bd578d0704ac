//! The way to the control thread, which does one thing after the other, in the order in which
//! it was asked. Single changes that wait behind each other are one thing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::body::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::bodies::Place;
use crate::push::{Answered, MOST, PushError, PushOptions, Pushed, Waiting};
use crate::switch::Switch;

/// What waits.
enum Task {
    Run(Box<dyn FnOnce(&mut Switch) + Send>),
    Change(Waiting),
}

/// What is done in one go.
enum Turn {
    Run(Box<dyn FnOnce(&mut Switch) + Send>),
    Changes(Vec<Waiting>),
}

/// How the API reaches the control thread.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Task>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The switch stops.
    Stopping,
    /// The request has panicked.
    Failed,
}

/// The control thread's end.
pub struct Inbox {
    tasks: mpsc::Receiver<Task>,
    /// What was found behind changes that were taken.
    next: Option<Task>,
    answers: mpsc::UnboundedSender<Answered>,
}

/// Answers to changes on their way to those who wait: of all that were taken together at once,
/// so that the threads wake each other once for all of them.
pub struct Answers(mpsc::UnboundedReceiver<Answered>);

/// A handle, its inbox, and what comes back. So many requests wait at most; more wait for a place.
pub fn channel() -> (Handle, Inbox, Answers) {
    let (sender, tasks) = mpsc::channel(MOST);
    let (answers, answered) = mpsc::unbounded_channel();
    (Handle(sender), Inbox { tasks, next: None, answers }, Answers(answered))
}

impl Answers {
    /// Hands them out until the control thread has ended.
    pub async fn hand_out(mut self) {
        while let Some(answered) = self.0.recv().await {
            answered.into_iter().for_each(|(reply, answer)| drop(reply.send(answer)));
        }
    }
}

impl Handle {
    /// Runs a closure on the control thread and returns what it returns.
    pub async fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Switch) -> R + Send + 'static,
    ) -> Result<R, Unanswered> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone when the answer comes.
        let task = Task::Run(Box::new(move |switch| drop(reply.send(task(switch)))));
        self.ask(task, answer).await
    }

    /// Has a single change put into force, by EC2's name of it; together with others that wait.
    pub async fn change(
        &self,
        action: String,
        request: Bytes,
        options: PushOptions,
        place: Place,
    ) -> Result<Result<Pushed, PushError>, Unanswered> {
        let (waiting, answer) = Waiting::new(action, request, options, place);
        self.ask(Task::Change(waiting), answer).await
    }

    async fn ask<R>(&self, task: Task, answer: oneshot::Receiver<R>) -> Result<R, Unanswered> {
        self.0.send(task).await.map_err(|_| Unanswered::Stopping)?;
        answer.await.map_err(|_| Unanswered::Failed)
    }
}

impl Inbox {
    /// Works off requests until the last handle is gone. One that panics, which
    /// is a defect, costs its own answer, and those of the changes that were taken with
    /// it, and not the switch: what is in force is replaced at the end of a push, as a whole.
    pub fn serve(mut self, mut switch: Switch) {
        while let Some(turn) = self.turn() {
            let work = AssertUnwindSafe(|| match turn {
                Turn::Run(task) => task(&mut switch),
                Turn::Changes(changes) => {
                    switch.act(changes, &|answered| drop(self.answers.send(answered)));
                }
            });
            if catch_unwind(work).is_err() {
                tracing::error!("a request has failed inside the switch: this is a defect");
            }
            switch.datapath.reclaim();
        }
    }

    /// Waits for what is next. Nothing is waited for beyond that: changes are together that
    /// were there by now.
    fn turn(&mut self) -> Option<Turn> {
        let first = match self.next.take() {
            Some(task) => task,
            None => self.tasks.blocking_recv()?,
        };
        let mut changes = match first {
            Task::Run(task) => return Some(Turn::Run(task)),
            Task::Change(first) => vec![first],
        };
        while changes.len() < MOST {
            match self.tasks.try_recv() {
                Ok(Task::Change(change)) => changes.push(change),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                // None is there, or ever will be.
                Err(_) => break,
            }
        }
        Some(Turn::Changes(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bodies::Room;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    type Asked<'h> = Pin<Box<dyn Future<Output = ()> + 'h>>;

    fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// Asks for a change of this name.
    fn change<'h>(handle: &'h Handle, name: &'static str) -> Asked<'h> {
        let place = poll(pin!(Room::new().place(1))).expect("there is room").unwrap();
        let asked = handle.change(name.to_string(), Bytes::new(), PushOptions::default(), place);
        let mut asked: Asked<'h> = Box::pin(async { drop(asked.await) });
        assert!(poll(asked.as_mut()).is_none());
        asked
    }

    fn run(handle: &Handle) -> Asked<'_> {
        let mut asked: Asked<'_> = Box::pin(async {
            handle.run(|_| ()).await.ok();
        });
        assert!(poll(asked.as_mut()).is_none());
        asked
    }

    /// The names of changes; `None` for something else.
    fn names(turn: Turn) -> Option<Vec<String>> {
        match turn {
            Turn::Run(_) => None,
            Turn::Changes(changes) => Some(changes.into_iter().map(|change| change.action).collect()),
        }
    }

    #[test]
    fn changes_that_wait_behind_each_other_are_one_turn_and_the_order_stays() {
        let (handle, mut inbox, _answers) = channel();
        let _asked =
            [change(&handle, "a"), change(&handle, "b"), run(&handle), run(&handle), change(&handle, "c")];
        let mut turn = || inbox.turn().map(names);
        let all = |names: &[&str]| Some(Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()));
        assert_eq!(turn(), all(&["a", "b"]));
        assert_eq!((turn(), turn()), (Some(None), Some(None)));
        assert_eq!(turn(), all(&["c"]), "one alone waits for no other");
        let more: Vec<_> = (0..MOST).map(|_| change(&handle, "d")).collect();
        let mut waits = pin!(handle.run(|_| ()));
        assert!(poll(waits.as_mut()).is_none());
        assert_eq!(turn().flatten().map(|names| names.len()), Some(MOST));
        drop(more);
        assert!(poll(waits.as_mut()).is_none(), "now it is in its place");
        assert_eq!(turn(), Some(None));
    }
}
