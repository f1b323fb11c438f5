//! What must hold for any input, not only for the conversations somebody thought of.
//!
//! One file per subject. Odd: where the crate is compared with a model, the model is the simplest
//! thing that could be right, and knows nothing of rings, slots or spans. Failing seeds are kept
//! in `proptest-regressions` and run first.

mod bridge;
mod framing;
mod headers;
mod json;
mod link;
mod merge;
mod oauth;
mod session;
mod tokens;
mod wanted;
