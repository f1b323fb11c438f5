//! How often somebody may be wrong about a password: per account, and per address.
//!
//! A try is taken before it is looked at and given back if it was right, so that many at once count as many. Odd: an
//! account forgives faster than an address, because whoever guesses at an account also keeps its owner out.

use std::time::Duration;

use crate::rates::{Rate, Rates};

/// For an account: 30 at once, then 6 a minute. A password of eight random characters outlives that.
pub const ACCOUNT: Rate = Rate { burst: 30, every: Duration::from_secs(10) };
/// For an address: 10 at once, then 2 a minute.
pub const ADDRESS: Rate = Rate { burst: 10, every: Duration::from_secs(30) };

/// Tries, by key.
pub type Tries = Rates<String>;
