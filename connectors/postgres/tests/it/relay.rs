//! Rows of a load that are handed on as they are, from one PostgreSQL to another.

use std::sync::Arc;

use thalweg_core::mapping::ExistingRows;
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Chunk, ChunkReader, Loader};
use thalweg_core::schema::TableSchema;

use crate::log::{LIMITS, Origin, all};
use crate::world::{World, plan, whole};

/// Values of every type that is handed on.
const TABLE: &str = "
    CREATE TYPE colour AS ENUM ('red', 'deep blue');
    CREATE DOMAIN price AS numeric(10,2);
    CREATE TABLE a (id bigint PRIMARY KEY, b boolean, s smallint, i integer, r real,
      f double precision, n numeric, p numeric(12,3), t text, v varchar(40), j jsonb, y bytea, d date,
      h time, ts timestamp, tz timestamptz, iv interval, u uuid, bt bit(9), bv bit varying,
      c colour, m price);
    INSERT INTO a VALUES
      (1, true, -32768, 2147483647, 1e-45, '-0', 0.000012345, -123456789.125, 'é''\\\t', '',
       '{\"a\": [1]}', '\\x00ff', '0044-03-15 BC', '24:00', '2024-02-29 12:34:56.789012',
       '2024-02-29 12:34:56+02', '1 year -2 mons +3 days 04:05:06.7',
       'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', B'101010101', B'1', 'deep blue', 1.5),
      (-3, false, 0, 0, 'NaN', 'Infinity', 'NaN', 0, repeat('long ', 100000), 'x ', 'null', '',
       'infinity', '00:00', '-infinity', 'infinity', '0', '00000000-0000-0000-0000-000000000000',
       B'000000000', B'', 'red', 0);
    INSERT INTO a (id) VALUES (2);
    INSERT INTO a (id, n, t) SELECT i, (i * 10001)::numeric / 7, 'row ' || i FROM generate_series(4, 3000) i";

async fn reader(origin: &Origin, table: &TableSchema) -> Box<dyn ChunkReader> {
    let from = origin.source.head().await.unwrap();
    let chunk = Chunk {
        table: 0,
        schema: table.clone(),
        range: None,
        empty: false,
    };
    origin.source.read(&chunk, &from, LIMITS).await.unwrap()
}

/// A loader in whose transaction the plan's table is empty.
async fn loader(world: &World, plan: &Arc<Plan>) -> Box<dyn Loader> {
    let owner = world.claim(plan).await;
    let opened = world
        .target
        .open_loader(&world.key, owner.epoch, Arc::clone(plan));
    let mut loader = opened.await.unwrap();
    loader.begin(0, 0).await.unwrap();
    let print = plan.fingerprint(0);
    loader.empty(ExistingRows::Replace, &print).await.unwrap();
    loader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_handed_on_are_the_same_rows() {
    let (origin, world) = (Origin::new(TABLE), World::new());
    let types =
        "CREATE TYPE colour AS ENUM ('red', 'deep blue'); CREATE DOMAIN price AS numeric(10,2)";
    world.server.sql(types).unwrap();
    let tables = origin.tables(&["a"]).await;
    origin.secure(&["a"]).await;
    let plan = plan(&world, tables.clone());
    let cells = &plan.sources[0].routes[0].cells;
    assert!(plan.is_plain(0, 0), "{cells:?}");
    let mut loader = loader(&world, &plan).await;
    let mut reader = reader(&origin, &tables[0]).await;
    assert!(reader.wire().is_some());
    assert_eq!(reader.wire(), loader.wire());
    reader.relay();
    let rows = all(reader.as_mut()).await.unwrap();
    assert_eq!(rows.len(), 3000);
    loader.load_wire(&rows).await.unwrap();
    let chunk = whole(&plan, 0, reader.visibility().as_str(), rows.len());
    loader.commit(Some(&chunk), &[]).await.unwrap();
    let all = "SELECT md5(string_agg(a::text, ' ' ORDER BY id)), count(*) FROM a";
    assert_eq!(world.server.sql(all).unwrap(), origin.sql(all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_on_its_way_is_not_handed_on() {
    let origin = Origin::new(
        "CREATE TABLE padded (id int PRIMARY KEY, c char(4));
         CREATE TABLE json (id int PRIMARY KEY, j json);
         CREATE TABLE other (id int PRIMARY KEY, n inet);
         CREATE TABLE number (id int PRIMARY KEY, o oid);
         CREATE TABLE wider (id int PRIMARY KEY, i smallint)",
    );
    let world = World::new();
    for name in ["padded", "json", "other", "number", "wider"] {
        let tables = origin.tables(&[name]).await;
        origin.secure(&[name]).await;
        let plan = match name {
            "wider" => {
                let mut wider = tables[0].clone();
                wider.columns[1] = wider.columns[0].clone();
                wider.columns[1].name = "i".into();
                plan(&world, vec![wider])
            }
            _ => plan(&world, tables.clone()),
        };
        let (loader, reader) = (
            loader(&world, &plan).await,
            reader(&origin, &tables[0]).await,
        );
        let same = loader
            .wire()
            .is_some_and(|form| reader.wire() == Some(form));
        assert!(!same, "{name}: {:?}", reader.wire());
    }
}
