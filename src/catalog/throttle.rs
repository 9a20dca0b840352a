//! How often somebody may try a password: per network address and per account, with a bound on what is remembered.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Most keys remembered in one limiter. Beyond it those that have recovered are forgotten; if none has, attempts wait.
const KEYS_MAX: usize = 100_000;
/// Attempts per address at once; one more every three seconds.
const ADDRESS_BURST: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");
const ADDRESS_PERIOD: Duration = Duration::from_secs(3);
/// Attempts per account at once; one more every thirty seconds.
const ACCOUNT_BURST: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");
const ACCOUNT_PERIOD: Duration = Duration::from_secs(30);

pub(super) struct Throttle {
    addresses: Limiter<IpAddr>,
    accounts: Limiter<String>,
}

struct Limiter<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(burst: NonZeroU32, period: Duration) -> Self {
        let quota = Quota::with_period(period).expect("the period is not zero").allow_burst(burst);
        Self(RateLimiter::keyed(quota))
    }

    fn check(&self, key: &K) -> Result<(), Duration> {
        if self.0.len() >= KEYS_MAX {
            self.0.retain_recent();
            if self.0.len() >= KEYS_MAX {
                return Err(ADDRESS_PERIOD);
            }
        }
        self.0.check_key(key).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

impl Throttle {
    pub fn new() -> Self {
        Self {
            addresses: Limiter::new(ADDRESS_BURST, ADDRESS_PERIOD),
            accounts: Limiter::new(ACCOUNT_BURST, ACCOUNT_PERIOD),
        }
    }

    /// Counts an attempt, or says how long to wait. The account is an address in its one form, or empty for all that are none.
    pub fn attempt(&self, address: Option<IpAddr>, account: &str) -> Result<(), Duration> {
        if let Some(address) = address {
            self.addresses.check(&network(address))?;
        }
        self.accounts.check(&account.to_owned())
    }
}

/// Whoever has one IPv6 address usually has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_throttled_whatever_the_address() {
        let throttle = Throttle::new();
        for last in 0..10u8 {
            assert_eq!(throttle.attempt(Some(IpAddr::from([10, 0, 0, last])), "ada@example.com"), Ok(()));
        }
        let wait = throttle.attempt(Some(IpAddr::from([10, 0, 0, 99])), "ada@example.com").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= ACCOUNT_PERIOD, "{wait:?}");
        assert_eq!(throttle.attempt(Some(IpAddr::from([10, 0, 0, 99])), "bob@example.com"), Ok(()));
    }

    #[test]
    fn an_address_is_throttled_whatever_the_account() {
        let throttle = Throttle::new();
        let network = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
        for n in 0..20u16 {
            assert_eq!(throttle.attempt(network(n), &format!("{n}@example.com")), Ok(()));
        }
        assert!(throttle.attempt(network(1000), "x@example.com").is_err(), "the same /64 is the same address");
    }
}
