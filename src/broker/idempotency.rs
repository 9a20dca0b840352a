//! The answers of recent commits by idempotency key: bounded by age, by tenant and in all.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::engine::{Appended, IdempotencyKey, Tenant};
use crate::clock::Timestamp;

/// How long a key is remembered.
pub const WINDOW: Duration = Duration::from_hours(24);

/// Bounds of the memory in which keys are kept. Beyond them the oldest are forgotten before their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyLimits {
    /// Keys of one tenant.
    pub keys_per_tenant: usize,
    /// Keys of all tenants; about 250 bytes each.
    pub keys: usize,
}

impl Default for IdempotencyLimits {
    fn default() -> Self {
        Self { keys_per_tenant: 1_000_000, keys: 2_000_000 }
    }
}

/// One remembered commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) tenant: Tenant,
    pub(super) digest: [u8; 16],
    /// When the commit was accepted.
    pub(super) at: Timestamp,
    pub(super) appended: Box<[Appended]>,
}

/// What is known about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// Nothing: go on.
    New,
    /// The same request was committed; this was the answer.
    Same(&'a [Appended]),
    /// Another request used the key.
    Other,
}

/// The table.
#[derive(Debug)]
pub(super) struct Idempotency {
    limits: IdempotencyLimits,
    by_key: HashMap<[u8; 16], Remembered>,
    by_tenant: HashMap<Tenant, Seen>,
}

/// A tenant's keys in the order in which they were seen.
#[derive(Debug, Default)]
struct Seen {
    /// How many keys came before the first one here.
    forgotten: usize,
    keys: VecDeque<([u8; 16], Timestamp)>,
}

impl Seen {
    fn pop(&mut self) -> Option<([u8; 16], Timestamp)> {
        let oldest = self.keys.pop_front()?;
        self.forgotten += 1;
        Some(oldest)
    }
}

impl Idempotency {
    pub(super) fn new(limits: IdempotencyLimits) -> Self {
        Self { limits, by_key: HashMap::new(), by_tenant: HashMap::new() }
    }

    pub(super) fn lookup(&self, key: &IdempotencyKey, now: Timestamp) -> Lookup<'_> {
        match self.by_key.get(&key.key) {
            Some(seen) if !expired(seen.at, now) => {
                if seen.digest == key.digest {
                    Lookup::Same(&seen.appended)
                } else {
                    Lookup::Other
                }
            }
            _ => Lookup::New,
        }
    }

    pub(super) fn insert(&mut self, key: [u8; 16], seen: Remembered) {
        let (tenant, at) = (seen.tenant, seen.at);
        // Recovery learns a key from the manifest and again from the log.
        if self.by_key.insert(key, seen).is_some_and(|old| old.at == at) {
            return;
        }
        self.by_tenant.entry(tenant).or_default().keys.push_back((key, at));
        self.forget_expired(tenant, at);
        self.forget_oldest(tenant, self.limits.keys_per_tenant);
        if self.by_key.len() > self.limits.keys {
            self.forget_of_the_largest();
        }
    }

    /// Forgets what is too old, of every tenant.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        for tenant in self.tenants() {
            self.forget_expired(tenant, now);
        }
    }

    /// Who has keys.
    pub(super) fn tenants(&self) -> Vec<Tenant> {
        self.by_tenant.keys().copied().collect()
    }

    /// About `count` keys of a tenant in the order they were seen, the first `skip` ever seen left out; and what to skip
    /// the next time, if there are more. So a large table is copied without keeping writers from it for long.
    pub(super) fn slice(
        &self,
        tenant: Tenant,
        skip: usize,
        count: usize,
    ) -> (Vec<([u8; 16], Remembered)>, Option<usize>) {
        let Some(seen) = self.by_tenant.get(&tenant) else { return (Vec::new(), None) };
        let from = skip.saturating_sub(seen.forgotten).min(seen.keys.len());
        let to = from.saturating_add(count).min(seen.keys.len());
        let known = seen.keys.range(from..to).filter_map(|(key, at)| {
            let remembered = self.by_key.get(key)?;
            (remembered.at == *at).then(|| (*key, remembered.clone()))
        });
        (known.collect(), (to < seen.keys.len()).then_some(seen.forgotten + to))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_key.len()
    }

    fn forget_expired(&mut self, tenant: Tenant, now: Timestamp) {
        let Some(seen) = self.by_tenant.get_mut(&tenant) else { return };
        while let Some(&(key, at)) = seen.keys.front()
            && expired(at, now)
        {
            seen.pop();
            forget(&mut self.by_key, &key, at);
        }
        if seen.keys.is_empty() {
            self.by_tenant.remove(&tenant);
        }
    }

    fn forget_oldest(&mut self, tenant: Tenant, keep: usize) {
        let Some(seen) = self.by_tenant.get_mut(&tenant) else { return };
        while seen.keys.len() > keep
            && let Some((key, at)) = seen.pop()
        {
            forget(&mut self.by_key, &key, at);
        }
    }

    /// The tenant that holds the most pays, so that one tenant's flood does not make the others' retries unsafe. A
    /// sixteenth at a time keeps the search for that tenant rare.
    fn forget_of_the_largest(&mut self) {
        let largest = self.by_tenant.iter().max_by_key(|(_, seen)| seen.keys.len());
        if let Some((&tenant, seen)) = largest {
            let keep = seen.keys.len() - seen.keys.len().div_ceil(16);
            self.forget_oldest(tenant, keep);
        }
    }
}

/// A key that was used again after its window has a later entry in the queue, which must survive the earlier one.
fn forget(by_key: &mut HashMap<[u8; 16], Remembered>, key: &[u8; 16], at: Timestamp) {
    if by_key.get(key).is_some_and(|seen| seen.at == at) {
        by_key.remove(key);
    }
}

fn expired(at: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(at.0) >= i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Tenant = Tenant(uuid::Uuid::from_u128(1));
    const OTHER: Tenant = Tenant(uuid::Uuid::from_u128(2));

    fn key(n: u8) -> IdempotencyKey {
        IdempotencyKey { key: [n; 16], digest: [0; 16] }
    }

    fn seen(tenant: Tenant, at: i64) -> Remembered {
        Remembered { tenant, digest: [0; 16], at: Timestamp(at), appended: Box::new([]) }
    }

    fn knows(table: &Idempotency, n: u8, now: i64) -> bool {
        table.lookup(&key(n), Timestamp(now)) == Lookup::Same(&[])
    }

    #[test]
    fn a_key_is_forgotten_after_a_day_and_may_be_used_again() {
        let day = i64::try_from(WINDOW.as_millis()).unwrap();
        let mut table = Idempotency::new(IdempotencyLimits::default());
        table.insert([1; 16], seen(TENANT, 0));
        assert!(knows(&table, 1, day - 1));
        assert!(!knows(&table, 1, day));
        table.insert([1; 16], seen(TENANT, day));
        assert!(knows(&table, 1, day + 1), "the first use's expiry does not take the second with it");
        table.sweep(Timestamp(2 * day));
        assert_eq!((table.len(), table.tenants().len()), (0, 0));
    }

    #[test]
    fn a_table_is_copied_in_slices_while_it_changes() {
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 5, keys: 100 });
        for n in 1..=5 {
            table.insert([n; 16], seen(TENANT, 0));
        }
        let keys = |slice: Vec<([u8; 16], Remembered)>| slice.iter().map(|(key, _)| key[0]).collect::<Vec<_>>();
        let (first, next) = table.slice(TENANT, 0, 2);
        assert_eq!((keys(first), next), (vec![1, 2], Some(2)));
        table.insert([6; 16], seen(TENANT, 0)); // 1 is forgotten
        let (second, next) = table.slice(TENANT, 2, 2);
        assert_eq!((keys(second), next), (vec![3, 4], Some(4)));
        let (third, next) = table.slice(TENANT, 4, 2);
        assert_eq!((keys(third), next), (vec![5, 6], None));
    }

    #[test]
    fn a_tenant_at_its_bound_forgets_its_own_oldest() {
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 2, keys: 100 });
        table.insert([9; 16], seen(OTHER, 0));
        for n in 1..=3 {
            table.insert([n; 16], seen(TENANT, 0));
        }
        assert_eq!([1, 2, 3, 9].map(|n| knows(&table, n, 0)), [false, true, true, true]);
    }

    #[test]
    fn at_the_common_bound_the_largest_tenant_pays() {
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 100, keys: 4 });
        for n in 1..=3 {
            table.insert([n; 16], seen(TENANT, 0));
        }
        table.insert([8; 16], seen(OTHER, 0));
        table.insert([9; 16], seen(OTHER, 0));
        assert_eq!([1, 2, 3, 8, 9].map(|n| knows(&table, n, 0)), [false, true, true, true, true]);
    }
}
