//! Time as the datapath sees it: coarse ticks handed in from outside.

use std::ops::Add;

/// Ticks per second. Coarse on purpose: a connection's deadline is written at
/// most once per tick, so that an established packet dirties no cache line.
pub const TICKS_PER_SECOND: u32 = 2;

/// A point in time, in half seconds since the switch started. Wraps after 68 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick `seconds` after the start.
    pub const fn from_secs(seconds: u32) -> Tick {
        Tick(seconds * TICKS_PER_SECOND)
    }
}

/// A length of time in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Ticks(pub u32);

impl Ticks {
    /// `seconds` as ticks.
    pub const fn from_secs(seconds: u32) -> Ticks {
        Ticks(seconds * TICKS_PER_SECOND)
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u32 {
        self.0 / TICKS_PER_SECOND
    }
}

impl Add<Ticks> for Tick {
    type Output = Tick;

    #[inline]
    fn add(self, length: Ticks) -> Tick {
        Tick(self.0.saturating_add(length.0))
    }
}
