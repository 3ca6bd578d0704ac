use crossbeam_channel::{Receiver, Sender, TryRecvError};
use engine::conntrack::{Entry, Table};
use engine::time::Tick;

/// Groups of the connection table that one turn looks at for the control thread.
const GROUPS_PER_TURN: usize = 64;

/// What the control thread asks of a worker.
pub(crate) enum Command {
    /// Copies of up to `limit` connections that the filter admits.
    Connections { limit: usize, filter: Filter, reply: Sender<Connections> },
}

/// Which connections are wanted.
pub(crate) type Filter = std::sync::Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// A worker's answer: the connections, and when it was.
pub(crate) type Connections = (Tick, Vec<Entry>);

/// The worker's end: commands are worked off a little in each turn.
pub(crate) struct Mailbox {
    commands: Receiver<Command>,
    walk: Option<Walk>,
}

struct Walk {
    cursor: usize,
    limit: usize,
    filter: Filter,
    found: Vec<Entry>,
    reply: Sender<Connections>,
}

impl Mailbox {
    pub fn new(commands: Receiver<Command>) -> Mailbox {
        Mailbox { commands, walk: None }
    }

    /// One step of the command under way, or of the next one.
    pub fn work(&mut self, table: &Table, now: Tick) {
        let Some(mut walk) = self.walk.take().or_else(|| self.next()) else { return };
        let Walk { cursor, filter, found, limit, .. } = &mut walk;
        let next = table.scan(now, *cursor, GROUPS_PER_TURN, &mut |entry| {
            if found.len() < *limit && filter(entry) {
                found.push(*entry);
            }
        });
        match next {
            Some(cursor) if walk.found.len() < walk.limit => {
                walk.cursor = cursor;
                self.walk = Some(walk);
            }
            // Whoever asked may have given up waiting.
            _ => drop(walk.reply.send((now, walk.found))),
        }
    }

    fn next(&self) -> Option<Walk> {
        match self.commands.try_recv() {
            Ok(Command::Connections { limit, filter, reply }) => {
                Some(Walk { cursor: 0, limit, filter, found: Vec::new(), reply })
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Whether a command is under way.
    pub fn is_busy(&self) -> bool {
        self.walk.is_some() || !self.commands.is_empty()
    }
}
