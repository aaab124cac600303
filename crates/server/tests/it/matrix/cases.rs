//! The cases but for the types. SQL that both systems take alike stands once.

use thalweg_testkit::servers::System;

/// Tables, and what happens to them.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Parents before children.
    pub(super) tables: Vec<String>,
    /// Makes and fills the tables, before there is a task.
    pub(super) before: String,
    /// While all tables are Live, or what is open keeps them from it.
    pub(super) changes: String,
    /// While the server is down.
    pub(super) while_down: String,
    /// When it is back.
    pub(super) after: String,
    /// Left open when the task starts, so that its load may end only when it is decided.
    pub(super) opening: String,
}

impl Case {
    pub(super) fn new(name: &'static str, tables: &[&str], before: &str, changes: &str) -> Self {
        Self {
            name,
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            before: before.to_owned(),
            changes: changes.to_owned(),
            while_down: String::new(),
            after: String::new(),
            opening: String::new(),
        }
    }

    /// With changes while the server is down, and more when it is back.
    pub(super) fn then(mut self, while_down: &str, after: &str) -> Self {
        self.while_down = while_down.to_owned();
        self.after = after.to_owned();
        self
    }
}

/// All cases of a pair.
pub(super) fn all(from: System, to: System) -> Vec<Case> {
    let mut cases = vec![
        changes(),
        keys(),
        cascades(),
        swaps(),
        keyless(from),
        truncated(),
        partitions(from),
        names(from, to),
        prepared(from),
        overtaken(from),
    ];
    // Another system than PostgreSQL has no number that keeps its zeros.
    if from == System::MariaDb || to == System::Postgres {
        cases.push(equal_keys(from));
    }
    if (from, to) == (System::MariaDb, System::MariaDb) {
        cases.push(no_label());
    }
    if from == System::Postgres {
        cases.push(toast());
        cases.push(identities());
    }
    cases
}

/// Insert, update of each column alone, delete, and all of them in one transaction.
fn changes() -> Case {
    Case::new(
        "changes",
        &["plain"],
        "CREATE TABLE plain (id INT PRIMARY KEY, a INT, b VARCHAR(40), c DECIMAL(10,2), d DATE);
         INSERT INTO plain VALUES (1, 1, 'one', 1.25, '2024-01-01'), (2, NULL, NULL, NULL, NULL),
           (3, 3, '', 0, '2024-02-29'), (4, 4, 'four', -4, NULL);",
        "INSERT INTO plain VALUES (5, 5, 'five', 5.5, '2025-05-05');
         UPDATE plain SET a = 10 WHERE id = 1; UPDATE plain SET b = 'ten ž 🦊' WHERE id = 1;
         UPDATE plain SET c = -0.01 WHERE id = 1; UPDATE plain SET d = '1999-12-31' WHERE id = 1;
         UPDATE plain SET a = NULL WHERE id = 3; UPDATE plain SET b = NULL WHERE id = 3;
         DELETE FROM plain WHERE id = 2;
         START TRANSACTION; INSERT INTO plain VALUES (6, 6, 'x', 6, NULL); UPDATE plain SET a = 60 WHERE id = 6;
         DELETE FROM plain WHERE id = 6; INSERT INTO plain (id) VALUES (6); COMMIT;
         START TRANSACTION; DELETE FROM plain; INSERT INTO plain (id) VALUES (77); ROLLBACK;
         START TRANSACTION; INSERT INTO plain (id) VALUES (7); SAVEPOINT s; INSERT INTO plain (id) VALUES (8);
         UPDATE plain SET a = 1 WHERE id = 1; ROLLBACK TO SAVEPOINT s; INSERT INTO plain (id) VALUES (9); COMMIT;",
    )
    .then(
        "UPDATE plain SET a = coalesce(a, 0) + 1; DELETE FROM plain WHERE id = 4;",
        "INSERT INTO plain (id, b) VALUES (4, 'again'); UPDATE plain SET c = 1 WHERE id IN (4, 5);",
    )
}

/// Rows whose keys change: alone, with other columns, to one just freed, and of several columns.
fn keys() -> Case {
    Case::new(
        "keys",
        &["moved", "pair_key"],
        "CREATE TABLE moved (id INT PRIMARY KEY, v VARCHAR(20));
         INSERT INTO moved VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
         CREATE TABLE pair_key (a INT, b VARCHAR(20), v INT, PRIMARY KEY (b, a));
         INSERT INTO pair_key VALUES (1, 'x', 1), (1, 'y', 2), (2, 'x', 3);",
        "UPDATE moved SET id = 10 WHERE id = 1; UPDATE moved SET id = 20, v = 'bb' WHERE id = 2;
         UPDATE moved SET id = 1 WHERE id = 3;
         START TRANSACTION; DELETE FROM moved WHERE id = 4; UPDATE moved SET id = 4 WHERE id = 10; COMMIT;
         UPDATE pair_key SET a = 3 WHERE a = 1 AND b = 'x'; UPDATE pair_key SET b = 'z', v = 5 WHERE b = 'y';
         INSERT INTO pair_key VALUES (1, 'x', 9);",
    )
    .then(
        "UPDATE moved SET id = id + 100; UPDATE pair_key SET a = a + 10, b = concat(b, b);",
        "UPDATE moved SET id = id - 100 WHERE v = 'bb'; DELETE FROM pair_key WHERE v = 9;",
    )
}

/// What an `ENUM` has in place of a value that it refused: an empty text that is none of its labels.
fn no_label() -> Case {
    Case::new(
        "no_label",
        &["labelled"],
        "CREATE TABLE labelled (id INT PRIMARY KEY, e ENUM('a', 'b'), n INT); SET sql_mode = '';
         INSERT INTO labelled VALUES (1, 'x', 0), (2, 'a', 0), (3, 'x', 0), (4, 'b', 0);",
        "SET sql_mode = ''; INSERT INTO labelled VALUES (5, 'x', 0); UPDATE labelled SET e = 'x' WHERE id = 2;
         UPDATE labelled SET e = 'b' WHERE id = 1; UPDATE labelled SET n = n + 1; DELETE FROM labelled WHERE id = 3;",
    )
}

/// Keys that are different values and that the database holds for equal: a row goes and another
/// comes in its place under a key that looks like another one, within a transaction and by an update.
fn equal_keys(from: System) -> Case {
    let (ty, a, a2, a3) = match from {
        System::MariaDb => (
            "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "'a'",
            "'A'",
            "'a '",
        ),
        System::Postgres => ("numeric", "1.0", "1.00", "1"),
    };
    let (b, b2) = match from {
        System::MariaDb => ("'b'", "'B '"),
        System::Postgres => ("2", "2.000"),
    };
    Case::new(
        "equal_keys",
        &["equal"],
        &format!(
            "CREATE TABLE equal (k {ty} NOT NULL PRIMARY KEY, v INT);
             INSERT INTO equal VALUES ({a}, 1), ({b}, 2);"
        ),
        &format!(
            "START TRANSACTION; DELETE FROM equal WHERE k = {a}; INSERT INTO equal VALUES ({a2}, 3); COMMIT;
             START TRANSACTION; DELETE FROM equal WHERE k = {a}; INSERT INTO equal VALUES ({a3}, 4);
             UPDATE equal SET v = 5 WHERE k = {a2}; DELETE FROM equal WHERE k = {a};
             INSERT INTO equal VALUES ({a2}, 6); COMMIT;
             UPDATE equal SET k = {a3} WHERE k = {a2};
             START TRANSACTION; UPDATE equal SET k = {a} WHERE k = {a}; UPDATE equal SET k = {b2} WHERE k = {b};
             UPDATE equal SET v = v + 1; DELETE FROM equal WHERE k = {b}; INSERT INTO equal VALUES ({b}, 8);
             COMMIT;"
        ),
    )
    .then(
        &format!(
            "START TRANSACTION; DELETE FROM equal; INSERT INTO equal VALUES ({a2}, 1), ({b2}, 2); COMMIT;"
        ),
        &format!(
            "UPDATE equal SET v = v + 1, k = {a3} WHERE k = {a}; UPDATE equal SET k = {b} WHERE k = {b2};"
        ),
    )
}

/// Values of a primary and of a unique key change places.
fn swaps() -> Case {
    let swap = |table: &str, key: &str, one: i32, two: i32| {
        format!(
            "START TRANSACTION; UPDATE {table} SET {key} = -1 WHERE {key} = {one};
             UPDATE {table} SET {key} = {one} WHERE {key} = {two};
             UPDATE {table} SET {key} = {two} WHERE {key} = -1; COMMIT;\n"
        )
    };
    let changes = [
        swap("place", "id", 1, 2),
        swap("place", "seat", 1, 3),
        swap("place", "seat", 4, 5),
        swap("place", "id", 2, 5),
    ]
    .concat();
    Case::new(
        "swaps",
        &["place"],
        "CREATE TABLE place (id INT PRIMARY KEY, seat INT NOT NULL UNIQUE, code VARCHAR(9) UNIQUE);
         INSERT INTO place VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, NULL), (4, 4, NULL), (5, 5, 'e');",
        &changes,
    )
    .then(
        &[swap("place", "id", 3, 4), swap("place", "seat", 1, 2)].concat(),
        &swap("place", "seat", 2, 5),
    )
}

/// Deletes, key updates and NULLs that foreign keys carry over two levels; a table that references itself;
/// a child that moves before its parent goes.
fn cascades() -> Case {
    Case::new(
        "cascades",
        &["grand", "child", "leaf", "loose", "loose_leaf", "tree"],
        "CREATE TABLE grand (id INT PRIMARY KEY, v INT);
         CREATE TABLE child (id INT PRIMARY KEY, grand_id INT NOT NULL, v INT, UNIQUE (grand_id, id),
           FOREIGN KEY (grand_id) REFERENCES grand (id) ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE leaf (id INT PRIMARY KEY, grand_id INT NOT NULL, child_id INT NOT NULL,
           FOREIGN KEY (grand_id, child_id) REFERENCES child (grand_id, id) ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE loose (id INT PRIMARY KEY, grand_id INT UNIQUE,
           FOREIGN KEY (grand_id) REFERENCES grand (id) ON DELETE SET NULL ON UPDATE CASCADE);
         CREATE TABLE loose_leaf (id INT PRIMARY KEY, grand_id INT,
           FOREIGN KEY (grand_id) REFERENCES loose (grand_id) ON DELETE SET NULL ON UPDATE SET NULL);
         CREATE TABLE tree (id INT PRIMARY KEY, parent INT,
           FOREIGN KEY (parent) REFERENCES tree (id) ON DELETE CASCADE);
         INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 4), (5, NULL), (6, 5), (7, 6);
         INSERT INTO grand VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5);
         INSERT INTO child VALUES (10, 1, 1), (11, 1, 1), (20, 2, 2), (30, 3, 3), (40, 4, 4), (50, 5, 5);
         INSERT INTO leaf VALUES (100, 1, 10), (101, 1, 10), (110, 1, 11), (200, 2, 20), (300, 3, 30),
           (400, 4, 40), (500, 5, 50);
         INSERT INTO loose VALUES (1, 1), (2, 2), (3, 3), (4, NULL), (5, 5);
         INSERT INTO loose_leaf VALUES (1, 1), (2, 2), (3, 3), (4, NULL), (5, 5);",
        "DELETE FROM grand WHERE id = 1;
         UPDATE grand SET id = 22 WHERE id = 2;
         START TRANSACTION; UPDATE grand SET id = 33 WHERE id = 3; UPDATE child SET v = 99 WHERE grand_id = 33;
         DELETE FROM leaf WHERE id = 300; INSERT INTO leaf VALUES (301, 33, 30); COMMIT;
         START TRANSACTION; DELETE FROM grand WHERE id = 4; INSERT INTO grand VALUES (4, 44);
         INSERT INTO child VALUES (40, 4, 44); INSERT INTO leaf VALUES (400, 4, 40); COMMIT;
         START TRANSACTION; DELETE FROM grand WHERE id = 33; ROLLBACK;
         DELETE FROM tree WHERE id = 2; DELETE FROM tree WHERE id = 4;
         START TRANSACTION; UPDATE tree SET parent = 1 WHERE id = 6; DELETE FROM tree WHERE id = 5; COMMIT;",
    )
    .then(
        "DELETE FROM grand WHERE id = 22; UPDATE grand SET id = 55 WHERE id = 5;",
        "INSERT INTO grand VALUES (6, 6); INSERT INTO child VALUES (60, 6, 6); INSERT INTO leaf VALUES (600, 6, 60);
         UPDATE grand SET id = 66 WHERE id = 6; DELETE FROM grand WHERE id = 55;
         INSERT INTO grand VALUES (7, 7), (8, 8); INSERT INTO child VALUES (70, 7, 7); INSERT INTO leaf VALUES (700, 7, 70);
         START TRANSACTION; UPDATE child SET grand_id = 8 WHERE id = 70; DELETE FROM grand WHERE id = 7; COMMIT;
         DELETE FROM tree WHERE id = 1;",
    )
}

/// Rows that nothing tells apart.
fn keyless(from: System) -> Case {
    let identity = match from {
        System::MariaDb => "",
        System::Postgres => "ALTER TABLE keyless REPLICA IDENTITY FULL;",
    };
    // One of two equal rows, as each system can say it.
    let one = match from {
        System::MariaDb => "DELETE FROM keyless WHERE a = 1 AND b = 'x' LIMIT 1;",
        System::Postgres => {
            "DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless WHERE a = 1 AND b = 'x');"
        }
    };
    Case::new(
        "keyless",
        &["keyless"],
        &format!(
            "CREATE TABLE keyless (a INT, b VARCHAR(20), c DECIMAL(10,2)); {identity}
             INSERT INTO keyless VALUES (1, 'x', 1), (1, 'x', 1), (1, 'x', 1), (NULL, NULL, NULL),
               (NULL, NULL, NULL), (2, 'y', 2.5);"
        ),
        &format!(
            "{one} INSERT INTO keyless VALUES (2, 'y', 2.5), (NULL, 'n', NULL);
             UPDATE keyless SET c = 3 WHERE a = 2; DELETE FROM keyless WHERE a IS NULL AND b = 'n';"
        ),
    )
    .then(
        "UPDATE keyless SET b = 'null' WHERE b IS NULL; INSERT INTO keyless VALUES (7, 'seven', 7);",
        "DELETE FROM keyless WHERE a = 2; INSERT INTO keyless VALUES (2, 'y', 2.5);",
    )
}

/// Tables that are emptied whole.
fn truncated() -> Case {
    Case::new(
        "truncated",
        &["cleared"],
        "CREATE TABLE cleared (id INT PRIMARY KEY, v INT); INSERT INTO cleared VALUES (1, 1), (2, 2), (3, 3);",
        "UPDATE cleared SET v = 10 WHERE id = 1; TRUNCATE TABLE cleared; INSERT INTO cleared VALUES (2, 20);",
    )
    .then(
        "INSERT INTO cleared VALUES (3, 30); TRUNCATE TABLE cleared; INSERT INTO cleared VALUES (4, 40);",
        "UPDATE cleared SET v = 44 WHERE id = 4; INSERT INTO cleared VALUES (1, 1);",
    )
}

/// Rows that lie in partitions, and move between them.
fn partitions(from: System) -> Case {
    let create = match from {
        System::MariaDb => {
            "CREATE TABLE parted (id INT, v VARCHAR(20), PRIMARY KEY (id)) PARTITION BY RANGE (id)
               (PARTITION low VALUES LESS THAN (100), PARTITION high VALUES LESS THAN MAXVALUE);"
        }
        System::Postgres => {
            "CREATE TABLE parted (id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY RANGE (id);
             CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (100);
             CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (MAXVALUE);"
        }
    };
    Case::new(
        "partitions",
        &["parted"],
        &format!("{create} INSERT INTO parted VALUES (1, 'a'), (2, 'b'), (101, 'c'), (102, 'd');"),
        "INSERT INTO parted VALUES (3, 'e'), (103, 'f'); UPDATE parted SET id = 201 WHERE id = 1;
         UPDATE parted SET v = 'cc' WHERE id = 101; DELETE FROM parted WHERE id = 102;",
    )
    .then(
        "UPDATE parted SET id = 4 WHERE id = 103;",
        "UPDATE parted SET id = id + 1000; INSERT INTO parted VALUES (1, 'again');",
    )
}

/// Names that have to be quoted, everywhere and always.
fn names(from: System, to: System) -> Case {
    // MariaDB takes no character beyond the first 65,536 in a name.
    let name = match (from, to) {
        (System::Postgres, System::Postgres) => "We\"ird näme 🙂 sel`ect.-#$",
        _ => "We\"ird näme ♞ sel`ect-#$",
    };
    let columns = [
        "order",
        "a b",
        "ž\"",
        "it's",
        "CamelCase",
        "a-b#c",
        "back\\slash",
    ];
    let table = from.quote(name);
    let [key, one, two, three, four, five, six] = columns.map(|name| from.quote(name));
    let mut case = Case::new(
        "names",
        &[],
        &format!(
            "CREATE TABLE {table} ({key} INT PRIMARY KEY, {one} INT, {two} VARCHAR(9), {three} INT, {four} INT,
               {five} INT, {six} INT);
             INSERT INTO {table} VALUES (1, 1, 'x', 1, 1, 1, 1), (2, 2, 'y', 2, 2, 2, 2);"
        ),
        &format!(
            "INSERT INTO {table} VALUES (3, 3, 'z', 3, 3, 3, 3); UPDATE {table} SET {one} = 10 WHERE {key} = 1;
             UPDATE {table} SET {key} = 20, {two} = NULL WHERE {key} = 2; DELETE FROM {table} WHERE {three} = 3;"
        ),
    )
    .then(
        &format!("UPDATE {table} SET {four} = 7, {five} = 8, {six} = 9;"),
        &format!("INSERT INTO {table} ({key}) VALUES (5);"),
    );
    case.tables.push(name.to_owned());
    case
}

/// How a system prepares a transaction of this name and goes on without it, and decides it.
struct Decided {
    from: System,
}

impl Decided {
    fn prepare(&self, id: &str, sql: &str) -> String {
        match self.from {
            // The session belongs to the transaction until it ends: the client takes another.
            System::MariaDb => {
                format!("XA START '{id}'; {sql} XA END '{id}'; XA PREPARE '{id}';\nconnect;\n")
            }
            System::Postgres => format!("BEGIN; {sql} PREPARE TRANSACTION '{id}';\n"),
        }
    }

    fn commit(&self, id: &str) -> String {
        match self.from {
            System::MariaDb => format!("XA COMMIT '{id}';\n"),
            System::Postgres => format!("COMMIT PREPARED '{id}';\n"),
        }
    }

    fn rollback(&self, id: &str) -> String {
        match self.from {
            System::MariaDb => format!("XA ROLLBACK '{id}';\n"),
            System::Postgres => format!("ROLLBACK PREPARED '{id}';\n"),
        }
    }
}

/// Transactions that are prepared, overtaken by others, and decided after a crash of the server.
fn prepared(from: System) -> Case {
    let how = Decided { from };
    Case::new(
        "prepared",
        &["money"],
        "CREATE TABLE money (id INT PRIMARY KEY, v INT);
         INSERT INTO money VALUES (1, 1), (2, 2), (3, 3), (4, 4);",
        &[
            "UPDATE money SET v = 20 WHERE id = 2;\n",
            &how.prepare(
                "soon",
                "UPDATE money SET v = 100 WHERE id = 1; INSERT INTO money VALUES (11, 11);",
            ),
            &how.prepare(
                "late",
                "UPDATE money SET v = 300 WHERE id = 3; INSERT INTO money VALUES (13, 13);",
            ),
            &how.prepare("never", "DELETE FROM money WHERE id = 4;"),
            "INSERT INTO money VALUES (5, 5); UPDATE money SET v = 21 WHERE id = 2;",
        ]
        .concat(),
    )
    .then(
        &[
            &how.commit("soon"),
            "UPDATE money SET v = v + 1 WHERE id IN (1, 2);",
        ]
        .concat(),
        &[
            &how.commit("late"),
            &how.rollback("never"),
            "UPDATE money SET v = v + 1 WHERE id IN (3, 4);",
        ]
        .concat(),
    )
}

/// A transaction that is prepared before the load begins, and decided while the server is down.
fn overtaken(from: System) -> Case {
    let how = Decided { from };
    let mut case = Case::new(
        "overtaken",
        &["debt"],
        "CREATE TABLE debt (id INT PRIMARY KEY, v INT); INSERT INTO debt VALUES (1, 1), (2, 2), (3, 3);",
        "UPDATE debt SET v = 20 WHERE id = 2; INSERT INTO debt VALUES (4, 4);",
    )
    .then(
        &[&how.commit("early"), "UPDATE debt SET v = v + 1 WHERE id IN (1, 2);"].concat(),
        &[&how.rollback("gone"), "UPDATE debt SET v = v + 1; DELETE FROM debt WHERE id = 4;"].concat(),
    );
    case.opening = [
        how.prepare(
            "early",
            "UPDATE debt SET v = 100 WHERE id = 1; INSERT INTO debt VALUES (11, 11);",
        ),
        how.prepare(
            "gone",
            "INSERT INTO debt VALUES (99, 99); DELETE FROM debt WHERE id = 3;",
        ),
    ]
    .concat();
    case
}

/// Values PostgreSQL does not send again when they have not changed.
fn toast() -> Case {
    Case::new(
        "toast",
        &["toasted"],
        "CREATE TABLE toasted (id INT PRIMARY KEY, v INT, long text, raw bytea);
         ALTER TABLE toasted ALTER long SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL;
         INSERT INTO toasted SELECT n, n, repeat('long ' || n, 20000), decode(repeat('5c00', 30000), 'hex')
           FROM generate_series(1, 6) n;",
        "UPDATE toasted SET v = -v; UPDATE toasted SET raw = '' WHERE id = 1; UPDATE toasted SET id = 10 WHERE id = 2;
         BEGIN; UPDATE toasted SET long = 'short' WHERE id = 3; UPDATE toasted SET v = 33 WHERE id = 3; COMMIT;
         BEGIN; UPDATE toasted SET v = 40 WHERE id = 4; UPDATE toasted SET id = 44 WHERE id = 4;
         UPDATE toasted SET raw = NULL WHERE id = 44; COMMIT;",
    )
    .then(
        "UPDATE toasted SET v = v + 1; DELETE FROM toasted WHERE id = 5;",
        "UPDATE toasted SET id = id + 100; UPDATE toasted SET long = repeat(long, 2) WHERE id = 106;",
    )
}

/// Every replica identity that allows updates.
fn identities() -> Case {
    let tables = ["id_default", "id_index", "id_full"];
    let each = |sql: &str| tables.map(|table| sql.replace("{t}", table)).concat();
    let create = each(
        "CREATE TABLE {t} (id INT NOT NULL, other INT NOT NULL, long text, PRIMARY KEY (id));
         CREATE UNIQUE INDEX {t}_other ON {t} (other); ALTER TABLE {t} ALTER long SET STORAGE EXTERNAL;
         INSERT INTO {t} SELECT n, n + 100, repeat('x', 10000) FROM generate_series(1, 5) n;\n",
    );
    Case::new(
        "identities",
        &tables,
        &format!(
            "{create} ALTER TABLE id_index DROP CONSTRAINT id_index_pkey;
             ALTER TABLE id_index REPLICA IDENTITY USING INDEX id_index_other;
             ALTER TABLE id_full REPLICA IDENTITY FULL;"
        ),
        &each(
            "UPDATE {t} SET other = 201 WHERE id = 1; UPDATE {t} SET id = 20 WHERE id = 2;
             UPDATE {t} SET long = 'y' WHERE id = 3; DELETE FROM {t} WHERE id = 4;\n",
        ),
    )
    .then(
        &each("UPDATE {t} SET id = id + 1000, other = other + 1000;\n"),
        &each("DELETE FROM {t} WHERE other = 1201; INSERT INTO {t} VALUES (1, 1, NULL);\n"),
    )
}
