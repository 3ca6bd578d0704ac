use crossbeam_channel::{Receiver, Sender, TryRecvError};
use engine::conntrack::{Accounts, Entry};
use engine::ids::PortIndex;
use engine::pipeline::Pipeline;
use engine::time::Tick;

use crate::announce::{Announcement, Announcer};
use crate::device::RxQueue;
use crate::egress::Egress;
use crate::exits::Way;
use crate::intake::Intake;
use crate::observer::{Observer, TapRequest};

/// Groups of the connection table that one turn looks at for the control thread.
const GROUPS_PER_TURN: usize = 64;

/// What the control thread asks of a worker.
pub(crate) enum Command {
    /// Copies of up to `limit` connections that the filter admits, in pieces.
    Connections { limit: usize, filter: Filter, reply: Sender<Connections> },
    /// To forget the connections that the filter admits, and say how many those were.
    Forget { filter: Filter, reply: Sender<usize> },
    /// To trace packets.
    Tap(TapRequest),
    /// To keep accounts of what connections carry.
    KeepAccounts(Box<Accounts>),
    /// To tell what is in them, and to pass this on behind it.
    TellAccounts(Sender<()>),
    /// To tell what is in them, and give them back.
    CloseAccounts(Sender<Option<Box<Accounts>>>),
    /// To take up its part of a port.
    Plug(Part, Sender<()>),
    /// To announce interfaces by an uplink.
    Announce(PortIndex, Vec<Announcement>),
    /// To let go of its part of a port, and give it back.
    Unplug(PortIndex, Sender<(PortIndex, Option<Part>)>),
}

/// A worker's part of a port: the queues that it polls, and its way to it.
pub(crate) struct Part {
    pub port: PortIndex,
    pub receive: Vec<RxQueue>,
    pub way: Way,
}

/// What commands are about.
pub(crate) struct Desk<'w> {
    pub pipeline: &'w mut Pipeline,
    pub observer: &'w mut Observer,
    pub egress: &'w mut Egress,
    pub receive: &'w mut Intake,
    pub announcer: &'w mut Announcer,
}

impl Desk<'_> {
    fn plug(&mut self, part: Part) {
        self.egress.exits.open(part.port, part.way);
        part.receive.into_iter().for_each(|queue| self.receive.plug(part.port, queue));
    }

    /// Queues go back to the control thread: whoever drops the last one closes the
    /// port. `None`: there was no such port.
    fn unplug(&mut self, port: PortIndex) -> Option<Part> {
        let way = self.egress.close(port)?;
        Some(Part { port, receive: self.receive.unplug(port), way })
    }
}

/// Which connections are wanted.
pub(crate) type Filter = std::sync::Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// A piece of a worker's answer: connections, and when it was.
pub(crate) type Connections = (Tick, Vec<Entry>);

/// The worker's end: commands are worked off a little in each turn.
pub(crate) struct Mailbox {
    commands: Receiver<Command>,
    walk: Option<Walk>,
}

/// A walk through the table that goes on from turn to turn.
struct Walk {
    cursor: usize,
    aim: Aim,
}

enum Aim {
    List { filter: Filter, left: usize, reply: Sender<Connections> },
    Forget { filter: Filter, forgotten: usize, reply: Sender<usize> },
    TellAccounts(Sender<()>),
    CloseAccounts(Sender<Option<Box<Accounts>>>),
}

impl Mailbox {
    pub fn new(commands: Receiver<Command>) -> Mailbox {
        Mailbox { commands, walk: None }
    }

    /// One step of the command under way, or of the next one.
    pub fn work(&mut self, desk: &mut Desk<'_>, now: Tick) {
        desk.observer.end_taps(now);
        let Some(mut walk) = self.walk.take().or_else(|| self.next(desk)) else { return };
        let pipeline = &mut *desk.pipeline;
        let Walk { cursor, aim } = &mut walk;
        let next = match aim {
            Aim::List { filter, left, reply } => {
                // Sent piece by piece: one large list would have to grow here.
                let mut found = Vec::new();
                let visit = &mut |entry: &Entry| {
                    if found.len() < *left && filter(entry) {
                        found.push(*entry);
                    }
                };
                let next = pipeline.table().scan(now, *cursor, GROUPS_PER_TURN, visit);
                *left -= found.len();
                // Whoever asked may have given up waiting.
                let is_wanted = found.is_empty() || reply.send((now, found)).is_ok();
                next.filter(|_| *left > 0 && is_wanted)
            }
            Aim::Forget { filter, forgotten, .. } => {
                let unwanted = &mut |entry: &Entry| {
                    let unwanted = filter(entry);
                    *forgotten += usize::from(unwanted);
                    unwanted
                };
                pipeline.forget(now, *cursor, GROUPS_PER_TURN, unwanted)
            }
            Aim::TellAccounts(_) | Aim::CloseAccounts(_) => {
                desk.observer.tell_accounts(pipeline, *cursor, GROUPS_PER_TURN)
            }
        };
        // Whoever asked may have given up waiting.
        match (next, walk.aim) {
            (Some(cursor), aim) => self.walk = Some(Walk { cursor, aim }),
            // The end of the list is the end of its channel.
            (None, Aim::List { reply, .. }) => drop(reply),
            (None, Aim::Forget { forgotten, reply, .. }) => drop(reply.send(forgotten)),
            (None, Aim::TellAccounts(mark)) => desk.observer.settle(mark),
            (None, Aim::CloseAccounts(back)) => drop(back.send(desk.pipeline.keep_accounts(None))),
        }
    }

    fn next(&self, desk: &mut Desk<'_>) -> Option<Walk> {
        let aim = match self.commands.try_recv() {
            Ok(Command::Connections { limit, filter, reply }) => Aim::List { filter, left: limit, reply },
            Ok(Command::Forget { filter, reply }) => Aim::Forget { filter, forgotten: 0, reply },
            Ok(Command::TellAccounts(mark)) => Aim::TellAccounts(mark),
            Ok(Command::CloseAccounts(back)) => Aim::CloseAccounts(back),
            Ok(Command::KeepAccounts(accounts)) => {
                drop(desk.pipeline.keep_accounts(Some(accounts)));
                return None;
            }
            Ok(Command::Tap(request)) => {
                desk.observer.tap(request);
                return None;
            }
            // Whoever asked may have given up waiting; what is given back waits for him.
            Ok(Command::Plug(part, done)) => {
                desk.plug(part);
                done.send(()).ok();
                return None;
            }
            Ok(Command::Announce(uplink, list)) => {
                desk.announcer.begin(uplink, list);
                return None;
            }
            Ok(Command::Unplug(port, back)) => {
                drop(back.send((port, desk.unplug(port))));
                return None;
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
        };
        Some(Walk { cursor: 0, aim })
    }

    /// Whether a command is under way.
    pub fn is_busy(&self) -> bool {
        self.walk.is_some() || !self.commands.is_empty()
    }
}
