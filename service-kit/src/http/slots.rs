//! Who gets a connection: so many in all, so many of one address. Nobody waits for a slot.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections by address.
type PerIp = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The connections that a listener may have, in all and of one address; loopback is exempt from
/// the latter.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    per_ip: PerIp,
    per_ip_max: usize,
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    counted: Option<(IpAddr, PerIp)>,
}

impl Slots {
    pub(super) fn new(max: usize, per_ip_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            per_ip: Arc::default(),
            per_ip_max,
        }
    }

    /// `None` where there is no slot left; a connection without one is refused.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        if ip.to_canonical().is_loopback() {
            return Some(Slot { _permit: permit, counted: None });
        }
        let mut counts = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_insert(0);
        if *count >= self.per_ip_max {
            return None;
        }
        *count += 1;
        Some(Slot { _permit: permit, counted: Some((ip, Arc::clone(&self.per_ip))) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((ip, counts)) = &self.counted else { return };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_in_all_and_per_address() {
        let slots = Slots::new(4, 2);
        let one: IpAddr = [10, 0, 0, 1].into();
        let two: IpAddr = [10, 0, 0, 2].into();
        let first = slots.take(one).unwrap();
        let _second = slots.take(one).unwrap();
        assert!(slots.take(one).is_none(), "too many of one address");
        drop(first);
        let _third = slots.take(one).unwrap();
        let _fourth = slots.take(two).unwrap();
        let local = slots.take([127, 0, 0, 1].into()).unwrap();
        assert!(slots.take(two).is_none(), "too many in all");
        drop(local);
        assert!(slots.take(two).is_some());
        assert_eq!(slots.per_ip.lock().unwrap().len(), 2);
    }
}
