//! The answers of recent commits by idempotency key: bounded by age, by tenant and in all.

use std::collections::hash_map::Entry;
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
    /// Keys and answers of one tenant: a commit has an answer for each of its writes.
    pub answers_per_tenant: usize,
    /// Keys and answers of all tenants; about 50 bytes for an answer.
    pub answers: usize,
}

impl Default for IdempotencyLimits {
    fn default() -> Self {
        Self { keys_per_tenant: 1_000_000, keys: 2_000_000, answers_per_tenant: 4_000_000, answers: 8_000_000 }
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

impl Remembered {
    /// What it counts towards the bounds of answers.
    fn weight(&self) -> usize {
        1 + self.appended.len()
    }
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
    /// Of everything in `by_key`.
    weight: usize,
}

/// A tenant's keys in the order in which they were seen.
#[derive(Debug, Default)]
struct Seen {
    /// How many keys came before the first one here.
    forgotten: usize,
    keys: VecDeque<([u8; 16], Timestamp)>,
    /// Of those that are known.
    weight: usize,
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
        Self { limits, by_key: HashMap::new(), by_tenant: HashMap::new(), weight: 0 }
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
        let (tenant, at, weight) = (seen.tenant, seen.at, seen.weight());
        // Recovery learns a key from the manifest and again from the log.
        if self.by_key.get(&key).is_some_and(|old| old.at == at) {
            return;
        }
        if let Some(old) = self.by_key.insert(key, seen) {
            self.weight -= old.weight();
            if let Some(of_tenant) = self.by_tenant.get_mut(&old.tenant) {
                of_tenant.weight -= old.weight();
            }
        }
        let of_tenant = self.by_tenant.entry(tenant).or_default();
        of_tenant.keys.push_back((key, at));
        of_tenant.weight += weight;
        self.weight += weight;
        self.forget_expired(tenant, at);
        self.forget_oldest(tenant, self.limits.keys_per_tenant, self.limits.answers_per_tenant);
        if self.by_key.len() > self.limits.keys {
            self.forget_of_the_largest(|seen| seen.keys.len());
        }
        while self.weight > self.limits.answers {
            self.forget_of_the_largest(|seen| seen.weight);
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

    /// Keys of a tenant in the order they were seen, the first `skip` ever seen left out, until they and their answers are
    /// `most` or more; and what to skip the next time, if there are more. So a large table is copied without keeping
    /// writers from it for long.
    pub(super) fn slice(
        &self,
        tenant: Tenant,
        skip: usize,
        most: usize,
    ) -> (Vec<([u8; 16], Remembered)>, Option<usize>) {
        let Some(seen) = self.by_tenant.get(&tenant) else { return (Vec::new(), None) };
        let from = skip.saturating_sub(seen.forgotten).min(seen.keys.len());
        let (mut to, mut weight, mut known) = (from, 0, Vec::new());
        for (key, at) in seen.keys.range(from..) {
            if weight >= most {
                break;
            }
            to += 1;
            match self.by_key.get(key).filter(|remembered| remembered.at == *at) {
                Some(remembered) => {
                    weight += remembered.weight();
                    known.push((*key, remembered.clone()));
                }
                None => weight += 1,
            }
        }
        (known, (to < seen.keys.len()).then_some(seen.forgotten + to))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_key.len()
    }

    fn forget_expired(&mut self, tenant: Tenant, now: Timestamp) {
        while let Some(seen) = self.by_tenant.get(&tenant)
            && seen.keys.front().is_none_or(|&(_, at)| expired(at, now))
        {
            self.forget_first(tenant);
        }
    }

    fn forget_oldest(&mut self, tenant: Tenant, keep: usize, keep_weight: usize) {
        while let Some(seen) = self.by_tenant.get(&tenant)
            && (seen.keys.len() > keep || seen.weight > keep_weight)
        {
            self.forget_first(tenant);
        }
    }

    /// A key that was used again after its window has a later entry in the queue, which must survive the earlier one.
    fn forget_first(&mut self, tenant: Tenant) {
        let Some(seen) = self.by_tenant.get_mut(&tenant) else { return };
        if let Some((key, at)) = seen.pop()
            && let Entry::Occupied(known) = self.by_key.entry(key)
            && known.get().at == at
        {
            let weight = known.remove().weight();
            seen.weight -= weight;
            self.weight -= weight;
        }
        if seen.keys.is_empty() {
            self.by_tenant.remove(&tenant);
        }
    }

    /// The tenant that holds the most pays, so that one tenant's flood does not make the others' retries unsafe. A
    /// sixteenth at a time keeps the search for that tenant rare.
    fn forget_of_the_largest(&mut self, size: impl Fn(&Seen) -> usize) {
        let largest = self.by_tenant.iter().max_by_key(|(_, seen)| size(seen));
        if let Some((&tenant, seen)) = largest {
            let keep = size(seen) - size(seen).div_ceil(16);
            while self.by_tenant.get(&tenant).is_some_and(|seen| size(seen) > keep) {
                self.forget_first(tenant);
            }
        }
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

    const ROOMY: IdempotencyLimits =
        IdempotencyLimits { keys_per_tenant: 100, keys: 100, answers_per_tenant: 1000, answers: 1000 };

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
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 5, keys: 100, ..ROOMY });
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
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 2, keys: 100, ..ROOMY });
        table.insert([9; 16], seen(OTHER, 0));
        for n in 1..=3 {
            table.insert([n; 16], seen(TENANT, 0));
        }
        assert_eq!([1, 2, 3, 9].map(|n| knows(&table, n, 0)), [false, true, true, true]);
    }

    #[test]
    fn at_the_common_bound_the_largest_tenant_pays() {
        let mut table = Idempotency::new(IdempotencyLimits { keys_per_tenant: 100, keys: 4, ..ROOMY });
        for n in 1..=3 {
            table.insert([n; 16], seen(TENANT, 0));
        }
        table.insert([8; 16], seen(OTHER, 0));
        table.insert([9; 16], seen(OTHER, 0));
        assert_eq!([1, 2, 3, 8, 9].map(|n| knows(&table, n, 0)), [false, true, true, true, true]);
    }

    /// A commit of many writes.
    fn many(tenant: Tenant, at: i64, writes: usize) -> Remembered {
        let to = crate::names::TopicPartition { topic: crate::names::TopicId(uuid::Uuid::nil()), partition: 0 };
        let answer = Appended { to, first: crate::names::Offset(0), count: 1, timestamp: Timestamp(at) };
        Remembered { appended: vec![answer; writes].into(), ..seen(tenant, at) }
    }

    fn known(table: &Idempotency, keys: impl IntoIterator<Item = u8>) -> Vec<u8> {
        keys.into_iter().filter(|&n| table.lookup(&key(n), Timestamp(0)) != Lookup::New).collect()
    }

    #[test]
    fn a_tenant_whose_commits_have_many_answers_forgets_its_own_oldest() {
        let mut table = Idempotency::new(IdempotencyLimits { answers_per_tenant: 25, ..ROOMY });
        table.insert([9; 16], many(OTHER, 0, 20));
        for n in 1..=4 {
            table.insert([n; 16], many(TENANT, 0, 9));
        }
        assert_eq!(known(&table, [1, 2, 3, 4, 9]), [3, 4, 9]);
        let day = i64::try_from(WINDOW.as_millis()).unwrap();
        table.insert([4; 16], many(TENANT, day, 3));
        table.sweep(Timestamp(day));
        assert_eq!(table.weight, 4, "what is forgotten or used again does not count");
        table.sweep(Timestamp(2 * day));
        assert_eq!((table.weight, table.tenants().len()), (0, 0));
    }

    #[test]
    fn at_the_common_bound_of_answers_the_tenant_with_the_most_pays() {
        let mut table = Idempotency::new(IdempotencyLimits { answers: 30, ..ROOMY });
        for n in 1..=3 {
            table.insert([n; 16], seen(OTHER, 0));
        }
        for n in 4..=7 {
            table.insert([n; 16], many(TENANT, 0, 9));
        }
        assert_eq!(known(&table, 1..=7), [1, 2, 3, 6, 7]);
    }

    #[test]
    fn a_slice_is_bounded_by_its_answers() {
        let mut table = Idempotency::new(ROOMY);
        for n in 1..=3 {
            table.insert([n; 16], many(TENANT, 0, 9));
        }
        let (first, next) = table.slice(TENANT, 0, 11);
        assert_eq!((first.len(), next), (2, Some(2)));
        let (second, next) = table.slice(TENANT, 2, 11);
        assert_eq!((second.len(), next), (1, None));
    }
}
