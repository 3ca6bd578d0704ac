//! What a run has found, for people and for machines.

use std::fmt;

use serde_json::{Value, json};

use super::subjects::{Subject, case_name};
use super::traffic::{Figure, Kind};
use super::{Case, Machine};

/// All cases of a run.
pub struct Report {
    /// What the machine gave.
    pub machine: Machine,
    /// In the order in which they ran.
    pub cases: Vec<Case>,
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
            // Between two readings a few bursts are neither here nor there.
            let is_right = |figure: &Figure| match self.traffic.kind {
                Kind::Strays => figure.passed < 0.001,
                Kind::Established | Kind::New => figure.passed > 0.99,
            };
            let wrong = self.figures[subject as usize].iter().find(|figure| !is_right(figure))?;
            Some(format!("{} let {:.1} % pass", subject.label(), wrong.passed * 100.0))
        });
        wrong.chain(self.errors.iter().cloned()).collect()
    }
}

impl Report {
    /// The same for machines: nanoseconds per packet and ratios.
    pub fn to_json(&self) -> Value {
        let case = |case: &Case| {
            let mut line = json!({
                "Case": case_name(case.traffic),
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
        json!({
            "TscHz": self.machine.tsc_hz,
            "MemoryNanoseconds": self.machine.memory,
            "ThousandMultiplicationsNanoseconds": self.machine.arithmetic,
            "Cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { tsc_hz, memory, arithmetic } = self.machine;
        writeln!(
            f,
            "One core, 64-byte frames, nanoseconds per packet: median (least to greatest). TSC {:.2} GHz, one line \
             of 256 MB {memory:.0} ns, 1000 multiplications {arithmetic:.0} ns.\n",
            tsc_hz as f64 / 1e9
        )?;
        writeln!(f, "| case | flows | rules | testpmd | ovs-dpdk | sgswitch | to testpmd | than ovs-dpdk |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for case in &self.cases {
            write!(f, "| {} | {} | {} |", case_name(case.traffic), case.traffic.flows, case.traffic.rules)?;
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
        for case in &self.cases {
            for failure in case.failures() {
                writeln!(f, "\n{}, {} flows: {failure}", case_name(case.traffic), case.traffic.flows)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Traffic;

    fn case(kind: Kind, figures: [&[(f64, f64)]; 3]) -> Case {
        let figures = figures
            .map(|list| list.iter().map(|&(nanoseconds, passed)| Figure { nanoseconds, passed }).collect());
        Case { traffic: Traffic { kind, flows: 1, rules: 1 }, figures, errors: vec![] }
    }

    #[test]
    fn ratios_are_those_of_medians() {
        let case = case(
            Kind::Established,
            [&[(10.0, 1.0), (30.0, 1.0), (12.0, 1.0)], &[(200.0, 1.0)], &[(24.0, 1.0), (20.0, 1.0)]],
        );
        let [to_floor, to_peer] = case.ratios().map(Option::unwrap);
        assert!((to_floor - 22.0 / 12.0).abs() < 1e-9 && (to_peer - 200.0 / 22.0).abs() < 1e-9);
        assert!(case.failures().is_empty());
    }

    #[test]
    fn what_lets_strays_through_or_loses_packets_is_no_result() {
        let none: &[(f64, f64)] = &[];
        assert_eq!(case(Kind::Strays, [none, none, &[(9.0, 0.5)]]).failures().len(), 1);
        assert_eq!(case(Kind::Strays, [&[(9.0, 1.0)], &[(9.0, 0.0)], &[(9.0, 0.0)]]).failures().len(), 0);
        assert_eq!(case(Kind::New, [none, &[(9.0, 0.9)], &[(9.0, 1.0)]]).failures().len(), 1);
    }
}
