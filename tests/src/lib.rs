//! Whole nodes under test: the real program in its own folder and at its own port, and what stands around it.
//!
//! Everything is blocking and made of threads: a test reads from top to bottom. Ports are given by the system and folders
//! are temporary, so any number of tests run at once. Nothing here sleeps for luck; [`wait`] waits for states.

pub mod audit;
pub mod http;
pub mod node;
pub mod pair;
pub mod peer;
pub mod port;
pub mod program;
pub mod receiver;
pub mod solution;
pub mod traffic;
pub mod wait;
pub mod wire;
pub mod witness;

pub use http::{Request, Response};
pub use node::NodeUnderTest;
pub use pair::{PairUnderTest, Setup, Side, Third};
pub use port::Port;
pub use program::Program;
pub use receiver::{Answer, Receiver};
pub use solution::Solution;
pub use traffic::Traffic;
pub use wait::{DEADLINE, wait_for, wait_until};
pub use wire::Wire;
pub use witness::WitnessUnderTest;
