//! What keeps a stranger from trying passwords, and a runaway client from taking all there is.
//!
//! Passwords are the one credential that can be guessed, so wrong ones lock: for a while, no password of that
//! user is looked at that comes from that address. Others of the address and the user elsewhere do not
//! notice, and neither does whoever shows a token or a signature: nobody can lock a user out of more than
//! their own address. Tokens and keys are too long to be guessed, so wrong ones are refused and no more.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use thalweg_control::{Error, WRONG_PASSWORD};

use tokio_util::task::TaskTracker;

use super::error::Failure;

/// Wrong passwords until the pair of user and address is locked.
const WRONG_MAX: u32 = 10;
/// How long it is locked, and how long a wrong password counts.
const LOCKED: Duration = Duration::from_secs(15 * 60);
/// Pairs remembered; beyond, the one that is oldest is forgotten.
const PAIRS_MAX: usize = 10_000;
/// Passwords that one address may try in a row, and one more each second.
const LOGINS: NonZeroU32 = NonZeroU32::new(60).expect("it is not zero");
/// Refused calls of one user that are written down, in a second.
const REFUSALS: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");
/// After so many, buckets that are full again are forgotten.
const BUCKETS_MAX: usize = 10_000;

/// How much may come, and from whom it is taken to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GateOptions {
    /// Requests of one user in a second, and in a row.
    pub(crate) requests_per_second: NonZeroU32,
    /// Addresses of proxies, whose word on who is behind them counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
}

impl Default for GateOptions {
    fn default() -> Self {
        GateOptions {
            requests_per_second: NonZeroU32::new(1_000).expect("it is not zero"),
            trusted_proxies: Vec::new(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    trusted_proxies: Vec<IpNet>,
    requests: DefaultKeyedRateLimiter<String>,
    logins: DefaultKeyedRateLimiter<IpAddr>,
    refusals: DefaultKeyedRateLimiter<String>,
    /// Calls that change something: they go to their end, whatever becomes of who has called.
    pub(crate) calls: TaskTracker,
    wrong: Mutex<HashMap<(IpAddr, String), Wrong>>,
}

/// Wrong passwords of a pair.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Instant,
}

impl Gate {
    pub(crate) fn new(options: GateOptions) -> Self {
        Gate {
            trusted_proxies: options.trusted_proxies,
            requests: RateLimiter::keyed(Quota::per_second(options.requests_per_second)),
            logins: RateLimiter::keyed(Quota::per_second(NonZeroU32::MIN).allow_burst(LOGINS)),
            refusals: RateLimiter::keyed(Quota::per_second(REFUSALS)),
            calls: TaskTracker::new(),
            wrong: Mutex::default(),
        }
    }

    /// Whether a refused call of a user is to be written down: what nobody may do fills no disk.
    pub(crate) fn notes_refusal(&self, user: &str) -> bool {
        if self.refusals.len() > BUCKETS_MAX {
            self.refusals.retain_recent();
        }
        self.refusals.check_key(&user.to_owned()).is_ok()
    }

    /// Where a request came from: the peer, or, if that is a proxy we trust, whom it names last.
    pub(crate) fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted =
            |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        let mut address = peer.to_canonical();
        if !trusted(&address) {
            return address;
        }
        let named = headers.get_all("x-forwarded-for").iter();
        let named: Vec<&str> = named
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for one in named.iter().rev() {
            match one.trim().parse::<IpAddr>() {
                Ok(behind) => address = behind.to_canonical(),
                Err(_) => break,
            }
            if !trusted(&address) {
                break;
            }
        }
        address
    }

    /// Lets a request of a user pass, or says when.
    pub(crate) fn request(&self, user: &str) -> Result<(), Failure> {
        if self.requests.len() > BUCKETS_MAX {
            self.requests.retain_recent();
        }
        let passed = self.requests.check_key(&user.to_owned());
        passed.map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            throttled("You ask more often than one user may", wait)
        })
    }

    /// Lets a password be tried, or says when. What comes of it is told by [`Gate::tried`].
    pub(crate) fn login(&self, address: IpAddr, user: &str) -> Result<(), Failure> {
        let address = network(address);
        if self.logins.len() > BUCKETS_MAX {
            self.logins.retain_recent();
        }
        self.logins.check_key(&address).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            throttled("Too many passwords are tried from your address", wait)
        })?;
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match wrong.get(&(address, user.to_owned())) {
            Some(pair) if pair.count >= WRONG_MAX && pair.last.elapsed() < LOCKED => {
                let wait = LOCKED.saturating_sub(pair.last.elapsed());
                let what = format!(
                    "{WRONG_MAX} wrong passwords were given for this user from your address; access keys \
                     and tokens go on as before"
                );
                Err(throttled(&what, wait))
            }
            _ => Ok(()),
        }
    }

    /// Whether a password that was tried was right. `true`: this wrong one has locked the pair.
    pub(crate) fn tried(&self, address: IpAddr, user: &str, right: bool) -> bool {
        let pair = (network(address), user.to_owned());
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            wrong.remove(&pair);
            return false;
        }
        if wrong.len() >= PAIRS_MAX && !wrong.contains_key(&pair) {
            wrong.retain(|_, one| one.last.elapsed() < LOCKED);
            let oldest = wrong.iter().min_by_key(|(_, one)| one.last);
            if let Some(oldest) = oldest.map(|(pair, _)| pair.clone())
                && wrong.len() >= PAIRS_MAX
            {
                wrong.remove(&oldest);
            }
        }
        let now = Instant::now();
        let one = wrong.entry(pair).or_insert(Wrong {
            count: 0,
            last: now,
        });
        if one.last.elapsed() >= LOCKED {
            one.count = 0;
        }
        one.count += 1;
        one.last = now;
        one.count == WRONG_MAX
    }
}

/// Of IPv6, the network that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn throttled(what: &str, wait: Duration) -> Failure {
    Failure::Throttled {
        reason: format!("{what}: try again in {} s.", wait.as_secs() + 1),
        seconds: wait.as_secs() + 1,
    }
}

impl Failure {
    /// Whether a password was wrong.
    pub(crate) fn is_wrong_password(&self) -> bool {
        matches!(self, Failure::Control(Error::Unauthenticated(text)) if text == WRONG_PASSWORD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(proxies: &[&str], requests: u32) -> Gate {
        Gate::new(GateOptions {
            requests_per_second: NonZeroU32::new(requests).unwrap(),
            trusted_proxies: proxies.iter().map(|net| net.parse().unwrap()).collect(),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn wrong_passwords_lock_the_pair_and_nobody_else() {
        let gate = gate(&[], 10);
        let (here, there) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for tried in 1..=WRONG_MAX {
            gate.login(here, "anna").unwrap();
            assert_eq!(gate.tried(here, "anna", false), tried == WRONG_MAX);
        }
        let locked = gate.login(here, "anna").unwrap_err();
        assert!(
            matches!(
                locked,
                Failure::Throttled {
                    seconds: 890..=901,
                    ..
                }
            ),
            "{locked:?}"
        );
        gate.login(here, "bert").unwrap();
        gate.login(there, "anna").unwrap();
    }

    #[test]
    fn a_right_password_forgets_the_wrong_ones() {
        let gate = gate(&[], 10);
        let here = ip("2001:db8::1");
        for _ in 1..WRONG_MAX {
            gate.tried(here, "anna", false);
        }
        gate.tried(ip("2001:db8::2"), "anna", true);
        gate.tried(here, "anna", false);
        gate.login(here, "anna").unwrap();
    }

    #[test]
    fn an_address_that_tries_many_passwords_waits() {
        let gate = gate(&[], 10);
        let here = ip("192.0.2.1");
        let passed = (0..200).filter(|n| gate.login(here, &format!("user{n}")).is_ok());
        assert_eq!(passed.count(), LOGINS.get() as usize);
        gate.login(ip("192.0.2.2"), "anna").unwrap();
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let gate = gate(&[], 10);
        for n in 0..PAIRS_MAX + 100 {
            gate.tried(ip("192.0.2.1"), &format!("user{n}"), false);
        }
        assert_eq!(gate.wrong.lock().unwrap().len(), PAIRS_MAX);
    }

    #[test]
    fn a_user_who_asks_too_often_waits_and_others_do_not() {
        let gate = gate(&[], 10);
        let passed = (0..100).filter(|_| gate.request("anna").is_ok()).count();
        assert!((10..=12).contains(&passed), "{passed}");
        gate.request("bert").unwrap();
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let gate = gate(&["10.0.0.0/8"], 10);
        let check = |peer: &str, header: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for value in header {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            assert_eq!(
                gate.address(ip(peer), &headers),
                ip(expected),
                "{peer} {header:?}"
            );
        };
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("10.1.1.1", &[], "10.1.1.1");
        check("::ffff:10.1.1.1", &["198.51.100.7"], "198.51.100.7");
        check("10.1.1.1", &["198.51.100.7"], "198.51.100.7");
        check(
            "10.1.1.1",
            &["1.2.3.4, 198.51.100.7, 10.2.2.2"],
            "198.51.100.7",
        );
        check("10.1.1.1", &["1.2.3.4", "198.51.100.7"], "198.51.100.7");
        check("10.1.1.1", &["nonsense"], "10.1.1.1");
    }
}
