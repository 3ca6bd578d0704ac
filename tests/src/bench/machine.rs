//! What the machine gives just now, to be read beside the figures.

use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use core_affinity::CoreId;
use crossbeam_utils::CachePadded;

/// The machine during a run.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cycles of the time stamp counter per second; 0 until a program has told.
    pub tsc_hz: u64,
    /// Nanoseconds for one line of 256 MB, each address known from the last line only.
    pub memory: f64,
    /// Nanoseconds for a thousand dependent multiplications: what the core gives.
    pub arithmetic: f64,
    /// Nanoseconds until a word that CPU 0 has written is seen by CPU 1, and the other way
    /// round: what crosses from worker to worker waits for several of them.
    pub between_cores: f64,
}

/// Lines of the memory probe.
const LINES: usize = 256 << 20 >> 6;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(usize);

impl Machine {
    /// Measures what can be measured without a program, on this thread's core.
    pub fn probe() -> Machine {
        // One cycle through all lines (Sattolo): every step is a line of its own.
        let mut lines: Vec<Line> = (0..LINES).map(Line).collect();
        let mut state = 1u64;
        for i in (1..LINES).rev() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let j = ((state >> 32) as usize * i) >> 32;
            let (one, other) = (lines[i].0, lines[j].0);
            (lines[i].0, lines[j].0) = (other, one);
        }
        const STEPS: u32 = 1 << 20;
        let start = Instant::now();
        let mut at = 0;
        for _ in 0..STEPS {
            at = lines[at].0;
        }
        black_box(at);
        let memory = start.elapsed().as_nanos() as f64 / f64::from(STEPS);
        const THOUSANDS: u32 = 20_000;
        let start = Instant::now();
        let mut value = 1u64;
        for _ in 0..THOUSANDS * 1000 {
            value = black_box(value.wrapping_mul(0x5851_f42d_4c95_7f2d));
        }
        black_box(value);
        let arithmetic = start.elapsed().as_nanos() as f64 / f64::from(THOUSANDS);
        Machine { tsc_hz: 0, memory, arithmetic, between_cores: between_cores() }
    }
}

/// One thread on each of CPU 0 and 1; each answers the other's word with the next.
fn between_cores() -> f64 {
    const CROSSINGS: u64 = 200_000;
    let words = [const { CachePadded::new(AtomicU64::new(0)) }; 2];
    let take_turns = |id: usize| {
        core_affinity::set_for_current(CoreId { id });
        let start = Instant::now();
        for number in 1..=CROSSINGS / 2 {
            if id == 0 {
                words[0].store(number, Ordering::Release);
            }
            while words[1 - id].load(Ordering::Acquire) != number {
                // A core that others use as well, or the only one.
                if start.elapsed().as_secs() > 10 {
                    return f64::NAN;
                }
            }
            if id == 1 {
                words[1].store(number, Ordering::Release);
            }
        }
        start.elapsed().as_nanos() as f64 / CROSSINGS as f64
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| take_turns(1));
        let taken = scope.spawn(|| take_turns(0)).join().unwrap_or(f64::NAN);
        other.join().map_or(f64::NAN, |_| taken)
    })
}

/// Huge pages that are given back when dropped.
pub struct HugePages {
    before: u64,
    file: PathBuf,
}

impl HugePages {
    /// Sees to it that so many pages of 2 MiB are free.
    ///
    /// # Errors
    /// If the kernel does not have them.
    pub fn reserve(pages: u64) -> io::Result<HugePages> {
        let folder = PathBuf::from("/sys/kernel/mm/hugepages/hugepages-2048kB");
        let number = |name: &str| -> io::Result<u64> {
            let text = std::fs::read_to_string(folder.join(name))?;
            text.trim().parse().map_err(|_| io::Error::other(format!("{name} is no number: {text}")))
        };
        let (before, free) = (number("nr_hugepages")?, number("free_hugepages")?);
        let reserved = HugePages { before, file: folder.join("nr_hugepages") };
        if free < pages {
            std::fs::write(&reserved.file, (before + pages - free).to_string())?;
            let now = number("free_hugepages")?;
            if now < pages {
                return Err(io::Error::other(format!(
                    "{pages} huge pages of 2 MiB are needed, there are {now}"
                )));
            }
        }
        Ok(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.file, self.before.to_string());
    }
}
