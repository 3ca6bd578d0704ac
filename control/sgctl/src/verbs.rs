//! What each verb asks, and how its answer is shown.

use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use crate::actions::{Action, When};
use crate::cli::{Arguments, Explain, Output, Push, Verb, What};
use crate::client::{Ask, Failure, ask};
use crate::output::{cell, items, notices, plain, print, print_tree, table};
use crate::{EXIT_CHANGES, EXIT_DATAPATH, counters, documents, flows, history, lint, plan, port, top, trace};

/// What there is to show before the first policy.
const NO_POLICY: &str =
    "there is no policy yet and the switch is closed: put one into force with sgctl push FILE...\n";

/// An answer about a policy that there is not.
fn is_closed(answer: &Value) -> bool {
    answer["Generation"] == json!(0) && answer["State"].is_null()
}

/// Runs the verb; prints its answer.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = |ask_for: Ask<'_>| ask(&arguments.socket, ask_for);
    let show = |value: &Value, for_people: &dyn Fn(&Value) -> String| match arguments.output {
        Output::Table if is_closed(value) => print(NO_POLICY),
        Output::Table => print(&for_people(value)),
        other => print_tree(other, value),
    };
    match &arguments.verb {
        Verb::Generate { what } => what.write()?,
        Verb::Push(push) => {
            let pushed = push_documents(arguments, push)?;
            show(&pushed, &pushed_in_words);
        }
        Verb::Show { what: What::Policy } => print_tree(arguments.output, &answer(Ask::get("/v1/policy"))?),
        Verb::Export(verb) => print_tree(arguments.output, &history::export(arguments, verb)?),
        Verb::Stale => {
            let (path, for_people) = view(What::Stale);
            show(&answer(Ask::get(path))?, &for_people);
        }
        Verb::Drops => {
            let (path, for_people) = view(What::Drops);
            show(&answer(Ask::get(path))?, &for_people);
        }
        Verb::Lint(verb) => {
            let linted = lint::linted(arguments, verb)?;
            show(&linted, &lint::in_words);
            if lint::has_warnings(&linted) {
                return Ok(ExitCode::from(EXIT_CHANGES));
            }
        }
        Verb::Verify(verb) => {
            let verified = lint::verified(arguments, verb)?;
            show(&verified, &lint::verified_in_words);
            if !verified["Mismatch"].is_null() {
                return Ok(ExitCode::from(EXIT_DATAPATH));
            }
        }
        Verb::History(verb) => show(&history::history(arguments, verb)?, &history::in_words),
        Verb::Rollback(verb) => show(&history::rollback(arguments, verb)?, &pushed_in_words),
        Verb::Show { what } => {
            let (path, for_people) = view(*what);
            show(&answer(Ask::get(path))?, &for_people);
        }
        Verb::Plan(verb) => {
            let planned = plan::planned(arguments, verb)?;
            match arguments.output {
                Output::Table => print(&plan::in_words(&planned)),
                other => print_tree(other, &planned),
            }
            if plan::has_changes(&planned) {
                return Ok(ExitCode::from(EXIT_CHANGES));
            }
        }
        Verb::Explain(Explain { pcap: Some(file), by, .. }) => {
            show(&trace::explain_capture(arguments, file, by.as_deref())?, &trace::explained_capture);
        }
        Verb::Explain(explain) => {
            let request = request(explain);
            let body = Some(&request);
            let explanation =
                answer(Ask { method: Method::POST, path: "/v1/explain", body, if_match: None })?;
            show(&explanation, &explained);
        }
        Verb::CreateGroup(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::CopyGroup(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::DeleteGroup(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::Authorize(verb) => show(&act(arguments, verb.action()?, &verb.when)?, &acted),
        Verb::Revoke(verb) => show(&act(arguments, verb.action()?, &verb.when)?, &acted),
        Verb::DescribeRule(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::SetGroups(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::PrefixList(verb) => show(&act(arguments, verb.action(), &verb.when)?, &acted),
        Verb::Flows { verb } => {
            let (flows, in_words) = flows::run(arguments, verb)?;
            show(&flows, &in_words);
        }
        Verb::Port { verb } => {
            show(&port::run(arguments, verb)?, &|answer| port::in_words(verb, answer));
        }
        Verb::Trace(verb) => return trace::run(arguments, verb),
        Verb::Counters(verb) => {
            show(&counters::chosen(answer(Ask::get("/v1/counters"))?, verb), &counters::in_words);
        }
        Verb::Top(verb) => return top::run(arguments, verb),
    }
    Ok(ExitCode::SUCCESS)
}

fn push_documents(arguments: &Arguments, push: &Push) -> Result<Value, Failure> {
    let documents = documents::read(&push.files)?;
    let path = format!("/v1/policy?partial={}&wait={}", push.partial, !push.no_wait);
    let request =
        Ask { method: Method::PUT, path: &path, body: Some(&documents.whole), if_match: push.if_generation };
    ask(&arguments.socket, request).map_err(|mut failure| {
        documents.locate(&mut failure);
        failure
    })
}

/// Asks for a single change.
fn act(arguments: &Arguments, (action, request): Action, when: &When) -> Result<Value, Failure> {
    let path = format!("/v1/actions/{action}?wait={}", !when.no_wait);
    let body = Some(&request);
    ask(&arguments.socket, Ask { method: Method::POST, path: &path, body, if_match: when.if_generation })
}

/// What a single change has made, and the generation that enforces it.
fn acted(answer: &Value) -> String {
    let mut text = notices(items(answer, "Notices"));
    let made = answer["GroupId"].as_str().or(answer["PrefixList"]["PrefixListId"].as_str());
    let rules = items(answer, "SecurityGroupRules");
    let rules = rules.iter().filter_map(|rule| rule["SecurityGroupRuleId"].as_str());
    for id in made.into_iter().chain(rules) {
        text.push_str(&format!("{id}\n"));
    }
    let state = if answer["Enforced"] == json!(true) { "enforced by every worker" } else { "published" };
    text + &format!("generation {}: {state}\n", cell(&answer["Generation"]))
}

fn pushed_in_words(pushed: &Value) -> String {
    let text = notices(items(pushed, "notices"));
    let count = |key: &str| cell(&pushed[key]);
    let state = match pushed["enforced"].as_bool() {
        Some(true) => format!("enforced by every worker after {} us", count("enforced_us")),
        _ => format!("published after {} us, not waited for", count("published_us")),
    };
    let (groups, rules, interfaces) = (count("groups"), count("rules"), count("interfaces"));
    text + &format!(
        "generation {}: {groups} groups, {rules} rules, {interfaces} interfaces; {state}\n",
        count("generation")
    )
}

type View = (&'static str, Box<dyn Fn(&Value) -> String>);

fn columns(path: &'static str, list: &'static str, columns: &'static [(&'static str, &'static str)]) -> View {
    (path, Box::new(move |answer| plain(answer, list, columns)))
}

fn view(what: What) -> View {
    match what {
        What::Status => ("/v1/status", Box::new(status)),
        What::Groups => ("/v1/groups", Box::new(groups)),
        What::Rules => ("/v1/rules", Box::new(rules)),
        What::Interfaces => ("/v1/interfaces", Box::new(interfaces)),
        What::Ports => ("/v1/ports", Box::new(port::list)),
        What::Workers => columns(
            "/v1/workers",
            "Workers",
            &[
                ("WORKER", "Worker"),
                ("CPU", "Cpu"),
                ("STATE", "State"),
                ("GENERATION", "Generation"),
                ("RECEIVED", "Received"),
                ("TRANSMITTED", "Transmitted"),
                ("HANDED OVER", "HandedOver"),
                ("CONNECTIONS", "Connections"),
                ("CAPACITY", "ConnectionCapacity"),
            ],
        ),
        What::PrefixLists => ("/v1/prefix-lists", Box::new(prefix_lists)),
        What::Stale => columns(
            "/v1/stale",
            "StaleRules",
            &[
                ("RULE", "SecurityGroupRuleId"),
                ("GROUP", "GroupId"),
                ("EGRESS", "IsEgress"),
                ("PERMITS", "Permits"),
                ("PEER", "Peer"),
            ],
        ),
        What::Drops => ("/v1/drops", Box::new(drops)),
        What::Policy => ("/v1/policy", Box::new(|policy| format!("{policy:#}\n"))),
    }
}

fn status(status: &Value) -> String {
    let rows = status.as_object().into_iter().flatten().map(|(key, value)| vec![key.clone(), cell(value)]);
    table(&["", ""], rows)
}

fn groups(answer: &Value) -> String {
    let count = |group: &Value, key: &str| {
        let lists = ["IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"];
        let rules = |item: &Value| lists.iter().map(|list| items(item, list).len()).sum::<usize>();
        items(group, key).iter().map(rules).sum::<usize>().to_string()
    };
    let row = |g: &Value| {
        let text = |key: &str| cell(&g[key]);
        vec![
            text("GroupId"),
            text("GroupName"),
            text("VpcId"),
            count(g, "IpPermissions"),
            count(g, "IpPermissionsEgress"),
            text("Description"),
        ]
    };
    let headers = ["GROUP", "NAME", "VPC", "INBOUND", "OUTBOUND", "DESCRIPTION"];
    table(&headers, items(answer, "SecurityGroups").iter().map(row))
}

fn rules(answer: &Value) -> String {
    let row = |r: &Value| {
        let text = |key: &str| cell(&r[key]);
        let ports = match (r["FromPort"].as_i64(), r["ToPort"].as_i64()) {
            (Some(-1), Some(-1)) => "all".to_string(),
            (Some(from), Some(to)) if from == to => from.to_string(),
            _ => format!("{}-{}", text("FromPort"), text("ToPort")),
        };
        let peers =
            [&r["CidrIpv4"], &r["CidrIpv6"], &r["PrefixListId"], &r["ReferencedGroupInfo"]["GroupId"]];
        let peer = peers.into_iter().find(|p| !p.is_null()).map_or("-".to_string(), cell);
        let direction = if r["IsEgress"] == json!(true) { "outbound" } else { "inbound" };
        let protocol = if r["IpProtocol"] == json!("-1") { "all".to_string() } else { text("IpProtocol") };
        vec![
            text("SecurityGroupRuleId"),
            text("GroupId"),
            direction.to_string(),
            protocol,
            ports,
            peer,
            text("Description"),
        ]
    };
    let headers = ["RULE", "GROUP", "DIRECTION", "PROTOCOL", "PORTS", "PEER", "DESCRIPTION"];
    table(&headers, items(answer, "SecurityGroupRules").iter().map(row))
}

fn interfaces(answer: &Value) -> String {
    let all =
        |i: &Value, list: &str, key: &str| items(i, list).iter().map(|x| cell(&x[key])).collect::<Vec<_>>();
    let row = |i: &Value| {
        let text = |key: &str| cell(&i[key]);
        let mut addresses = all(i, "PrivateIpAddresses", "PrivateIpAddress");
        addresses.extend(all(i, "Ipv6Addresses", "Ipv6Address"));
        addresses.extend(all(i, "Ipv4Prefixes", "Ipv4Prefix"));
        addresses.extend(all(i, "Ipv6Prefixes", "Ipv6Prefix"));
        let groups = all(i, "Groups", "GroupId").join(", ");
        let port = i["Uplink"].as_str().map_or_else(|| text("Port"), |uplink| format!("behind {uplink}"));
        vec![
            text("NetworkInterfaceId"),
            text("VpcId"),
            port,
            text("MacAddress"),
            addresses.join(", "),
            groups,
        ]
    };
    let headers = ["INTERFACE", "VPC", "PORT", "MAC", "ADDRESSES", "GROUPS"];
    table(&headers, items(answer, "NetworkInterfaces").iter().map(row))
}

fn prefix_lists(answer: &Value) -> String {
    let row = |l: &Value| {
        let text = |key: &str| cell(&l[key]);
        let entries = items(l, "Entries").len().to_string();
        vec![
            text("PrefixListId"),
            text("PrefixListName"),
            text("AddressFamily"),
            text("Version"),
            entries,
            text("MaxEntries"),
        ]
    };
    let headers = ["PREFIX LIST", "NAME", "FAMILY", "VERSION", "ENTRIES", "WEIGHT"];
    table(&headers, items(answer, "PrefixLists").iter().map(row))
}

fn drops(answer: &Value) -> String {
    let counts = |drops: &Value, of: &str| {
        let all = drops.as_object().into_iter().flatten();
        all.map(|(reason, n)| vec![of.to_string(), reason.clone(), cell(n)]).collect::<Vec<_>>()
    };
    let mut rows = counts(&answer["Drops"], "all");
    for interface in items(answer, "NetworkInterfaces") {
        rows.extend(counts(&interface["Drops"], &cell(&interface["NetworkInterfaceId"])));
    }
    table(&["INTERFACE", "REASON", "PACKETS"], rows)
}

fn request(explain: &Explain) -> Value {
    json!({
        "from": explain.from,
        "to": explain.to,
        "protocol": explain.protocol,
        "port": explain.port,
        "source_port": explain.source_port,
        "icmp_type": explain.icmp_type,
        "icmp_code": explain.icmp_code,
        "vpc": explain.vpc,
    })
}

fn explained(explanation: &Value) -> String {
    let mut text = cell(&explanation["summary"]) + "\n";
    for end in items(explanation, "ends") {
        let part = |key: &str| cell(&end[key]);
        text.push_str(&format!("  {} of {}: {}", part("direction"), part("interface"), part("verdict")));
        match items(end, "rules") {
            [] => text.push('\n'),
            rules => {
                text.push_str(&format!(", by {}\n", rules.iter().map(cell).collect::<Vec<_>>().join(", ")))
            }
        }
        for miss in items(end, "nearest") {
            let rule = miss["rule"].as_str().map_or(String::new(), |r| format!(" ({r})"));
            text.push_str(&format!("    {}: {}{rule}\n", cell(&miss["group"]), cell(&miss["reason"])));
        }
    }
    text
}
