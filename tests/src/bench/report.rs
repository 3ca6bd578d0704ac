//! What a run has found, for people and for machines.

use std::fmt;

use serde_json::{Map, Value, json};

use super::subjects::{Ports, Subject};
use super::{Case, Figure, Kind, Line, Machine, Strain};

/// All cases of a run.
pub struct Report {
    /// What the machine gave.
    pub machine: Machine,
    /// How packets came.
    pub ports: Ports,
    /// In the order in which they ran.
    pub cases: Vec<Case>,
    /// What the switch alone was put to.
    pub strain: Strain,
}

/// Median, least and greatest.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

fn spread(figures: &[Figure]) -> Option<Spread> {
    let mut sorted: Vec<f64> = figures.iter().map(|figure| figure.nanoseconds).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (least, greatest) = (*sorted.first()?, *sorted.last()?);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    Some(Spread { median, least, greatest })
}

impl Case {
    fn spread(&self, subject: Subject) -> Option<Spread> {
        spread(&self.figures[subject as usize])
    }

    /// How many times the floor's time, and what part of the peer's, the switch takes.
    fn ratios(&self) -> [Option<f64>; 2] {
        let own = self.spread(Subject::Sgswitch).map(|spread| spread.median);
        let other = |subject| self.spread(subject).map(|spread| spread.median);
        [
            own.zip(other(Subject::Floor)).map(|(own, floor)| own / floor),
            own.zip(other(Subject::OvsDpdk)).map(|(own, peer)| peer / own),
        ]
    }

    /// Whether the subjects let through what they should: all but strays, or none.
    pub fn failures(&self) -> Vec<String> {
        let judged = [Subject::OvsDpdk, Subject::Sgswitch];
        let wrong = judged.into_iter().filter_map(|subject| {
            let wanted = |figure: &Figure| if self.traffic.kind == Kind::Strays { 0 } else { figure.sent };
            let wrong =
                self.figures[subject as usize].iter().find(|figure| figure.received != wanted(figure))?;
            Some(format!("{} let {} of {} packets pass", subject.label(), wrong.received, wrong.sent))
        });
        wrong.chain(self.errors.iter().cloned()).collect()
    }
}

impl Report {
    /// All that did not go as it should.
    pub fn failures(&self) -> Vec<String> {
        let name = |case: &Case| {
            format!("{}, {} flows, {} rules", case.traffic.name(), case.traffic.flows, case.traffic.rules)
        };
        let cases = self.cases.iter().flat_map(|case| {
            let name = name(case);
            case.failures().into_iter().map(move |failure| format!("{name}: {failure}"))
        });
        cases.chain(self.strain.failures()).collect()
    }

    /// The same for machines: nanoseconds per packet and ratios.
    pub fn to_json(&self) -> Value {
        let case = |case: &Case| {
            let mut line = json!({
                "Case": case.traffic.name(),
                "Flows": case.traffic.flows,
                "Rules": case.traffic.rules,
                "Failures": case.failures(),
            });
            for subject in Subject::ALL {
                line[subject.label()] = case.spread(subject).map_or(Value::Null, |spread| {
                    let rounds: Vec<f64> = case.figures[subject as usize].iter().map(|f| f.nanoseconds).collect();
                    json!({ "Median": spread.median, "Least": spread.least, "Greatest": spread.greatest, "Rounds": rounds })
                });
            }
            let [to_floor, to_peer] = case.ratios();
            line["TimesTheFloor"] = to_floor.into();
            line["TimesFasterThanOvsDpdk"] = to_peer.into();
            line
        };
        let line = |line: &Line| {
            let figures: Map<String, Value> =
                line.figures.iter().map(|(name, value, _)| (name.to_string(), json!(value))).collect();
            json!({ "Name": line.name, "Figures": figures, "Failure": line.failure })
        };
        json!({
            "TscHz": self.machine.tsc_hz,
            "MemoryNanoseconds": self.machine.memory,
            "ThousandMultiplicationsNanoseconds": self.machine.arithmetic,
            "BetweenCoresNanoseconds": self.machine.between_cores,
            "Cases": self.cases.iter().map(case).collect::<Vec<_>>(),
            "Strain": self.strain.tables.iter().map(|(title, lines)| {
                let lines: Vec<Value> = lines.iter().map(line).collect();
                json!({ "Title": title, "Lines": lines })
            }).collect::<Vec<_>>(),
        })
    }
}

impl Report {
    /// What the switch alone was put to, and what went wrong.
    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, lines) in &self.strain.tables {
            writeln!(f, "\n{title}:\n")?;
            table(f, lines)?;
        }
        for failure in self.failures() {
            writeln!(f, "\nFAILED: {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { tsc_hz, memory, arithmetic, between_cores } = self.machine;
        let tsc = if tsc_hz > 0 { format!("TSC {:.2} GHz, ", tsc_hz as f64 / 1e9) } else { String::new() };
        writeln!(
            f,
            "One core{}, 64-byte frames, nanoseconds per packet: median (least to greatest). {tsc}one line of \
             256 MB {memory:.0} ns, 1000 multiplications {arithmetic:.0} ns, a word from core to core \
             {between_cores:.0} ns.\n",
            match self.ports {
                Ports::Replayed => "",
                Ports::Guests => " beside that of the guests, vhost-user",
            }
        )?;
        if self.cases.iter().all(|case| case.figures.iter().all(Vec::is_empty) && case.errors.is_empty()) {
            return self.rest(f);
        }
        writeln!(f, "| case | flows | rules | testpmd | ovs-dpdk | sgswitch | to testpmd | than ovs-dpdk |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for case in &self.cases {
            write!(f, "| {} | {} | {} |", case.traffic.name(), case.traffic.flows, case.traffic.rules)?;
            for subject in Subject::ALL {
                match case.spread(subject) {
                    Some(Spread { median, least, greatest }) => {
                        write!(f, " {median:.0} ({least:.0} to {greatest:.0}) |")?;
                    }
                    None => write!(f, " - |")?,
                }
            }
            for (ratio, what) in case.ratios().into_iter().zip(["slower", "faster"]) {
                match ratio {
                    Some(ratio) => write!(f, " {ratio:.1}x {what} |")?,
                    None => write!(f, " - |")?,
                }
            }
            writeln!(f)?;
        }
        self.rest(f)
    }
}

/// Lines whose figures may differ: of every name there is a column.
fn table(f: &mut fmt::Formatter<'_>, lines: &[Line]) -> fmt::Result {
    let mut names: Vec<&str> = vec![];
    for (name, ..) in lines.iter().flat_map(|line| &line.figures) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    writeln!(f, "| | {} |", names.join(" | "))?;
    writeln!(f, "| --- |{}", " ---: |".repeat(names.len()))?;
    for line in lines {
        write!(f, "| {} |", line.name)?;
        for name in &names {
            match line.figures.iter().find(|(of, ..)| of == name) {
                Some((_, value, digits)) => write!(f, " {value:.digits$} |")?,
                None => write!(f, " - |")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Traffic;

    fn case(kind: Kind, figures: [&[(f64, u64)]; 3]) -> Case {
        let figure = |&(nanoseconds, received)| Figure { nanoseconds, sent: 1000, received };
        let figures = figures.map(|list| list.iter().map(figure).collect());
        Case { traffic: Traffic { kind, flows: 1, rules: 1 }, figures, errors: vec![] }
    }

    #[test]
    fn ratios_are_those_of_medians() {
        let case = case(
            Kind::Established,
            [&[(10.0, 1000), (30.0, 1000), (12.0, 1000)], &[(200.0, 1000)], &[(24.0, 1000), (20.0, 1000)]],
        );
        let [to_floor, to_peer] = case.ratios().map(Option::unwrap);
        assert!((to_floor - 22.0 / 12.0).abs() < 1e-9 && (to_peer - 200.0 / 22.0).abs() < 1e-9);
        assert!(case.failures().is_empty());
    }

    #[test]
    fn what_lets_a_stray_through_or_loses_a_packet_is_no_result() {
        let none: &[(f64, u64)] = &[];
        assert_eq!(case(Kind::Strays, [none, none, &[(9.0, 1)]]).failures().len(), 1);
        assert_eq!(case(Kind::Strays, [&[(9.0, 1000)], &[(9.0, 0)], &[(9.0, 0)]]).failures().len(), 0);
        assert_eq!(case(Kind::New, [none, &[(9.0, 999)], &[(9.0, 1000)]]).failures().len(), 1);
        assert_eq!(case(Kind::Calls, [&[(9.0, 0)], &[(9.0, 1000)], &[(9.0, 1000)]]).failures().len(), 0);
    }

    #[test]
    fn tables_have_a_column_for_every_figure() {
        let line = |name: &str, figures: &[(&'static str, f64, usize)], failure: Option<&str>| Line {
            name: name.to_string(),
            figures: figures.to_vec(),
            failure: failure.map(String::from),
        };
        let lines = vec![
            line("a", &[("x", 1.25, 1)], None),
            line("b", &[("x", 2.0, 0), ("y", 3.0, 2)], Some("lost")),
        ];
        let machine = Machine { tsc_hz: 1, memory: 1.0, arithmetic: 1.0, between_cores: 1.0 };
        let report = Report {
            machine,
            ports: Ports::Replayed,
            cases: vec![],
            strain: Strain { tables: vec![("T", lines)] },
        };
        let text = report.to_string();
        assert!(
            text.contains("T:\n\n| | x | y |\n| --- | ---: | ---: |\n| a | 1.2 | - |\n| b | 2 | 3.00 |\n"),
            "{text}"
        );
        assert!(text.ends_with("FAILED: b: lost\n"), "{text}");
        assert_eq!(report.to_json()["Strain"][0]["Lines"][1]["Figures"]["y"], 3.0);
    }
}
