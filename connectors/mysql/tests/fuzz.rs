//! Mutated and truncated logs through the whole decoder: no panic, no hang, and no memory but for
//! what the input can stand for. A binary of its own, because its allocator counts.
//!
//! Inputs are recordings (where they are, see `it/recordings.rs`) and built logs of MySQL and MariaDB
//! with every kind of event, one or a few of whose events are changed: bits and bytes, lengths, types,
//! cut short, made longer, repeated, left out. Checksums are taken off, since they would hide the rest.
//!
//! Ordinarily this runs for three seconds; `THALWEG_PROVE` makes it five million inputs. `SEED` repeats
//! a run, `INPUTS` sets their number.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use thalweg_core::ports::StreamLimits;
use thalweg_core::schema::TableSchema;
use thalweg_mysql::recordings::{play, visit};
use thalweg_testkit::binlog::{Binlog, Column, Form, Rows, changes, int, json as doc, logs, text};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 4096,
    row_bytes_max: 16 << 10,
};
/// The state of the inflater and one part of a transaction; everything else is bounded by the input.
const CONSTANT: usize = 192 << 10;
/// No input is near to this.
const HANG: Duration = Duration::from_secs(5);

/// A log, taken apart.
struct Seed {
    name: String,
    /// Headers and bodies without checksums.
    events: Vec<(Vec<u8>, Vec<u8>)>,
    /// The tables as the log has them before it is changed.
    tables: Vec<TableSchema>,
    /// What playing nothing takes.
    base: usize,
}

impl Seed {
    fn new(name: &str, file: &[u8]) -> Option<Seed> {
        let mut events = Vec::new();
        let (mut rest, mut sum) = (file.get(4..)?, 0);
        while rest.len() >= 19 {
            let size = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
            let event = rest.get(..size).filter(|e| e.len() >= 19 + sum)?;
            let (head, body) = event.split_at(19);
            let mut body = body.to_vec();
            if head[4] == 15 && body.len() > 5 {
                let algorithm = body.len() - 5;
                sum = if body[algorithm] == 1 { 4 } else { 0 };
                body[algorithm] = 0;
            } else {
                body.truncate(body.len() - sum);
            }
            events.push((head.to_vec(), body));
            rest = &rest[size..];
        }
        let mut tables = play(
            file,
            None,
            StreamLimits {
                row_bytes_max: 1 << 20,
                ..LIMITS
            },
        )
        .tables;
        tables.dedup_by(|a, b| a.name == b.name);
        let mut seed = Seed {
            name: name.to_owned(),
            events,
            tables,
            base: 0,
        };
        let first = seed.events.first()?.clone();
        seed.base = cost(&whole(&[first]), &seed.tables);
        Some(seed)
    }

    /// A changed copy.
    fn changed(&self, random: &mut SmallRng) -> Vec<u8> {
        let mut events = self.events.clone();
        for _ in 0..random.random_range(1..=3) {
            let at = random.random_range(0..events.len());
            match random.random_range(0..20) {
                0 => drop(events.remove(at)),
                1 => {
                    let again = events[at].clone();
                    events.insert(random.random_range(0..=at), again);
                }
                2 => events[at].0[4] = random.random_range(0..=175),
                _ => change(&mut events[at].1, random),
            }
            if events.is_empty() {
                break;
            }
        }
        let mut file = whole(&events);
        if random.random_range(0..10) == 0 {
            file.truncate(random.random_range(0..=file.len()));
        }
        file
    }
}

fn whole(events: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xFE, b'b', b'i', b'n'];
    for (head, body) in events {
        let start = out.len();
        out.extend_from_slice(head);
        let size = u32::try_from(19 + body.len()).unwrap();
        out[start + 9..start + 13].copy_from_slice(&size.to_le_bytes());
        out.extend_from_slice(body);
    }
    out
}

fn change(body: &mut Vec<u8>, random: &mut SmallRng) {
    const TELLING: [u8; 12] = [0, 1, 2, 0x7F, 0x80, 0x81, 0x8F, 250, 252, 253, 254, 255];
    if body.is_empty() {
        body.push(random.random());
        return;
    }
    let at = random.random_range(0..body.len());
    match random.random_range(0..8) {
        0 | 1 => body[at] ^= 1 << random.random_range(0..8),
        2 => body[at] = random.random(),
        3 | 4 => body[at] = TELLING[random.random_range(0..TELLING.len())],
        5 => body.truncate(at),
        6 => {
            let end = body.len().min(at + 4);
            body[at..end].fill(TELLING[random.random_range(0..TELLING.len())]);
        }
        _ => {
            let end = body.len().min(at + random.random_range(1..32));
            let slice = body[at..end].to_vec();
            let to = random.random_range(0..=body.len());
            body.splice(to..to, slice);
        }
    }
}

/// The memory that playing a file takes at its highest.
fn cost(file: &[u8], tables: &[TableSchema]) -> usize {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let played = visit(file, Some(tables), LIMITS, &mut drop);
    let peak = ALLOCATOR.peak_usage();
    drop(played);
    peak.saturating_sub(before)
}

/// Logs with every kind of event.
fn built() -> Vec<(&'static str, Binlog)> {
    let columns = [
        Column::int("id"),
        Column::text("name"),
        Column::json("data"),
        Column::other("decimal", 246, &[20, 5]),
        Column::other("time", 19, &[3]),
        Column::other("moment", 18, &[6]),
        Column::other("stamp", 17, &[2]),
        Column::other("bits", 16, &[1, 1]),
        Column::other("label", 254, &[247, 1]),
        Column::other("labels", 254, &[248, 1]),
        Column {
            collation: Some(63),
            ..Column::other("vector", 242, &[4])
        },
        Column {
            collation: Some(63),
            ..Column::other("packed", 140, &[2])
        },
        Column::other("old", 12, &[]),
    ];
    let all = vec![true; columns.len()];
    let mut some = all.clone();
    some[3..9].fill(false);
    let document = json!({"a": [1, 2.5, "three", null, {"b": true}], "key": "x".repeat(40)});
    let row = |id: i32| {
        vec![
            int(id),
            text("name"),
            doc(&document),
            Some(vec![0x80; 10]),
            Some(vec![0x80, 1, 2, 3, 4]),
            Some(vec![0x99, 1, 2, 3, 4, 5, 6, 7]),
            Some(vec![0x60, 1, 2, 3, 4]),
            Some(vec![1, 0xFF]),
            Some(vec![1]),
            Some(vec![3]),
            Some([&8_u32.to_le_bytes()[..], &[0; 8]].concat()),
            Some(vec![3, 0, 0, b'a', b'b']),
            Some(20_200_101_000_000_u64.to_le_bytes().to_vec()),
        ]
    };
    let fewer = |id: i32| -> Vec<_> {
        let kept = row(id).into_iter().zip(&some).filter(|(_, keep)| **keep);
        kept.map(|(value, _)| value).collect()
    };
    let work = |log: &mut Binlog, form: Form| {
        log.table_map(9, "d", "t", &columns, true);
        log.rows(Rows::Write, form, 9, &all, &all, &[row(1), row(2)]);
        let update = [row(1), fewer(2)].concat();
        log.rows(Rows::Update, form, 9, &all, &some, &[update]);
        log.rows(Rows::Delete, form, 9, &some, &all, &[fewer(3)]);
    };
    let server = [7; 16];
    let mut out = Vec::new();
    let mut log = Binlog::new("8.4.0", false);
    log.previous_gtids(&[(server, "", 1, 9), (server, "t", 1, 3)], true);
    log.rotate("b.000001", 4);
    log.heartbeat_v2("b.000001", 4);
    log.tagged(server, "t", 9);
    log.query("d", "BEGIN");
    log.event(29, 0x80, b"rows query");
    work(&mut log, Form::V2);
    log.xid();
    out.push(("rows of MySQL", log));
    let mut log = Binlog::new("8.0.36", false);
    log.gtid(server, 9);
    log.query("d", "BEGIN");
    log.table_map(9, "d", "j", &columns[..3], false);
    let steps = [
        (0, "$.a[0]", Some(json!("one"))),
        (1, "$.\"new key\"", Some(json!([]))),
        (2, "$.key", None),
    ];
    let update = [&row(1)[..3], &[int(1), text("n"), changes(&steps)]].concat();
    log.partial_update(9, &all[..3], &all[..3], &[true], &update);
    log.xid();
    out.push(("partial documents", log));
    for (name, zstd) in [("compressed", true), ("enveloped", false)] {
        let mut log = Binlog::new("8.0.36", false);
        log.gtid(server, 9);
        log.payload(zstd, |inner| {
            inner.query("d", "BEGIN");
            work(inner, Form::V2);
            inner.xid();
        });
        out.push((name, log));
    }
    let mut log = Binlog::new("8.0.36", false);
    log.gtid(server, 1);
    log.query("d", "XA START X'61',X'',1");
    work(&mut log, Form::V2);
    log.query("d", "XA END X'61',X'',1");
    log.xa_prepare(b"a", false);
    log.gtid(server, 2);
    log.query("d", "XA COMMIT X'61',X'',1");
    out.push(("XA of MySQL", log));
    for (name, form) in [
        ("MariaDB", Form::V1),
        ("MariaDB compressed", Form::Compressed),
    ] {
        let mut log = Binlog::new("10.11.6-MariaDB", false);
        log.maria_gtid(0, 9, 0, None);
        work(&mut log, form);
        log.query_compressed("d", "COMMIT");
        log.maria_gtid(0, 10, 64, Some(b"a"));
        work(&mut log, form);
        log.xa_prepare(b"a", false);
        log.maria_gtid(0, 11, 129, Some(b"a"));
        log.query("d", "XA COMMIT X'61',X'',1");
        out.push((name, log));
    }
    out
}

/// The recordings but for long ones, which are text files that `LOAD DATA` logged.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let mut all = logs::recorded().unwrap_or_default();
    all.retain(|(_, file)| file.len() < 20_000);
    all
}

#[test]
fn changed_logs_neither_panic_nor_hang_nor_take_memory() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(rand::random);
    let full = std::env::var_os("THALWEG_PROVE").map(|_| 5_000_000);
    let wanted = number("INPUTS").or(full);
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, log) in built() {
        let whole = play(log.bytes(), None, LIMITS);
        assert!(whole.end.is_ok(), "{name}: {:?}", whole.end);
        assert!(!whole.transactions.is_empty(), "{name}");
        seeds.push(Seed::new(name, log.bytes()).unwrap());
    }
    let of_ours = seeds.len();
    seeds.extend(
        recorded()
            .iter()
            .filter_map(|(name, file)| Seed::new(name, file)),
    );
    let mut random = SmallRng::seed_from_u64(seed);
    let (start, mut inputs, mut bytes) = (Instant::now(), 0_u64, 0_usize);
    let mut highest = (0.0_f64, String::new());
    loop {
        let done = match wanted {
            Some(wanted) => inputs >= wanted,
            None => start.elapsed() > Duration::from_secs(3),
        };
        if done {
            break;
        }
        // Half of the inputs are of ours, which have every kind of event.
        let limit = if random.random() {
            of_ours
        } else {
            seeds.len()
        };
        let from = &seeds[random.random_range(0..limit)];
        let file = from.changed(&mut random);
        let begun = Instant::now();
        let took = catch_unwind(AssertUnwindSafe(|| cost(&file, &from.tables)));
        let took = took.unwrap_or_else(|_| panic!("input {inputs} of {}: SEED={seed}", from.name));
        assert!(
            begun.elapsed() < HANG,
            "input {inputs} of {}: SEED={seed}",
            from.name
        );
        let most = from.base + CONSTANT + 8 * file.len();
        assert!(
            took <= most,
            "input {inputs} of {} has {} bytes and took {took}: SEED={seed}",
            from.name,
            file.len()
        );
        let beyond = took.saturating_sub(from.base + CONSTANT);
        let times = beyond as f64 / file.len().max(1) as f64;
        if times > highest.0 {
            highest = (times, from.name.clone());
        }
        inputs += 1;
        bytes += file.len();
    }
    println!(
        "proof: {inputs} changed binlogs ({bytes} bytes of {} logs): no panic, none took more than \
         {} KiB and {:.1} times its size {}; SEED={seed}",
        seeds.len(),
        CONSTANT >> 10,
        highest.0,
        highest.1
    );
}
