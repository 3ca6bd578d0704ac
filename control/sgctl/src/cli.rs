//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::actions::{
    Authorize, CopyGroup, CreateGroup, DeleteGroup, DescribeRule, PrefixLists, Revoke, SetGroups,
};
use crate::counters::Counters;
use crate::flows::Flows;
use crate::generate::Generate;
use crate::history::{Export, History, Rollback};
use crate::lint::{Lint, Verify};
use crate::plan::Plan;
use crate::port::Port;
use crate::top::Top;
use crate::trace::Trace;

/// Talks to sgswitchd: pushes policies, shows what is in force, and why.
#[derive(Debug, Parser)]
#[command(
    name = "sgctl",
    version,
    about,
    after_help = "\
Exit status:
  0  ok
  1  no answer: no daemon, no permission, another version, no such file
  2  invalid document or command line
  3  quota exceeded
  4  conflict: another generation is in force than --if-generation says
  5  datapath: the switch could not, or not with every worker in time
  10 a plan has changes or lint has warnings"
)]
pub struct Arguments {
    /// The daemon's socket.
    #[arg(long, global = true, env = "SGSWITCH_SOCKET", default_value = "/run/sgswitch/sgswitchd.sock")]
    pub socket: PathBuf,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// As the API answers.
    Json,
    /// The same tree.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Validate documents and put them into force, all or nothing.
    Push(Push),
    /// What a push would change: rules, verdicts, quotas, live flows. Exits with
    /// 10 if anything would.
    Plan(Plan),
    /// Show what is in force.
    Show {
        /// What to show.
        #[arg(value_enum)]
        what: What,
    },
    /// Why a packet would pass, or what comes nearest where nothing permits it;
    /// also for each packet of a capture.
    Explain(Explain),
    /// Make a security group: nothing comes in, everything goes out.
    CreateGroup(CreateGroup),
    /// Make a group with the rules of another.
    CopyGroup(CopyGroup),
    /// Delete a group that no interface has and no rule refers to.
    DeleteGroup(DeleteGroup),
    /// Add a rule to a group.
    Authorize(Authorize),
    /// Take rules from a group, by their properties or ids.
    Revoke(Revoke),
    /// Change the description of a rule.
    DescribeRule(DescribeRule),
    /// Give an interface other groups.
    SetGroups(SetGroups),
    /// Make, change and delete prefix lists.
    PrefixList(PrefixLists),
    /// The generations that are kept: when, by whom, what.
    History(History),
    /// Put an older generation into force again, as a new one.
    Rollback(Rollback),
    /// The policy as a document; pushing it back changes nothing.
    Export(Export),
    /// Add, remove and show ports while the switch runs.
    Port {
        #[command(subcommand)]
        verb: Port,
    },
    /// Write completions for a shell, or the manual.
    #[command(hide = true)]
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
    /// What is allowed in a policy and may not be meant. Exits with 10 if there are warnings.
    Lint(Lint),
    /// Hold the tables in force against their rules.
    Verify(Verify),
    /// Rules that match nothing because what they refer to is gone.
    Stale,
    /// Drops by reason.
    Drops,
    /// Connections: listed, ended, and who sends most.
    Flows {
        #[command(subcommand)]
        verb: Flows,
    },
    /// Live packets, stage by stage, with the reason of a drop.
    Trace(Trace),
    /// What rules have let pass, and interfaces have carried.
    Counters(Counters),
    /// A live screen of workers, interfaces, flows and drops.
    Top(Top),
}

#[derive(Debug, Args)]
pub struct Push {
    /// AWS-shaped documents, JSON or YAML, side by side; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only if this generation is in force.
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
    /// Do not wait until every worker enforces it.
    #[arg(long)]
    pub no_wait: bool,
    /// Accept documents that say they are cut short (NextToken).
    #[arg(long)]
    pub partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The switch in a few numbers.
    Status,
    /// Security groups.
    Groups,
    /// Rules, one a line.
    Rules,
    /// Network interfaces.
    Interfaces,
    /// Ports.
    Ports,
    /// Workers.
    Workers,
    /// Prefix lists.
    PrefixLists,
    /// Rules that match nothing because what they refer to is gone.
    Stale,
    /// Drops by reason.
    Drops,
    /// The whole policy, as a document that can be pushed.
    Policy,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Who sends: an address, or an interface (eni-...).
    #[arg(long, required_unless_present = "pcap")]
    pub from: Option<String>,
    /// To whom.
    #[arg(long, required_unless_present = "pcap")]
    pub to: Option<String>,
    /// Instead: each packet of this capture (pcap or pcapng), in order, as if none
    /// of its connections were known yet.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "port", "source_port", "icmp_type", "icmp_code", "vpc"])]
    pub pcap: Option<PathBuf>,
    /// The port of the switch that the capture's packets come in by; else that of
    /// the interface with their source MAC, the uplink that it is behind, or an uplink.
    #[arg(long, value_name = "PORT", requires = "pcap")]
    pub by: Option<String>,
    /// tcp, udp, icmp, icmpv6 or a number.
    #[arg(long, default_value = "tcp")]
    pub protocol: String,
    /// Destination port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Source port.
    #[arg(long)]
    pub source_port: Option<u16>,
    /// ICMP type.
    #[arg(long)]
    pub icmp_type: Option<u8>,
    /// ICMP code.
    #[arg(long)]
    pub icmp_code: Option<u8>,
    /// The VPC, where addresses are in several.
    #[arg(long)]
    pub vpc: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
