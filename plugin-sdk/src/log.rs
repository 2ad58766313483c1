//! Lines for the operator.

use std::fmt;

use crate::{Level, context::World};

/// `&dyn`: one copy of this in the component, whatever is logged.
pub(crate) fn write(world: &World, level: Level, line: &dyn fmt::Display) {
    world.log(level, &line.to_string());
}
