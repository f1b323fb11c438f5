//! Room for the bytes that all uploads under way hold together. Half of it is for what is fetched from URLs, so that slow
//! servers elsewhere keep nobody from uploading what they have.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::model::Trouble;

/// How long an upload waits for room.
const PATIENCE: Duration = Duration::from_secs(10);
/// What room is counted in, so that a lot of it can be counted.
const UNIT: usize = 1024;

/// All of it.
#[derive(Debug)]
pub(super) struct Room {
    /// For what comes with its request.
    pub(super) given: Part,
    /// For what is fetched.
    pub(super) fetched: Part,
}

/// A part of the room. As much again may wait for it, which is held as well.
#[derive(Debug)]
pub(super) struct Part {
    units: u32,
    free: Arc<Semaphore>,
    waiting: Semaphore,
    patience: Duration,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Room {
        Room { given: Part::new(bytes / 2, PATIENCE), fetched: Part::new(bytes / 2, PATIENCE) }
    }
}

impl Part {
    fn new(bytes: usize, patience: Duration) -> Part {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Part { units, free: Arc::new(Semaphore::new(units as usize)), waiting: Semaphore::new(units as usize), patience }
    }

    /// Room for so much, as long as the result is kept. One that is larger than all of it gets all of it.
    pub(super) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Trouble> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        if let Ok(taken) = self.free.clone().try_acquire_many_owned(units) {
            return Ok(taken);
        }
        let _waits = self.waiting.try_acquire_many(units).map_err(|_| Trouble::Busy)?;
        match timeout(self.patience, self.free.clone().acquire_many_owned(units)).await {
            Ok(Ok(taken)) => Ok(taken),
            _ => Err(Trouble::Busy),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_waits_and_not_for_ever() {
        let part = Part::new(10 * UNIT, Duration::from_millis(200));
        let most = part.take(8 * UNIT).await.unwrap();
        let rest = part.take(2 * UNIT).await.unwrap();
        let began = std::time::Instant::now();
        let (waits, refused) = tokio::join!(part.take(6 * UNIT), part.take(5 * UNIT));
        assert!(waits.is_err() && refused.is_err(), "one waits in vain, the other may not even wait");
        assert!(began.elapsed() >= Duration::from_millis(200));
        let (got, ()) = tokio::join!(part.take(6 * UNIT), async { drop(most) });
        assert!(got.is_ok(), "who waits gets what becomes free");
        drop((got, rest));
        assert!(part.take(usize::MAX).await.is_ok(), "everything is given back");
    }
}
