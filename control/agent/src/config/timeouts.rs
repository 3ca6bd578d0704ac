//! Timeouts by name, in seconds.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use engine::conntrack::Timeouts;
use engine::time::Ticks;

/// The longest, EC2's default for established TCP: five days.
const MOST: u32 = 432_000;

type Field = fn(&mut Timeouts) -> &mut Ticks;

const FIELDS: [(&str, Field); 8] = [
    ("tcp_established", |t| &mut t.tcp_established),
    ("udp", |t| &mut t.udp),
    ("udp_stream", |t| &mut t.udp_stream),
    ("other", |t| &mut t.other),
    ("syn", |t| &mut t.syn),
    ("closing", |t| &mut t.closing),
    ("closed", |t| &mut t.closed),
    ("icmp", |t| &mut t.icmp),
];

/// The defaults, with those of the file over them, and those of flags over these.
pub(super) fn read(file: BTreeMap<String, u32>, flags: &[String]) -> Result<Timeouts> {
    let mut timeouts = Timeouts::DEFAULT;
    for (name, seconds) in &file {
        set(&mut timeouts, name, *seconds)?;
    }
    for flag in flags {
        let parts = flag.split_once('=').and_then(|(name, seconds)| Some((name, seconds.parse().ok()?)));
        let (name, seconds) =
            parts.with_context(|| format!("'{flag}' is no timeout: expected NAME=SECONDS"))?;
        set(&mut timeouts, name, seconds)?;
    }
    Ok(timeouts)
}

fn set(timeouts: &mut Timeouts, name: &str, seconds: u32) -> Result<()> {
    let (_, field) = FIELDS.iter().find(|(known, _)| *known == name).with_context(|| {
        let names = FIELDS.map(|(known, _)| known).join(", ");
        format!("there is no timeout '{name}': expected one of {names}")
    })?;
    ensure!((1..=MOST).contains(&seconds), "the timeout '{name}': expected 1 to {MOST} seconds");
    *field(timeouts) = Ticks::from_secs(seconds);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_over_the_defaults() {
        let file = BTreeMap::from([("udp".to_string(), 5), ("icmp".to_string(), 6)]);
        let timeouts = read(file, &["udp=7".to_string()]).unwrap();
        let wanted = Timeouts { udp: Ticks::from_secs(7), icmp: Ticks::from_secs(6), ..Timeouts::DEFAULT };
        assert_eq!(timeouts, wanted);
    }

    #[test]
    fn each_name_is_a_timeout_of_its_own() {
        for (i, (name, field)) in FIELDS.into_iter().enumerate() {
            let seconds = 1000 + i as u32;
            let mut timeouts = read(BTreeMap::from([(name.to_string(), seconds)]), &[]).unwrap();
            assert_eq!(*field(&mut timeouts), Ticks::from_secs(seconds));
            *field(&mut timeouts) = *field(&mut Timeouts::DEFAULT.clone());
            assert_eq!(timeouts, Timeouts::DEFAULT, "{name}");
        }
    }
}
