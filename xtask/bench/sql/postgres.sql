CREATE TABLE marker (id int PRIMARY KEY);
CREATE TABLE beat (id bigint PRIMARY KEY, note varchar(40) NOT NULL);
-- A row of about a hundred bytes in eight columns, as in the figures of other systems.
CREATE TABLE item (id bigint PRIMARY KEY, a int NOT NULL, b numeric(12,2) NOT NULL,
  c varchar(40) NOT NULL, d varchar(60), e timestamp(6) NOT NULL, f float8, g boolean NOT NULL);
CREATE TABLE narrow (id bigint PRIMARY KEY, a int NOT NULL, b int, c varchar(20) NOT NULL,
  d numeric(10,2) NOT NULL, e timestamp(6) NOT NULL);
CREATE TABLE letters (id bigint PRIMARY KEY, changed int NOT NULL, body text NOT NULL);
CREATE TABLE blobs (id bigint PRIMARY KEY, body bytea NOT NULL);

-- Seven updates, two inserts and a delete a transaction. Deletes walk up from the lowest row, inserts
-- from the highest; updates fall between, on rows that stay. With the exponent 1, the inverse of
-- Zipf's distribution is a power of the number of keys.
CREATE PROCEDURE backlog(transactions int, lowest bigint, highest bigint, zipf boolean) LANGUAGE plpgsql AS $$
DECLARE
  kept bigint := lowest + transactions;
  keys_there float8 := highest - (lowest + transactions) + 1;
  chosen bigint;
BEGIN
  FOR t IN 0 .. transactions - 1 LOOP
    FOR n IN 1 .. 7 LOOP
      IF zipf THEN chosen := kept + floor(power(keys_there, random())) - 1;
      ELSE chosen := kept + floor(random() * keys_there);
      END IF;
      UPDATE item SET a = a + 1, b = b + 0.25, e = clock_timestamp() WHERE id = chosen;
    END LOOP;
    INSERT INTO item VALUES
      (highest + 2 * t + 1, t, t / 4, 'inserted ' || t, NULL, clock_timestamp(), t / 7.0, true),
      (highest + 2 * t + 2, t, t / 4, 'inserted ' || t, repeat('x', t % 60), clock_timestamp(), t / 7.0, false);
    DELETE FROM item WHERE id = lowest + t;
    COMMIT;
  END LOOP;
END $$;

CREATE PROCEDURE make_tables(first int, many int, rows_each int) LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN first .. first + many - 1 LOOP
    EXECUTE 'CREATE TABLE t' || n || ' (id bigint PRIMARY KEY, a int NOT NULL, b varchar(40) NOT NULL)';
    EXECUTE 'INSERT INTO t' || n || ' SELECT id, 0, ''row '' || id FROM generate_series(1, ' || rows_each || ') id';
    COMMIT;
  END LOOP;
END $$;

-- Ten updates a transaction, each in the next table.
CREATE PROCEDURE robin(changes int, many int, rows_each int) LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN 0 .. changes - 1 LOOP
    EXECUTE 'UPDATE t' || n % many || ' SET a = a + 1 WHERE id = ' || 1 + floor(random() * rows_each)::int;
    IF n % 10 = 9 THEN COMMIT; END IF;
  END LOOP;
END $$;

-- The same, but each transaction in one table; they take turns from the one numbered `first` on.
CREATE PROCEDURE turns(changes int, first int, many int, rows_each int) LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN 0 .. changes - 1 LOOP
    EXECUTE 'UPDATE t' || first + n / 10 % many || ' SET a = a + 1 WHERE id = ' || 1 + floor(random() * rows_each)::int;
    IF n % 10 = 9 THEN COMMIT; END IF;
  END LOOP;
END $$;

CREATE PROCEDURE rewrite(changes int, rows_there bigint) LANGUAGE plpgsql AS $$
DECLARE chosen bigint;
BEGIN
  FOR n IN 0 .. changes - 1 LOOP
    chosen := 1 + floor(random() * rows_there);
    UPDATE letters SET changed = changed + 1, body = repeat('letter ' || n || ', ', 150) WHERE id = chosen;
    IF n % 10 = 9 THEN COMMIT; END IF;
  END LOOP;
END $$;
