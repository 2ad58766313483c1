//! Which of the two nodes is primary: decided purely ([`step`]).

pub mod step;
