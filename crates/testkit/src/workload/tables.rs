//! The tables written here, and one transaction of each kind of worker.

use rand::Rng as _;
use rand::rngs::SmallRng;

/// Rows of a table for `rows` in one of sysbench's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) customers: u32,
    pub(super) seats: u32,
    pub(super) accounts: u32,
    pub(super) baskets: u32,
}

impl Sizes {
    pub(super) fn of(rows: u32) -> Self {
        Self {
            customers: (rows / 10).max(20),
            seats: (rows / 100).max(20),
            // Even, so that the interest of neighbours adds up to nothing.
            accounts: (rows / 20).max(10) * 2,
            baskets: (rows / 50).max(20),
        }
    }
}

/// Everything but `every_type` and sysbench's tables.
pub(super) fn create_sql(rows: u32) -> String {
    let Sizes {
        customers,
        seats,
        accounts,
        ..
    } = Sizes::of(rows);
    format!(
        "CREATE TABLE customer (
           id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL,
           mail VARCHAR(80) NULL UNIQUE, since DATETIME(6) NOT NULL, rating DOUBLE);
         CREATE TABLE invoice (
           id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, customer BIGINT UNSIGNED NOT NULL,
           amount DECIMAL(12,2) NOT NULL, paid BOOL NOT NULL DEFAULT FALSE, note TEXT,
           made TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
           CONSTRAINT invoice_customer FOREIGN KEY (customer) REFERENCES customer (id));
         CREATE TABLE seat (
           id INT NOT NULL PRIMARY KEY, place INT NOT NULL UNIQUE, code VARCHAR(20) NULL UNIQUE,
           guest VARCHAR(40));
         CREATE TABLE account (
           id INT UNSIGNED NOT NULL PRIMARY KEY, owner VARCHAR(40) NOT NULL,
           balance DECIMAL(18,2) NOT NULL);
         INSERT INTO customer (name, mail, since, rating) SELECT concat('Žofie 🦊 ', seq),
           concat('c', seq, '@example.org'), '2020-01-01' + INTERVAL seq * 1234567 MICROSECOND,
           seq / 7 FROM seq_1_to_{customers};
         INSERT INTO invoice (customer, amount, note)
           SELECT 1 + seq % {customers}, seq % 100000 / 100, repeat('x', seq % 80)
           FROM seq_1_to_{};
         INSERT INTO seat SELECT seq, seq, concat('code ', seq), 'nobody' FROM seq_1_to_{seats};
         INSERT INTO account SELECT seq, concat('owner ', seq), 1000 FROM seq_1_to_{accounts};",
        customers * 3
    )
}

/// A customer with invoices comes, pays, or goes with all of them.
pub(super) fn shop(random: &mut SmallRng, sizes: Sizes) -> String {
    let customer = random.random_range(1..=sizes.customers);
    let amount = random.random_range(1..1_000_000);
    let words = "ž, ' and \\ and 🦊 ".repeat(random.random_range(0..6));
    let note = words.replace('\\', "\\\\").replace('\'', "''");
    match random.random_range(0..10) {
        0..4 => format!(
            "START TRANSACTION; INSERT INTO customer (name, since, rating) VALUES \
             ('new', NOW(6), RAND()); SET @c = LAST_INSERT_ID(); \
             UPDATE customer SET mail = concat('n', id, '@example.org') WHERE id = @c; \
             INSERT INTO invoice (customer, amount, note) VALUES \
             (@c, {amount} / 100, '{note}'), (@c, {amount} / 1000, NULL); COMMIT;"
        ),
        4..7 => format!(
            "START TRANSACTION; UPDATE invoice SET paid = NOT paid, amount = amount + 1, \
             note = '{note}' WHERE customer = {customer}; \
             UPDATE customer SET rating = -rating WHERE id = {customer}; COMMIT;"
        ),
        7 => format!(
            "UPDATE customer SET mail = IF(mail IS NULL, concat('r', id, '@example.org'), \
             NULL) WHERE id = {customer};"
        ),
        // The newest go, so the customers of the beginning stay for the updates.
        _ => format!(
            "START TRANSACTION; SET @c = (SELECT MAX(id) FROM customer WHERE id > {}); \
             DELETE FROM invoice WHERE customer = @c; DELETE FROM customer WHERE id = @c; COMMIT;",
            sizes.customers
        ),
    }
}

/// Two guests change places, or three move on by one; the unique values only ever clash for a
/// reader that applies the rows one by one and in the wrong order.
pub(super) fn seat(random: &mut SmallRng, sizes: Sizes, number: u64) -> String {
    let first = random.random_range(1..=sizes.seats);
    let one = first;
    let two = first % sizes.seats + 1;
    let three = two % sizes.seats + 1;
    let read = format!(
        "START TRANSACTION; SET @a = (SELECT place FROM seat WHERE id = {one}), \
         @b = (SELECT place FROM seat WHERE id = {two}), \
         @c = (SELECT place FROM seat WHERE id = {three});"
    );
    let put = |id: u32, place: &str| format!(" UPDATE seat SET place = {place} WHERE id = {id};");
    let moves = match random.random_range(0..4) {
        0 => [put(one, "-1"), put(two, "@a"), put(one, "@b")].concat(),
        1 => [
            put(one, "-1"),
            put(three, "@a"),
            put(two, "@c"),
            put(one, "@b"),
        ]
        .concat(),
        2 => format!(
            " UPDATE seat SET guest = 'guest {number}', code = NULL WHERE id = {one}; \
             UPDATE seat SET code = 'code {one}' WHERE id = {one};"
        ),
        // The same row leaves and comes back, with another's place.
        _ => format!(
            " DELETE FROM seat WHERE id = {one};{} \
             INSERT INTO seat VALUES ({one}, @b, 'code {one}', 'again {number}');",
            put(two, "@a")
        ),
    };
    format!("{read}{moves} COMMIT;")
}

/// Baskets with items, which go and move with them, and gifts, which lose their item. Both systems
/// understand it.
pub(super) fn baskets_sql(rows: u32) -> String {
    let Sizes { baskets, .. } = Sizes::of(rows);
    let rows = |row: &dyn Fn(u32) -> String| {
        let rows: Vec<String> = (1..=baskets).map(row).collect();
        rows.join(", ")
    };
    format!(
        "CREATE TABLE basket (id BIGINT PRIMARY KEY, guest VARCHAR(40) NOT NULL);
         CREATE TABLE item (
           basket BIGINT, line INT, amount INT NOT NULL, PRIMARY KEY (basket, line),
           CONSTRAINT item_basket FOREIGN KEY (basket) REFERENCES basket (id)
             ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE gift (
           id BIGINT PRIMARY KEY, basket BIGINT, line INT, note VARCHAR(40) NOT NULL,
           CONSTRAINT gift_item FOREIGN KEY (basket, line) REFERENCES item (basket, line)
             ON DELETE SET NULL ON UPDATE CASCADE);
         INSERT INTO basket VALUES {};
         INSERT INTO item VALUES {};
         INSERT INTO gift VALUES {};",
        rows(&|n| format!("({n}, 'guest {n}')")),
        rows(&|n| format!("({n}, 1, {n}), ({n}, 2, {n})")),
        rows(&|n| format!("({n}, {n}, 1, 'for {n}')")),
    )
}

/// A basket comes, gets another number, is emptied and filled again, or goes: what becomes of its items
/// and their gifts is left to the foreign keys. A number and its negative are one basket's.
pub(super) fn basket(random: &mut SmallRng, sizes: Sizes, number: u64) -> String {
    let baskets = sizes.baskets;
    let one = random.random_range(1..=baskets);
    let (line, amount) = (random.random_range(1..=2), random.random_range(1..1000));
    let changes = match random.random_range(0..10) {
        0..3 => format!(
            "INSERT INTO basket SELECT greatest(max(id), {baskets}) + 1, 'new {number}' FROM basket; \
             INSERT INTO item SELECT max(id), 1, {amount} FROM basket; \
             INSERT INTO item SELECT max(id), 2, {amount} FROM basket; \
             INSERT INTO gift SELECT max(g.id) + 1, (SELECT max(id) FROM basket), {line}, 'new' \
             FROM gift g;"
        ),
        3..5 => format!(
            "UPDATE basket SET id = -id WHERE id IN ({one}, -{one}); \
             UPDATE item SET amount = {amount} WHERE basket IN ({one}, -{one});"
        ),
        5..7 => format!(
            "DELETE FROM item WHERE basket IN ({one}, -{one}) AND line = {line}; \
             INSERT INTO item SELECT id, {line}, {amount} FROM basket WHERE id IN ({one}, -{one}); \
             INSERT INTO gift SELECT (SELECT max(id) + 1 FROM gift), basket, line, 'more' FROM item \
             WHERE basket IN ({one}, -{one}) AND line = {line};"
        ),
        7 => format!(
            "DELETE FROM basket WHERE id IN ({one}, -{one}); \
             INSERT INTO basket VALUES ({one}, 'again {number}'); \
             INSERT INTO item VALUES ({one}, 1, {amount}), ({one}, 2, {amount});"
        ),
        // The newest go, and with them gifts that have lost their item.
        _ => format!(
            "DELETE FROM basket WHERE id = (SELECT * FROM (SELECT max(id) FROM basket) q) \
             AND id > {baskets}; DELETE FROM gift WHERE basket IS NULL AND id > {baskets};"
        ),
    };
    format!("START TRANSACTION; {changes} COMMIT;")
}

/// Money moves from one account to another, or between many neighbours at once.
pub(super) fn bank(random: &mut SmallRng, sizes: Sizes) -> String {
    let cents = random.random_range(1..100_000);
    if random.random_range(0..50) == 0 {
        let from = random.random_range(0..sizes.accounts / 2) * 2;
        let to = from + 100;
        // Whole pairs only: an odd account gives what the even one after it gets.
        return format!(
            "UPDATE account SET balance = balance + IF(id % 2 = 0, {cents}, -{cents}) / 100 \
             WHERE id > {from} AND id <= {to} ORDER BY id;"
        );
    }
    let one = random.random_range(1..sizes.accounts);
    let two = random.random_range(one + 1..=sizes.accounts);
    let sign = if random.random() { "+" } else { "-" };
    let back = if sign == "+" { "-" } else { "+" };
    format!(
        "START TRANSACTION; UPDATE account SET balance = balance {sign} {cents} / 100 WHERE id = {one}; \
         UPDATE account SET balance = balance {back} {cents} / 100 WHERE id = {two}; COMMIT;"
    )
}
