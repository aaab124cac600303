//! Streams of one source that share a dump: each gets what it would get alone.

use std::time::{Duration, Instant};

use thalweg_core::ports::{Connector, DataSourceConfig, StreamLimits};
use thalweg_core::position::Position;
use thalweg_core::schema::TableSchema;
use thalweg_core::secret::Secret;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::world::{LIMITS, Tx, World, open_on};

const TABLES: &str = "\
    CREATE TABLE a (id INT PRIMARY KEY, t MEDIUMTEXT); \
    CREATE TABLE b (id INT PRIMARY KEY, t MEDIUMTEXT); \
    CREATE TABLE c (id INT PRIMARY KEY, t MEDIUMTEXT); \
    CREATE TABLE m (id INT PRIMARY KEY, t MEDIUMTEXT) ENGINE=MyISAM; \
    CREATE TABLE other (id INT PRIMARY KEY AUTO_INCREMENT, t MEDIUMTEXT);";

/// Everything a log can have, in a few transactions each; session by session.
const WORK: [&str; 4] = [
    "\
    INSERT INTO a VALUES (1, 'one'); INSERT INTO b VALUES (1, 'one'); INSERT INTO c VALUES (1, 'one'); \
    INSERT INTO other (t) VALUES ('x'), ('y'); INSERT INTO other (t) VALUES ('z'); \
    BEGIN; INSERT INTO a VALUES (2, 'two'); INSERT INTO b VALUES (2, 'two'); UPDATE a SET t = 'ZWEI'; COMMIT; \
    INSERT INTO m VALUES (1, 'not transactional'); \
    FLUSH BINARY LOGS; \
    INSERT INTO c VALUES (2, 'in the next file'); INSERT INTO other (t) VALUES ('x'); \
    SET gtid_domain_id = 7; INSERT INTO b VALUES (3, 'seven'); INSERT INTO other (t) VALUES ('seven'); \
    SET gtid_domain_id = 0; INSERT INTO other (t) VALUES ('nought'); INSERT INTO a VALUES (3, 'three'); \
    XA START 'x'; INSERT INTO a VALUES (4, 'xa'); INSERT INTO c VALUES (4, 'xa'); XA END 'x'; XA PREPARE 'x';",
    "\
    INSERT INTO b VALUES (4, 'between'); FLUSH BINARY LOGS; \
    XA START 'y'; INSERT INTO b VALUES (5, 'never'); XA END 'y'; XA PREPARE 'y';",
    "\
    XA COMMIT 'x'; XA ROLLBACK 'y';",
    "\
    ALTER TABLE b ADD COLUMN more INT FIRST; INSERT INTO b (id, t, more) VALUES (6, 'altered', 7); \
    INSERT INTO a VALUES (6, 'not altered'); \
    CREATE TABLE made (id INT) AS SELECT id FROM a; DROP TABLE made; TRUNCATE TABLE c; \
    BEGIN; INSERT INTO other (t) SELECT REPEAT('o', 1000) FROM seq_1_to_3000; INSERT INTO c VALUES (7, 'late'); \
    INSERT INTO other (t) VALUES ('behind'); COMMIT; \
    BEGIN; INSERT INTO a SELECT seq, REPEAT('a', 1000) FROM seq_100_to_9000; INSERT INTO b (id) VALUES (7); COMMIT; \
    BEGIN; INSERT INTO b (id) VALUES (8); SAVEPOINT s; INSERT INTO a VALUES (8, 'no'); ROLLBACK TO s; COMMIT; \
    DELETE FROM b WHERE id = 1; DELETE FROM m; INSERT INTO other (t) VALUES ('last');",
];

/// Two changes of each of some tables, in transactions of their own.
fn a_little(round: u32) -> String {
    let one = |table: &str, id: u32| format!("INSERT INTO {table} (id) VALUES ({id});");
    let ids = [1_000_000 + 2 * round, 1_000_001 + 2 * round];
    let each = |id: u32| ["a", "b", "c"].map(|table| one(table, id)).concat();
    ids.map(each).concat()
}

/// Streams of one source, all read at the same time.
struct Crowd<'a> {
    world: &'a World,
    start: Position,
    limits: StreamLimits,
    tables: Vec<Vec<TableSchema>>,
    readers: JoinSet<(usize, Vec<Tx>, Vec<Position>)>,
    /// Up to where to read; none: on and on.
    until: watch::Sender<Option<Position>>,
    /// Where each stream is.
    at: Vec<watch::Receiver<Position>>,
    /// The stream that is not read for the time being.
    held: watch::Sender<Option<usize>>,
}

impl<'a> Crowd<'a> {
    async fn open(world: &'a World, of: &[&[&str]], limits: StreamLimits) -> Crowd<'a> {
        let connector = thalweg_mysql::connector();
        let start = world.here().await;
        Crowd::open_at(world, &connector, start, of, limits).await
    }

    async fn open_at(
        world: &'a World,
        connector: &dyn Connector,
        start: Position,
        of: &[&[&str]],
        limits: StreamLimits,
    ) -> Crowd<'a> {
        let mut crowd = Crowd {
            world,
            start,
            limits,
            tables: Vec::new(),
            readers: JoinSet::new(),
            until: watch::Sender::new(None),
            at: Vec::new(),
            held: watch::Sender::new(None),
        };
        for names in of {
            crowd.add(connector, names).await;
        }
        crowd
    }

    /// One more stream, from the start.
    async fn add(&mut self, connector: &dyn Connector, names: &[&str]) {
        let (number, world) = (self.tables.len(), self.world);
        let tables = world.tables(names).await;
        let config = DataSourceConfig {
            application_name: format!("thalweg/{number}"),
            // As the control plane draws them.
            server_id: Some((1 << 30) + u32::try_from(number).unwrap()),
            ..world.config()
        };
        let source = connector.source(&config).unwrap();
        let mut log = open_on(source, &self.start, &tables, self.limits).await;
        self.tables.push(tables);
        let (tell, at) = watch::channel(self.start.clone());
        self.at.push(at);
        let (mut until, mut held) = (self.until.subscribe(), self.held.subscribe());
        self.readers.spawn(async move {
            let (mut seen, mut all) = (Vec::new(), Vec::new());
            loop {
                let end = until.borrow_and_update().clone();
                if end.is_some_and(|end| log.source.reached(&log.at, &end).unwrap()) {
                    return (number, seen, all);
                }
                held.wait_for(|held| *held != Some(number)).await.unwrap();
                let tx = log.next().await.unwrap();
                all.push(tx.position.clone());
                tell.send_replace(tx.position.clone());
                if !tx.changes.is_empty() {
                    seen.push(tx);
                }
            }
        });
    }

    /// Waits until all have the same dump.
    async fn shares(&mut self) {
        come_to(self.world, 1).await;
        let ended = self.readers.try_join_next();
        assert!(ended.is_none(), "a stream ended");
    }

    /// Waits until a stream is at the present end of the log.
    async fn reached(&mut self, number: usize) {
        let source = self.world.source();
        let end = source.head().await.unwrap();
        let at = self.at.get_mut(number).unwrap();
        let there = at.wait_for(|at| source.reached(at, &end).unwrap());
        let there = tokio::time::timeout(Duration::from_secs(30), there).await;
        assert!(there.unwrap().is_ok(), "the stream ended");
    }

    /// What a stream that shares nothing gets.
    async fn alone(&self, from: &Position, tables: &[TableSchema]) -> Vec<Tx> {
        let mut log = self.world.open_with(from, tables, self.limits).await;
        log.rest().await
    }

    /// Reads to the present end, and compares with what each stream gets alone, from the start and from
    /// positions that were handed out.
    async fn ends_exact(mut self) {
        let end = self.world.source().head().await.unwrap();
        self.until.send_replace(Some(end));
        while let Some(done) = self.readers.join_next().await {
            let (number, seen, positions) = done.unwrap();
            let tables = &self.tables[number];
            let alone = self.alone(&self.start, tables).await;
            let facts = |all: &[Tx]| -> Vec<String> {
                let one = |tx: &Tx| {
                    let first: Vec<_> = tx.changes.iter().take(5).collect();
                    let (id, at, parts) = (&tx.id, &tx.position, tx.parts);
                    format!("{id:?} {} {first:?} {parts} {at}", tx.changes.len())
                };
                all.iter().map(one).collect()
            };
            assert_eq!(facts(&seen), facts(&alone), "stream {number}");
            assert_eq!(seen, alone);
            let source = self.world.source();
            let some = positions.len().div_ceil(6);
            for at in positions.iter().step_by(some.max(1)) {
                let is_behind = |tx: &&Tx| !source.reached(at, &tx.position).unwrap();
                let want: Vec<Tx> = alone.iter().filter(is_behind).cloned().collect();
                // Layouts belong to a position, and after the first change they are others.
                let altered = want.len() < alone.len() && tables.iter().any(|t| t.name.name == "b");
                if !altered {
                    let got = self.alone(at, tables).await;
                    assert_eq!(facts(&got), facts(&want), "stream {number} from {at}");
                }
            }
        }
    }
}

/// The connections to which the server sends its log.
fn dumps(world: &World) -> Vec<String> {
    let list =
        world.sql("SELECT id FROM information_schema.processlist WHERE command = 'Binlog Dump'");
    list.split_whitespace().map(str::to_owned).collect()
}

/// Waits until the server sends its log so many times. It sees that nobody listens when it sends something.
async fn come_to(world: &World, want: usize) {
    let since = Instant::now();
    loop {
        let found = dumps(world).len();
        if found == want {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{found} dumps");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const MANY: [&[&str]; 6] = [&["a"], &["b"], &["c"], &["a", "c"], &["m"], &["other", "b"]];

async fn each_gets_what_it_gets_alone(config: &[&str]) {
    let world = World::new(config);
    world.sql(TABLES);
    let limits = StreamLimits {
        part_bytes: 65_536,
        ..LIMITS
    };
    let mut crowd = Crowd::open(&world, &MANY, limits).await;
    crowd.shares().await;
    for session in WORK {
        world.sql(session);
    }
    crowd.shares().await;
    for round in 0..20 {
        world.sql(&a_little(round));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(dumps(&world).len(), 1);
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_gets_what_it_gets_alone() {
    each_gets_what_it_gets_alone(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_gets_what_it_gets_alone_of_a_compressed_log() {
    each_gets_what_it_gets_alone(&["log_bin_compress=ON", "log_bin_compress_min_len=10"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_later_joins_while_there_is_work() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let connector = thalweg_mysql::connector();
    let start = world.here().await;
    let of: [&[&str]; 2] = [&["a"], &["b"]];
    let mut crowd = Crowd::open_at(&world, &connector, start, &of, LIMITS).await;
    crowd.shares().await;
    // Work goes on all the time.
    let one = |n: u32| {
        format!(
            "INSERT INTO a VALUES ({n}, REPEAT('a', 300)); INSERT INTO b VALUES ({n}, 'b'); \
             UPDATE a SET t = 'again' WHERE id = {n} - 1; INSERT INTO c VALUES ({n}, 'c'); "
        )
    };
    let work: String = (0..800).map(one).collect();
    let working = std::thread::scope(|scope| {
        let work = scope.spawn(|| world.sql(&work));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for names in [&["a", "b"], &["c", "a"], &["b", "c"], &["c", "other"]] {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    crowd.add(&connector, names).await;
                }
            });
        });
        work.join()
    });
    assert!(working.is_ok());
    crowd.shares().await;
    world.sql(&a_little(0));
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_leaves_and_comes_back() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let mut crowd = Crowd::open(&world, &[&["a"], &["b"], &["c", "a"]], LIMITS).await;
    crowd.shares().await;
    world.sql("INSERT INTO a VALUES (1, 'one'); INSERT INTO b VALUES (1, 'one')");
    crowd.held.send_replace(Some(0));
    // More than the ring has, in transactions of which each is for one.
    for id in 10..40 {
        world.sql(&format!(
            "INSERT INTO a VALUES ({id}, REPEAT('a', 300000)); \
             INSERT INTO b VALUES ({id}, REPEAT('b', 300000))"
        ));
    }
    crowd.reached(1).await;
    assert_eq!(dumps(&world).len(), 1, "nobody left yet");
    crowd.held.send_replace(None);
    crowd.reached(0).await;
    // It is back when it has come to the head.
    world.sql(&a_little(1));
    crowd.shares().await;
    world.sql(&a_little(2));
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_leaves_in_the_middle_of_a_transaction() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    let limits = StreamLimits {
        part_bytes: 65_536,
        ..LIMITS
    };
    let connector = thalweg_mysql::connector();
    let mut crowd = Crowd::open_at(&world, &connector, start.clone(), &[&["b"]], limits).await;
    let tables = world.tables(&["a"]).await;
    let source = connector.source(&world.config()).unwrap();
    let mut slow = open_on(source, &start, &tables, limits).await;
    let since = Instant::now();
    while dumps(&world).len() != 1 {
        assert!(since.elapsed() < Duration::from_secs(20));
        drop(tokio::time::timeout(Duration::from_millis(50), slow.next()).await);
    }
    world.sql(
        "BEGIN; INSERT INTO a SELECT seq, REPEAT('a', 1000) FROM seq_1_to_15000; \
         INSERT INTO b VALUES (1, 'b'); COMMIT; INSERT INTO a VALUES (0, 'next')",
    );
    let (mut rows, mut commit) = (0, None);
    while rows == 0 {
        rows += slow.part().await.unwrap().changes.changes.len();
    }
    // The other goes on to the end.
    crowd.reached(0).await;
    while commit.is_none() {
        let part = slow.part().await.unwrap();
        rows += part.changes.changes.len();
        commit = part.commit;
    }
    assert_eq!(rows, 15_000);
    let rest = slow.rest().await;
    let alone = world.open_with(&start, &tables, limits).await.rest().await;
    assert_eq!(commit.unwrap().position, alone[0].position);
    assert_eq!(rest, alone[1..]);
    drop(slow);
    crowd.shares().await;
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_begin_together_far_behind_read_together() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    for id in 10..30 {
        world.sql(&format!(
            "INSERT INTO a VALUES ({id}, REPEAT('a', 300000)); \
             INSERT INTO b VALUES ({id}, REPEAT('b', 300000)); INSERT INTO other (t) VALUES ('x')"
        ));
    }
    let connector = thalweg_mysql::connector();
    let last = connector.source(&world.config()).unwrap();
    let of: [&[&str]; 3] = [&["a"], &["b"], &["c", "a"]];
    let mut crowd = Crowd::open_at(&world, &connector, start.clone(), &of, LIMITS).await;
    crowd.shares().await;
    for at in &crowd.at {
        assert_eq!(*at.borrow(), start, "they wait for the last");
    }
    drop(last);
    for number in 0..of.len() {
        crowd.reached(number).await;
    }
    assert_eq!(dumps(&world).len(), 1);
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_is_killed_is_replaced() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let mut crowd = Crowd::open(&world, &MANY, LIMITS).await;
    for round in 0..6 {
        crowd.shares().await;
        world.sql(&a_little(3 * round));
        let dump = dumps(&world).remove(0);
        world.sql(&format!("KILL {dump}"));
        world.sql(&a_little(3 * round + 1));
        if round == 3 {
            world.sql("FLUSH BINARY LOGS");
        }
    }
    crowd.shares().await;
    world.sql(&a_little(100));
    crowd.ends_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stays_alone_has_its_dump_back_and_the_last_one_closes_it() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["a"]).await;
    let start = world.here().await;
    let connector = thalweg_mysql::connector();
    let mut logs = Vec::new();
    for _ in 0..2 {
        let source = connector.source(&world.config()).unwrap();
        logs.push(open_on(source, &start, &tables, LIMITS).await);
    }
    let since = Instant::now();
    while dumps(&world).len() != 1 {
        assert!(since.elapsed() < Duration::from_secs(20));
        for log in &mut logs {
            drop(tokio::time::timeout(Duration::from_millis(50), log.next()).await);
        }
    }
    let mut left = logs.remove(0);
    drop(logs);
    world.sql("INSERT INTO a VALUES (1, 'x'); INSERT INTO other (t) VALUES ('y')");
    let seen = left.rest().await;
    assert_eq!(seen, world.follow(&start, &tables).await);
    world.sql("INSERT INTO a VALUES (2, 'x')");
    assert_eq!(left.rest().await.len(), 1);
    come_to(&world, 1).await;
    drop(left);
    come_to(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_or_a_replica_id_of_its_own_shares_nothing() {
    let world = World::new(&[]);
    world.sql(TABLES);
    world.sql(
        "CREATE USER reader@'%' IDENTIFIED BY 'pw'; \
         GRANT SELECT, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO reader@'%'",
    );
    let tables = world.tables(&["a"]).await;
    let start = world.here().await;
    let connector = thalweg_mysql::connector();
    let own = DataSourceConfig {
        server_id: Some(77),
        ..world.config()
    };
    let reader = DataSourceConfig {
        user: "reader".into(),
        password: Secret::new("pw"),
        ..world.config()
    };
    let mut logs = Vec::new();
    for config in [&world.config(), &own, &reader] {
        let source = connector.source(config).unwrap();
        logs.push(open_on(source, &start, &tables, LIMITS).await);
    }
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        for log in &mut logs {
            drop(tokio::time::timeout(Duration::from_millis(50), log.next()).await);
        }
    }
    assert_eq!(dumps(&world).len(), 3);
}
