//! Raises this process's limit on open files to what the system allows it.
//!
//! Odd: children inherit the raised limit. That is meant: the gateways must hold ten thousand
//! connections too, and not all of them raise the limit by themselves.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::fault::Fault;

/// Answers the limit that now holds.
pub(crate) fn raise() -> Result<u64, Fault> {
    let refused = |error| Fault::setup(format!("the system would not raise the limit on open files ({error}); raise it with ulimit -n"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(refused)?;
    }
    Ok(hard)
}
