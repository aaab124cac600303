//! The bank: money in three tables and three types, whose total is the same in every committed
//! state, and a clock that never goes back.
//!
//! Money moves between rows and between tables, accounts are opened and closed, and change their
//! keys. A reader that sees half a transaction sees another total; one that sees a state of before
//! an earlier one sees the clock go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_testkit::servers::MariaDb;
use thalweg_testkit::workload::DATABASE;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The tables.
pub(crate) const TABLES: [&str; 4] = ["checking", "savings", "vault", "clock"];
/// What the bank holds, in cents.
pub(crate) const TOTAL: i64 = 300 * 100_000 + 200 * 50_000 + 40 * 250_000;
/// One snapshot of it at a target: cents in each table, and the clock.
pub(crate) const SNAPSHOT: &str = "SELECT \
    (SELECT coalesce(sum(balance), 0) * 100 FROM checking)::bigint, \
    (SELECT coalesce(sum(cents), 0) FROM savings)::bigint, \
    (SELECT coalesce(sum(amount), 0) * 100 FROM vault)::bigint, \
    (SELECT ticks FROM clock)";

/// Keys and moved keys lie this far apart.
const MOVED: u32 = 1_000_000;
/// The server's errors that ask for another try: deadlock, lock wait.
const AGAIN: [u16; 2] = [1213, 1205];

const SCHEMA: &str = "
CREATE TABLE checking (id INT UNSIGNED PRIMARY KEY, owner VARCHAR(40) NOT NULL,
  balance DECIMAL(18,2) NOT NULL,
  changed TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));
CREATE TABLE savings (id BIGINT AUTO_INCREMENT PRIMARY KEY, cents BIGINT NOT NULL);
CREATE TABLE vault (code VARCHAR(20) PRIMARY KEY, amount DECIMAL(20,4) NOT NULL);
CREATE TABLE clock (id INT PRIMARY KEY, ticks BIGINT NOT NULL);
INSERT INTO checking (id, owner, balance) SELECT seq, concat('owner č. ', seq), 1000 FROM seq_1_to_300;
INSERT INTO savings (cents) SELECT 50000 FROM seq_1_to_200;
INSERT INTO vault SELECT concat('v', seq), 2500 FROM seq_1_to_40;
INSERT INTO clock VALUES (1, 0);";

/// Makes the bank in a database that exists.
pub(crate) fn create(server: &MariaDb) -> Result<()> {
    server.sql_in(DATABASE, SCHEMA).map(drop)
}

/// Where the clock stands at the source.
pub(crate) fn ticks(server: &MariaDb) -> Result<i64> {
    let told = server.sql_in(DATABASE, "SELECT ticks FROM clock")?;
    told.trim().parse().context("the clock")
}

/// People who use the bank, until told to stop.
pub(crate) struct Customers {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Customers {
    /// Starts `count` of them, each with `rate` transactions a second at most.
    pub(crate) fn start(
        runtime: &Handle,
        server: &MariaDb,
        seed: u64,
        count: u64,
        rate: u32,
    ) -> Self {
        let opts = OptsBuilder::default()
            .ip_or_hostname(server.host())
            .tcp_port(server.port())
            .user(Some(server.user()))
            .pass(Some(server.password()))
            .db_name(Some(DATABASE))
            .prefer_socket(false);
        let opts = Opts::from(opts);
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let random = SmallRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
            let pause = Duration::from_secs(1) / rate;
            tasks.spawn_on(
                work(opts.clone(), random, pause, Arc::clone(&shared)),
                runtime,
            );
        }
        Self { shared, tasks }
    }

    /// Whether all still work; also what one that does not had to say.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                bail!("a customer of the bank went away")
            }
        }
    }

    /// Lets each finish; how many transactions were committed.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.shared.done.load(Ordering::Relaxed))
    }
}

async fn work(
    opts: Opts,
    mut random: SmallRng,
    pause: Duration,
    shared: Arc<Shared>,
) -> Result<()> {
    let mut conn = Conn::new(opts).await?;
    while !shared.stop.load(Ordering::Relaxed) {
        match transaction(&mut conn, &mut random).await {
            Ok(true) => drop(shared.done.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(mysql_async::Error::Server(error)) if AGAIN.contains(&error.code) => {
                conn.query_drop("ROLLBACK").await?;
            }
            Err(error) => return Err(anyhow!(error).context("a customer of the bank")),
        }
        tokio::time::sleep(pause.mul_f64(random.random_range(0.2..1.8))).await;
    }
    conn.disconnect().await?;
    Ok(())
}

type Answer<T> = mysql_async::Result<T>;

/// One transaction; false if there was nothing to do.
async fn transaction(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    conn.query_drop("START TRANSACTION").await?;
    let done = match random.random_range(0..100) {
        0..30 => transfer(conn, random, "checking", "checking").await?,
        30..45 => transfer(conn, random, "checking", "savings").await?,
        45..55 => transfer(conn, random, "savings", "vault").await?,
        55..65 => {
            conn.query_drop("UPDATE clock SET ticks = ticks + 1")
                .await?;
            transfer(conn, random, "vault", "checking").await?
        }
        65..75 => open(conn, random).await?,
        75..85 => close(conn, random).await?,
        85..92 => rename(conn, random).await?,
        92..97 => swap_keys(conn, random).await?,
        _ => tax(conn, random).await?,
    };
    conn.query_drop(if done { "COMMIT" } else { "ROLLBACK" })
        .await?;
    Ok(done)
}

/// The condition that names an account of a table, chosen without locking anything.
async fn pick(conn: &mut Conn, random: &mut SmallRng, table: &str) -> Answer<Option<String>> {
    let query = match table {
        "checking" => {
            let id = random.random_range(0..400) + MOVED * random.random_range(0..2);
            format!("SELECT CAST(id AS CHAR) FROM checking WHERE id >= {id} ORDER BY id LIMIT 1")
        }
        "savings" => {
            let back = random.random_range(0..300);
            format!(
                "SELECT CAST(id AS CHAR) FROM savings WHERE id >= \
                 (SELECT MAX(id) FROM savings) - {back} ORDER BY id LIMIT 1"
            )
        }
        _ => format!(
            "SELECT code FROM vault ORDER BY RAND({}) LIMIT 1",
            random.random::<u32>()
        ),
    };
    let key: Option<String> = conn.query_first(query).await?;
    Ok(key.map(|key| match table {
        "vault" => format!("code = '{key}'"),
        _ => format!("id = {key}"),
    }))
}

/// Puts cents into an account; false if it is gone.
async fn put(conn: &mut Conn, table: &str, account: &str, cents: i64) -> Answer<bool> {
    let change = match table {
        "checking" => format!("balance = balance + {cents} / 100"),
        "savings" => format!("cents = cents + {cents}"),
        _ => format!("amount = amount + {cents} / 100"),
    };
    conn.query_drop(format!("UPDATE {table} SET {change} WHERE {account}"))
        .await?;
    Ok(conn.affected_rows() == 1)
}

async fn transfer(conn: &mut Conn, random: &mut SmallRng, from: &str, to: &str) -> Answer<bool> {
    let cents = random.random_range(1..50_000);
    let (Some(one), Some(other)) = (
        pick(conn, random, from).await?,
        pick(conn, random, to).await?,
    ) else {
        return Ok(false);
    };
    Ok(put(conn, from, &one, -cents).await? && put(conn, to, &other, cents).await?)
}

/// A new account with money of another one.
async fn open(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    let cents = random.random_range(1..50_000);
    let Some(payer) = pick(conn, random, "vault").await? else {
        return Ok(false);
    };
    conn.query_drop(format!("INSERT INTO savings (cents) VALUES ({cents})"))
        .await?;
    put(conn, "vault", &payer, -cents).await
}

/// An account goes, and its money to another one.
async fn close(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    let (Some(account), Some(heir)) = (
        pick(conn, random, "savings").await?,
        pick(conn, random, "checking").await?,
    ) else {
        return Ok(false);
    };
    let held = format!("SELECT cents FROM savings WHERE {account} FOR UPDATE");
    let Some(cents) = conn.query_first::<i64, _>(held).await? else {
        return Ok(false);
    };
    conn.query_drop(format!("DELETE FROM savings WHERE {account}"))
        .await?;
    put(conn, "checking", &heir, cents).await
}

/// Accounts change their keys.
async fn rename(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    if random.random() {
        let Some(account) = pick(conn, random, "vault").await? else {
            return Ok(false);
        };
        let change = format!(
            "UPDATE vault SET code = IF(code LIKE 'm%', substr(code, 2), concat('m', code)) \
             WHERE {account}"
        );
        conn.query_drop(change).await?;
        return Ok(conn.affected_rows() == 1);
    }
    let Some(account) = pick(conn, random, "checking").await? else {
        return Ok(false);
    };
    let change = format!(
        "UPDATE checking SET id = IF(id > {MOVED}, id - {MOVED}, id + {MOVED}) WHERE {account}"
    );
    conn.query_drop(change).await?;
    Ok(conn.affected_rows() == 1)
}

/// Two accounts take each other's key, and one pays the other.
async fn swap_keys(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    let id = random.random_range(1..300);
    let other = id + 1;
    let parked = 3 * MOVED + random.random_range(0..MOVED);
    for (from, to) in [(id, parked), (other, id), (parked, other)] {
        let change = format!("UPDATE checking SET id = {to} WHERE id = {from}");
        conn.query_drop(change).await?;
        if conn.affected_rows() != 1 {
            return Ok(false);
        }
    }
    Ok(put(conn, "checking", &format!("id = {id}"), -7).await?
        && put(conn, "checking", &format!("id = {other}"), 7).await?)
}

/// Many accounts pay into one of another table.
async fn tax(conn: &mut Conn, random: &mut SmallRng) -> Answer<bool> {
    let Some(office) = pick(conn, random, "vault").await? else {
        return Ok(false);
    };
    let odd = random.random_range(0..5);
    conn.query_drop(format!(
        "UPDATE checking SET balance = balance - 0.01 WHERE id % 5 = {odd} ORDER BY id"
    ))
    .await?;
    let cents = i64::try_from(conn.affected_rows()).unwrap_or(0);
    put(conn, "vault", &office, cents).await
}
