//! How many streams are open, for whom. Each holds a permit; dropping it gives the place back.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::engine::Tenant;

/// Most open streams of this instance.
pub const STREAMS_MAX: usize = 16_384;

/// Most open streams of one application or person: two of them leave room for others.
pub const STREAMS_PER_TENANT_MAX: usize = 6_000;

/// The counter.
#[derive(Debug, Clone)]
pub struct Streams {
    open: Arc<Mutex<Open>>,
    total_max: usize,
    tenant_max: usize,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_tenant: HashMap<Tenant, usize>,
}

/// One open stream.
#[derive(Debug)]
pub struct StreamPermit {
    streams: Streams,
    tenant: Tenant,
}

/// As many streams are open as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} streams are open")]
pub struct TooManyStreams {
    /// The limit that was met.
    pub limit: usize,
    /// It is the caller's own, not the instance's.
    pub own: bool,
}

impl Streams {
    /// A counter with these limits.
    #[must_use]
    pub fn new(total_max: usize, tenant_max: usize) -> Self {
        Self { open: Arc::default(), total_max, tenant_max }
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().total
    }

    /// Takes a place.
    pub fn permit(&self, tenant: Tenant) -> Result<StreamPermit, TooManyStreams> {
        let mut open = self.open.lock();
        if open.total >= self.total_max {
            return Err(TooManyStreams { limit: self.total_max, own: false });
        }
        let own = open.by_tenant.entry(tenant).or_default();
        if *own >= self.tenant_max {
            return Err(TooManyStreams { limit: self.tenant_max, own: true });
        }
        *own += 1;
        open.total += 1;
        drop(open);
        Ok(StreamPermit { streams: self.clone(), tenant })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(own) = open.by_tenant.get_mut(&self.tenant) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.by_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tenants_cannot_take_every_place() {
        const { assert!(2 * STREAMS_PER_TENANT_MAX < STREAMS_MAX) };
    }

    #[test]
    fn streams_are_bounded_per_tenant_and_in_all_and_places_come_back() {
        let streams = Streams::new(3, 2);
        let (ada, bob) = (Tenant(uuid::Uuid::from_u128(1)), Tenant(uuid::Uuid::from_u128(2)));
        let first = streams.permit(ada).unwrap();
        let _second = streams.permit(ada).unwrap();
        assert_eq!(streams.permit(ada).unwrap_err(), TooManyStreams { limit: 2, own: true });
        let _third = streams.permit(bob).unwrap();
        assert_eq!(streams.permit(bob).unwrap_err(), TooManyStreams { limit: 3, own: false });
        drop(first);
        assert_eq!(streams.open(), 2);
        assert!(streams.permit(ada).is_ok());
    }
}
