//! Frames through a small switch.

mod frames;
mod permits;
mod world;

use engine::time::Tick;

use crate::input::Input;
use frames::{built, raw};
use world::{INTERFACES, World};

/// The most operations of one input.
const STEPS: usize = 600;

/// Builds a switch and runs frames through it, with time, policies and plugs
/// changing in between.
pub fn pipeline(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut world, &mut input);
    }
    world.run();
}

fn step(world: &mut World, input: &mut Input<'_>) {
    match input.byte() % 16 {
        0 => {
            world.run();
            world.now = Tick(world.now.0.saturating_add(u32::from(input.byte())));
        }
        1 => {
            world.run();
            world.now = Tick(world.now.0.saturating_add(u32::from(input.u16()) * 16));
        }
        2 => world.housekeep(),
        3 => {
            world.run();
            let who = usize::from(input.byte()) % INTERFACES;
            world.change_rules(who, input);
        }
        4 => {
            world.run();
            let who = usize::from(input.byte()) % INTERFACES;
            world.change_interface(who, input);
        }
        5 | 6 => world.run(),
        7 => {
            let frame = raw(input);
            world.arrive(frame, input);
        }
        _ => {
            let frame = built(input);
            world.arrive(frame, input);
        }
    }
}
