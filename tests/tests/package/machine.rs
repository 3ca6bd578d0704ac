//! A machine on which the package is installed: namespaces of its own (mounts, network,
//! processes), so that names, sockets and stores are the documentation's, collide with
//! nobody's, and go with it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What tells the end of a command.
const END: &str = "that was it:";

/// What is mounted, started and set for the package in `$0`. Its maintainer scripts have not
/// run, so the daemon's socket is root's and not the group's that they make.
const INSTALL: &str = r#"
for folder in /run /var/lib /usr/share/doc; do mount -t tmpfs none $folder; done
mkdir /run/sgswitch /run/home
cd /run/home
cp -r "$0/usr/share/doc/sgswitch" /usr/share/doc
ip link set lo up
export PATH="$0/usr/bin:$0/usr/sbin:$PATH" LC_ALL=C
unset SGSWITCH_SOCKET
{ sgswitchd --config "$0/etc/sgswitch/sgswitchd.toml" --socket-group root; echo "it ended with $?"; } \
    > /run/log 2>&1 < /dev/null &
until sgctl show status > /dev/null 2>&1; do kill -0 $! 2> /dev/null || break; sleep 0.05; done
exec bash 2>&1
"#;

/// A shell on the machine.
pub struct Machine {
    unshare: Child,
    shell: ChildStdin,
    printed: Receiver<String>,
}

impl Machine {
    /// One that has the package unpacked at `root`, and its daemon running.
    pub fn with(root: &Path) -> Machine {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--mount-proc", "--net", "--pid", "--fork", "--kill-child"]);
        unshare.args(["bash", "-c", INSTALL]).arg(root);
        let mut unshare =
            unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare can be run");
        let shell = unshare.stdin.take().expect("it is piped");
        let stdout = BufReader::new(unshare.stdout.take().expect("it is piped"));
        let (sender, printed) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|l| sender.send(l)));
        let mut machine = Machine { unshare, shell, printed };
        let (status, said) = machine.run("sgctl show status || cat /run/log");
        assert!(status == 0 && said.iter().any(|line| line.contains("closed")), "{said:#?}");
        machine
    }

    /// Types a command. Its status, which the next one finds in `$?`, and what it prints but
    /// empty lines.
    ///
    /// # Panics
    /// If it does not end.
    pub fn run(&mut self, command: &str) -> (i32, Vec<String>) {
        // What it prints may lack the end of its last line.
        let end = format!("s=$?; printf '\\n{END} %d\\n' $s; (exit $s)");
        writeln!(self.shell, "{{ {command}\n}} < /dev/null\n{end}").expect("the shell reads");
        let mut said = Vec::new();
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix(END) {
                    Some(status) => return (status.trim().parse().expect("a number"), said),
                    None if line.trim().is_empty() => (),
                    None => said.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("{command:?} does not end: {said:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{command:?} ends the shell: {said:#?}"),
            }
        }
    }

    /// Asks the daemon to end. What it has said, and at last with which status it ended.
    pub fn stop(&mut self) -> Vec<String> {
        let ended = "until grep 'it ended' /run/log; do sleep 0.05; done";
        self.run(&format!("kill $(pidof sgswitchd); {ended} > /dev/null; cat /run/log")).1
    }
}

impl Drop for Machine {
    /// With its first process go all others, with these the namespaces and what is in them.
    fn drop(&mut self) {
        drop(self.unshare.kill());
        drop(self.unshare.wait());
    }
}
