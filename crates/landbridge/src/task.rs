//! Work that mostly need not wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

/// Begins where it stands; only what has to wait gets a task of its own. What is done before the
/// first wait has happened when this returns.
pub fn begin(mut work: Pin<Box<dyn Future<Output = ()> + Send>>) {
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::spawn(work);
    }
}
