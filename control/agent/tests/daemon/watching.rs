//! What operators ask of a daemon under traffic: connections, counters, traces,
//! plans, flow logs. Frames come from a capture that is played without end.

use std::time::{Duration, Instant};

use engine::packet::build::{Packet, arp, capture, mac};
use serde_json::{Value, json};

use crate::support::{Answer, Daemon, ask, command};

const PORTS: &str = "-l 0 --no-huge --no-shconf --no-pci -m 128 --vdev net_null1,no-rx=1";

fn udp(port: u16) -> Vec<u8> {
    Packet::udp("10.0.0.2:5000", &format!("10.0.0.1:{port}"), b"payload").frame(mac(2), mac(1))
}

/// eni-2 sends to eni-1 over and over: to port 443, open to everyone both ways
/// and so untracked; to 22, open to its address; to 80, which is closed.
struct Traffic {
    daemon: Daemon,
    _folder: tempfile::TempDir,
}

fn everyone() -> Value {
    json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }])
}

fn permission(port: u16, block: &str) -> Value {
    json!({ "IpProtocol": "udp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": block }] })
}

fn policy(inbound: Value) -> Value {
    let group = |id: &str, inbound: Value| {
        json!({ "GroupId": id, "GroupName": id.trim_start_matches("sg-"), "Description": "a group", "VpcId": "vpc-1",
                "IpPermissions": inbound, "IpPermissionsEgress": everyone() })
    };
    let interface = |n: u8, group: &str| {
        json!({ "NetworkInterfaceId": format!("eni-{n}"), "VpcId": "vpc-1", "MacAddress": format!("02:00:00:00:00:0{n}"),
                "Groups": [{ "GroupId": group }], "PrivateIpAddresses": [{ "PrivateIpAddress": format!("10.0.0.{n}") }] })
    };
    json!({
        "SecurityGroups": [group("sg-web", inbound), group("sg-any", everyone())],
        "NetworkInterfaces": [interface(1, "sg-web"), interface(2, "sg-any")],
        "Bindings": [{ "NetworkInterfaceId": "eni-1", "Port": "net_null1" }, { "NetworkInterfaceId": "eni-2", "Port": "source" }],
    })
}

fn usual() -> Value {
    policy(json!([permission(443, "0.0.0.0/0"), permission(22, "10.0.0.2/32")]))
}

impl Traffic {
    fn start(configuration: &str) -> Traffic {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.pcap");
        std::fs::write(&input, capture(&[udp(443), udp(22), udp(80)])).unwrap();
        let file = folder.path().join("sgswitchd.toml");
        let configuration = configuration.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&file, configuration).unwrap();
        let port = format!("source=net_pcap0,rx_pcap={},infinite_rx=1", input.display());
        let arguments = ["--config", file.to_str().unwrap(), "--port", &port];
        let daemon = Daemon::launch(folder.path(), command(folder.path(), &arguments, PORTS));
        daemon.push(&usual());
        Traffic { daemon, _folder: folder }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        ask(self.daemon.connect(), "POST", path, &[], body.to_string().as_bytes())
    }

    fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Daemon) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = look(&self.daemon) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}:\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn flows(&self, query: &str) -> Vec<Value> {
        self.daemon.show(&format!("/v1/flows?{query}"))["Flows"].as_array().unwrap().clone()
    }
}

#[test]
fn connections_are_listed_by_filters_and_untracked_flows_beside_them() {
    let traffic = Traffic::start("");
    traffic.wait_for("both flows", |_| (traffic.flows("untracked=true").len() == 2).then_some(()));
    let tracked = traffic.flows("");
    assert_eq!(tracked.len(), 1);
    assert_eq!(tracked[0]["Responder"]["Port"], 22);
    assert_eq!(tracked[0]["Responder"]["Tracked"], true);
    assert_eq!(
        tracked[0]["Originator"],
        json!({ "Address": "10.0.0.2", "Port": 5000, "NetworkInterfaceId": "eni-2", "Tracked": false })
    );
    let untracked: Vec<_> =
        traffic.flows("untracked=true").into_iter().filter(|f| f["State"] == "untracked").collect();
    assert_eq!(untracked[0]["Responder"]["Port"], 443);
    assert!(untracked[0]["Packets"].as_u64() > Some(0));
    for (query, count) in [
        ("address=10.0.0.0/24", 2),
        ("address=10.0.0.1", 2),
        ("address=10.0.0.3", 0),
        ("port=22", 1),
        ("port=443", 1),
        ("port=23", 0),
        ("protocol=17", 2),
        ("protocol=6", 0),
        ("interface=eni-1", 2),
        ("vpc=vpc-1", 2),
        ("state=udp_request", 1),
        ("state=established", 0),
        ("limit=1", 1),
    ] {
        assert_eq!(traffic.flows(&format!("untracked=true&{query}")).len(), count, "{query}");
    }
    for (query, code) in [
        ("address=x", "InvalidParameterValue"),
        ("state=open", "InvalidParameterValue"),
        ("port=x", "InvalidParameterValue"),
        ("vpc=vpc-9", "InvalidVpcID.NotFound"),
        ("interface=eni-9", "InvalidNetworkInterfaceID.NotFound"),
        ("colour=red", "InvalidParameterValue"),
    ] {
        let answer = traffic.daemon.get(&format!("/v1/flows?{query}"));
        assert_eq!((answer.status, answer.errors()[0].0.as_str()), (400, code), "{query}");
    }
}

#[test]
fn connections_are_ended_as_filters_say_and_by_no_mistake() {
    let traffic = Traffic::start("");
    traffic.wait_for("the connection", |_| (traffic.flows("").len() == 1).then_some(()));
    let kill = |body: Value| traffic.post("/v1/flows/kill", &body);
    for body in [
        json!({}),
        json!({ "NoLongerAllowed": false }),
        json!({ "colour": "red" }),
        json!({ "Address": "x" }),
        json!([]),
    ] {
        assert_eq!(kill(body.clone()).status, 400, "{body}");
    }
    let opened = || traffic.daemon.metric("sgswitch_connections_inserted_total{worker=\"0\"}");
    let before = opened();
    // Its nearest neighbours, and what rules still let open.
    for body in
        [json!({ "Port": 23 }), json!({ "Port": 22, "Protocol": 6 }), json!({ "NoLongerAllowed": true })]
    {
        assert_eq!(kill(body.clone()).json(), json!({ "Killed": 0, "Complete": true }), "{body}");
    }
    assert_eq!(kill(json!({ "Port": 22 })).json(), json!({ "Killed": 1, "Complete": true }));
    traffic.wait_for("it is opened anew", |_| (opened() == before + 1.0).then_some(()));
    // The rule goes, the connection stays (S46), until it is ended for that.
    traffic.daemon.push(&policy(json!([permission(443, "0.0.0.0/0")])));
    assert_eq!(traffic.flows("").len(), 1);
    assert_eq!(kill(json!({ "NoLongerAllowed": true })).json(), json!({ "Killed": 1, "Complete": true }));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(traffic.flows("").len(), 0, "no rule lets it open again");
    assert_eq!(traffic.daemon.metric("sgswitch_connections_killed_total{worker=\"0\"}"), 2.0);
}

#[test]
fn top_measures_who_sends() {
    let traffic = Traffic::start("");
    let top = traffic.daemon.show("/v1/flows/top?seconds=1&by=packets");
    assert_eq!(top["FlowsSeen"], 3);
    let flow = |port: u64| {
        let flows = top["Flows"].as_array().unwrap();
        flows.iter().find(|f| f["Destination"]["Port"] == port).unwrap_or_else(|| panic!("{top}")).clone()
    };
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&flow(443)["Packets"]) > 100 && number(&flow(443)["Dropped"]) == 0);
    assert_eq!(number(&flow(22)["Bytes"]), 49 * number(&flow(22)["Packets"]));
    assert!(number(&flow(80)["Packets"]) == 0 && number(&flow(80)["Dropped"]) > 100);
    assert_eq!(traffic.daemon.show("/v1/flows/top?seconds=1&limit=1")["Flows"].as_array().unwrap().len(), 1);
    for query in ["seconds=0", "seconds=31", "by=size", "limit=1000000"] {
        assert_eq!(traffic.daemon.get(&format!("/v1/flows/top?{query}")).status, 400, "{query}");
    }
}

#[test]
fn rules_are_counted_by_what_they_let_open() {
    let traffic = Traffic::start("");
    let rules =
        |daemon: &Daemon| -> Vec<Value> { daemon.show("/v1/counters")["Rules"].as_array().unwrap().clone() };
    let rule = |rules: &[Value], permits: &str, group: &str, egress: bool| {
        let found = rules
            .iter()
            .find(|r| r["Permits"] == permits && r["GroupId"] == group && r["IsEgress"] == egress);
        found.unwrap_or_else(|| panic!("{permits} in {rules:?}")).clone()
    };
    let counted = traffic.wait_for("both are counted", |daemon| {
        let rules = rules(daemon);
        let used = rule(&rules, "udp 443", "sg-web", false)["UntrackedPackets"].as_u64() > Some(0)
            && rule(&rules, "udp 22", "sg-web", false)["Connections"].as_u64() > Some(0);
        used.then_some(rules)
    });
    assert_eq!(rule(&counted, "udp 443", "sg-web", false)["Connections"], 0);
    assert_eq!(rule(&counted, "udp 22", "sg-web", false)["Connections"], 1);
    assert!(
        rule(&counted, "all traffic", "sg-any", true)["UntrackedPackets"].as_u64() > Some(0),
        "the sender's rule"
    );
    assert_eq!(rule(&counted, "all traffic", "sg-any", false)["LastUsed"], Value::Null, "nothing came to it");
    let interfaces = traffic.daemon.show("/v1/counters")["NetworkInterfaces"].clone();
    assert!(interfaces[0]["InboundPackets"].as_u64() > Some(0) && interfaces[0]["OutboundPackets"] == 0);
    assert!(interfaces[0]["Dropped"].as_u64() > Some(0));
    traffic.wait_for("its connection is told", |daemon| {
        (daemon.show("/v1/counters")["NetworkInterfaces"][0]["Connections"] == 1).then_some(())
    });
    // A rule that is gone is forgotten, one that stays is not.
    traffic.daemon.push(&policy(json!([permission(22, "10.0.0.2/32")])));
    let after = rules(&traffic.daemon);
    assert!(rule(&after, "udp 22", "sg-web", false)["Connections"] == 1);
    assert!(!after.iter().any(|r| r["Permits"] == "udp 443"));
}

fn lines(answer: &Answer) -> Vec<Value> {
    // Chunks of HTTP stand between the lines.
    answer
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(Value::is_object)
        .collect()
}

fn stages(packet: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    packet["Stages"].as_array().unwrap().iter().map(|s| (text(&s["Stage"]), text(&s["Text"]))).collect()
}

#[test]
fn a_trace_tells_every_stage_and_the_reason_of_a_drop() {
    let traffic = Traffic::start("");
    let trace = |query: &str| lines(&traffic.daemon.get(&format!("/v1/trace?seconds=2&{query}")));
    let dropped = trace("verdict=dropped&packets=3");
    assert_eq!(dropped.len(), 3);
    for packet in &dropped {
        assert_eq!((&packet["Reason"], &packet["Receiver"]), (&json!("inbound_denied"), &json!("eni-1")));
        let stages = stages(packet);
        let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["receive", "parse", "track", "police", "transmit"]);
        assert_eq!(stages[0].1, "49 bytes by port source");
        assert_eq!(stages[1].1, "udp 10.0.0.2:5000 > 10.0.0.1:80, from eni-2");
        assert!(
            stages[3].1.contains("inbound of eni-1: denied (sg-web: from 10.0.0.2 only udp 443 is allowed)"),
            "{}",
            stages[3].1
        );
        assert_eq!(stages[4].1, "dropped: inbound_denied");
        assert_eq!(packet["Data"].as_str().unwrap().len(), 98);
    }
    let by_state = &trace("port=22&packets=1")[0];
    assert_eq!(by_state["Class"], "established");
    assert!(
        stages(by_state)[2]
            .1
            .contains("connection udp_request, opened by the sender, the receiver tracks it"),
        "{by_state}"
    );
    assert!(stages(by_state)[4].1.ends_with("to eni-1 by port net_null1"), "{by_state}");
    let by_rule = &trace("port=443&packets=1")[0];
    assert_eq!(by_rule["Class"], "untracked");
    assert_eq!(by_rule["Ends"].as_array().unwrap().len(), 2);
    assert!(
        by_rule["Ends"].as_array().unwrap().iter().all(|end| end["rules"].as_array().unwrap().len() == 1)
    );
    for (query, count) in [
        ("interface=eni-1&packets=2", 2),
        ("port_name=source&packets=2", 2),
        ("port_name=net_null1", 0),
        ("reason=inbound_denied&packets=2", 2),
        ("reason=truncated", 0),
        ("address=10.0.0.2&packets=2", 2),
        ("address=10.0.0.3", 0),
        ("protocol=6", 0),
    ] {
        assert_eq!(trace(query).len(), count, "{query}");
    }
    for query in [
        "verdict=lost",
        "reason=x",
        "interface=eni-9",
        "port_name=x",
        "packets=0",
        "seconds=61",
        "bytes=10000",
        "address=x",
        "x=1",
    ] {
        assert_eq!(traffic.daemon.get(&format!("/v1/trace?{query}")).status, 400, "{query}");
    }
}

#[test]
fn traces_are_few_at_a_time_and_one_that_nobody_reads_ends() {
    let traffic = Traffic::start("");
    let begin = || {
        let mut stream = traffic.daemon.connect();
        std::io::Write::write_all(
            &mut stream,
            b"GET /v1/trace?seconds=60&packets=100000 HTTP/1.1\r\nhost: x\r\n\r\n",
        )
        .unwrap();
        stream
    };
    let many: Vec<_> = (0..4).map(|_| begin()).collect();
    traffic.wait_for("a fifth is refused", |daemon| {
        (daemon.get("/v1/trace?seconds=1").status == 429).then_some(())
    });
    drop(many);
    traffic.wait_for("their places are free again", |daemon| {
        (daemon.get("/v1/trace?seconds=1&packets=1").status == 200).then_some(())
    });
}

#[test]
fn a_plan_foretells_rules_verdicts_and_live_flows() {
    let traffic = Traffic::start("");
    traffic.wait_for("both flows", |_| (traffic.flows("untracked=true").len() == 2).then_some(()));
    let same = traffic.post("/v1/plan", &usual()).json();
    assert_eq!((&same["Changes"], &same["Flows"]["Cut"]["Count"]), (&json!(false), &json!(0)));
    let answer = traffic.post("/v1/plan", &policy(json!([permission(80, "0.0.0.0/0")])));
    assert!(answer.head.contains("etag: \"1\""), "{}", answer.head);
    let plan = answer.json();
    assert_eq!(plan["Plan"]["Rules"].as_array().unwrap().len(), 3);
    let flows = &plan["Flows"];
    assert_eq!(
        (&flows["Cut"]["Count"], &flows["Cut"]["Flows"][0]["Responder"]["Port"]),
        (&json!(1), &json!(443))
    );
    assert_eq!(
        (&flows["Outlive"]["Count"], &flows["Outlive"]["Flows"][0]["Responder"]["Port"]),
        (&json!(1), &json!(22))
    );
    let verdicts: Vec<(Value, Value, Value)> = plan["Plan"]["Verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|v| v["Direction"] == "inbound")
        .map(|v| (v["Port"].clone(), v["Before"].clone(), v["After"].clone()))
        .collect();
    for expected in [(80, "denied", "untracked"), (443, "untracked", "denied"), (22, "tracked", "denied")] {
        assert!(
            verdicts.contains(&(json!(expected.0), json!(expected.1), json!(expected.2))),
            "{expected:?} in {verdicts:?}"
        );
    }
    // Nothing has happened, and what is wrong is told as by a push.
    assert_eq!(traffic.daemon.show("/v1/status")["Generation"], 1);
    let wrong = traffic.post("/v1/plan", &json!({ "SecurityGroups": [{ "GroupId": "foobar" }] }));
    assert_eq!(wrong.status, 400);
    assert!(
        wrong
            .errors()
            .iter()
            .any(|(code, path)| code == "InvalidGroupId.Malformed" && path.contains("SecurityGroups[0]"))
    );
    // What was foretold is what a push does.
    let interrupted = || traffic.daemon.show("/v1/drops")["Drops"]["inbound_denied"].as_u64().unwrap_or(0);
    traffic.daemon.push(&policy(json!([permission(80, "0.0.0.0/0")])));
    let before = interrupted();
    traffic.wait_for("443 is denied now", |_| (interrupted() > before + 10).then_some(()));
    assert_eq!(traffic.flows("port=22").len(), 1, "it outlives its rule");
    let after = traffic.post("/v1/plan", &policy(json!([permission(80, "0.0.0.0/0")]))).json();
    assert_eq!(after["Changes"], false);
}

#[test]
fn captures_are_explained_packet_by_packet() {
    let traffic = Traffic::start("");
    let reply = Packet::udp("10.0.0.1:22", "10.0.0.2:5000", b"answer").frame(mac(1), mac(2));
    let forged = Packet::udp("10.0.0.9:1", "10.0.0.1:443", b"").frame(mac(2), mac(1));
    let question = arp(1, (mac(2), "10.0.0.2"), (mac(0), "10.0.0.1"));
    let frames = [udp(22), reply, udp(80), udp(443), question, forged, vec![1, 2, 3]];
    let body =
        json!({ "Frames": frames.iter().map(|f| json!({ "Data": hex::encode(f) })).collect::<Vec<_>>() });
    let answer = traffic.post("/v1/explain/packets", &body).json();
    let verdicts: Vec<String> = answer["Packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| [&p["Class"], &p["Reason"]].into_iter().find_map(Value::as_str).unwrap_or("?").to_string())
        .collect();
    // The reply passes by the state that the first packet of the capture made.
    assert_eq!(
        verdicts,
        [
            "new_tracked",
            "established",
            "inbound_denied",
            "untracked",
            "exempt",
            "spoofed_address",
            "truncated"
        ]
    );
    assert_eq!(answer["Packets"][2]["Ends"][1]["nearest"][0]["group"], "sg-web");
    let connections = traffic.flows("").len();
    assert_eq!(connections, 1, "a rehearsal opens nothing");
    for body in [json!({}), json!({ "Frames": [{ "Data": "0g" }] }), json!({ "Frames": [], "Port": "x" })] {
        assert_eq!(traffic.post("/v1/explain/packets", &body).status, 400, "{body}");
    }
}

#[test]
fn exempt_traffic_is_explained_as_such() {
    let traffic = Traffic::start("");
    let explain = |from: &str, to: &str, source_port: u16, port: u16| {
        let body =
            json!({ "from": from, "to": to, "protocol": "udp", "port": port, "source_port": source_port });
        traffic.post("/v1/explain", &body).json()["summary"].as_str().unwrap().to_string()
    };
    assert!(explain("eni-1", "192.0.2.1", 68, 67).starts_with("allowed, exempt: it is DHCP"));
    assert!(!explain("eni-1", "192.0.2.1", 68, 68).contains("exempt"));
    assert!(!explain("eni-2", "eni-1", 68, 67).contains("exempt"), "servers here are judged like others");
}

#[test]
fn r6_7_flow_logs_are_written_as_aws_writes_them() {
    let traffic = Traffic::start(
        "[flow_logs]\nfile = \"FOLDER/flows.log\"\ninterval_seconds = 1\naccount_id = \"123456789012\"\n",
    );
    let path = traffic._folder.path().join("flows.log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    // A window that traffic filled.
    let text = traffic.wait_for("lines", |_| {
        let text = read();
        (text.lines().filter(|line| line.contains(" REJECT ")).count() >= 2).then_some(text)
    });
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 14 && row[0] == "2" && row[1] == "123456789012"), "{text}");
    let find = |interface: &str, port: &str, action: &str| {
        rows.iter()
            .find(|r| r[2] == interface && r[6] == port && r[12] == action)
            .unwrap_or_else(|| panic!("{interface} {port} {action} in\n{text}"))
    };
    for (interface, port, action) in [
        ("eni-2", "443", "ACCEPT"),
        ("eni-1", "443", "ACCEPT"),
        ("eni-2", "22", "ACCEPT"),
        ("eni-1", "22", "ACCEPT"),
        // It left its sender, whose rules allow it, and was refused by its receiver.
        ("eni-2", "80", "ACCEPT"),
        ("eni-1", "80", "REJECT"),
    ] {
        let row = find(interface, port, action);
        assert_eq!((row[3], row[4], row[5], row[7]), ("10.0.0.2", "10.0.0.1", "5000", "17"));
        let [packets, bytes, start, end] = [8, 9, 10, 11].map(|at| row[at].parse::<u64>().unwrap());
        assert_eq!(bytes, packets * 35, "of IP");
        assert!(start <= end && end - start <= 2 && row[13] == "OK");
    }
    assert!(!rows.iter().any(|r| r[2] == "eni-2" && r[6] == "80" && r[12] == "REJECT"));
    assert!(traffic.daemon.metric("sgswitch_flow_log_lines_total") >= 6.0);
}

#[test]
fn r6_7_flow_logs_go_to_a_socket_say_when_there_is_nothing_and_are_complete_at_the_end() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("collector.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let configuration = format!(
        "[flow_logs]\nsocket = \"{}\"\ninterval_seconds = 1\nformat = \"interface-id vpc-id flow-direction traffic-path type tcp-flags log-status\"\n",
        socket.display()
    );
    let traffic = Traffic::start(&configuration);
    let (mut collector, _) = listener.accept().unwrap();
    collector.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    while !text.contains("eni-2 vpc-1 egress 1 IPv4 0 OK\n") {
        let mut chunk = [0; 4096];
        let n = collector.read(&mut chunk).unwrap();
        text.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
    }
    assert!(text.contains("eni-1 vpc-1 ingress - IPv4 0 OK\n"), "{text}");
    // An interface without traffic says so; the end of the daemon closes the window.
    let mut document = usual();
    document["NetworkInterfaces"][1]["MacAddress"] = json!("02:00:00:00:00:0a");
    traffic.daemon.push(&document);
    let mut rest = String::new();
    while !rest.contains("eni-2 vpc-1 - - - - NODATA\n") {
        let mut chunk = [0; 4096];
        let n = collector.read(&mut chunk).unwrap();
        rest.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
    }
    let Traffic { daemon, _folder } = traffic;
    assert!(daemon.stop().success());
    assert!(collector.read_to_string(&mut rest).is_ok(), "the socket is closed");
    assert!(rest.ends_with('\n'));
}
