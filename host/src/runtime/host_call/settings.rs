//! `tandem:solution/settings`: what an operator has set.

use crate::runtime::{attempt::Attempt, bindings::tandem::solution::settings::Host, borrowed_view};

impl Host for Attempt {
    fn get(&mut self, name: String) -> Option<String> {
        borrowed_view::with(|view| view.setting(&name))
    }
}
