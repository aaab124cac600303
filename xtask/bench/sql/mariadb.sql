CREATE TABLE marker (id INT PRIMARY KEY);
CREATE TABLE beat (id BIGINT PRIMARY KEY, note VARCHAR(40) NOT NULL);
-- A row of about a hundred bytes in eight columns, as in the figures of other systems.
CREATE TABLE item (id BIGINT PRIMARY KEY, a INT NOT NULL, b DECIMAL(12,2) NOT NULL,
  c VARCHAR(40) NOT NULL, d VARCHAR(60), e DATETIME(6) NOT NULL, f DOUBLE, g TINYINT(1) NOT NULL);
CREATE TABLE narrow (id BIGINT PRIMARY KEY, a INT NOT NULL, b INT, c VARCHAR(20) NOT NULL,
  d DECIMAL(10,2) NOT NULL, e DATETIME(6) NOT NULL);
CREATE TABLE letters (id BIGINT PRIMARY KEY, changed INT NOT NULL, body TEXT NOT NULL);
CREATE TABLE blobs (id BIGINT PRIMARY KEY, body LONGBLOB NOT NULL);

DELIMITER //
CREATE FUNCTION next_key(zipf BOOL, lowest BIGINT, keys_there BIGINT) RETURNS BIGINT NOT DETERMINISTIC
  -- With the exponent 1, the inverse of Zipf's distribution is a power of the number of keys.
  RETURN lowest + IF(zipf, FLOOR(POW(keys_there, RAND())) - 1, FLOOR(RAND() * keys_there)) //

-- Seven updates, two inserts and a delete a transaction. Deletes walk up from the lowest row, inserts
-- from the highest; updates fall between, on rows that stay.
CREATE PROCEDURE backlog(transactions INT, lowest BIGINT, highest BIGINT, zipf BOOL)
BEGIN
  DECLARE t INT DEFAULT 0;
  DECLARE n INT;
  DECLARE kept BIGINT DEFAULT lowest + transactions;
  DECLARE chosen BIGINT;
  WHILE t < transactions DO
    START TRANSACTION;
    SET n = 0;
    WHILE n < 7 DO
      SET chosen = next_key(zipf, kept, highest - kept + 1);
      UPDATE item SET a = a + 1, b = b + 0.25, e = NOW(6) WHERE id = chosen;
      SET n = n + 1;
    END WHILE;
    INSERT INTO item VALUES (highest + 2 * t + 1, t, t / 4, CONCAT('inserted ', t), NULL, NOW(6), t / 7, 1),
      (highest + 2 * t + 2, t, t / 4, CONCAT('inserted ', t), REPEAT('x', t % 60), NOW(6), t / 7, 0);
    DELETE FROM item WHERE id = lowest + t;
    COMMIT;
    SET t = t + 1;
  END WHILE;
END //

CREATE PROCEDURE make_tables(first INT, many INT, rows_each INT)
BEGIN
  DECLARE n INT DEFAULT first;
  WHILE n < first + many DO
    EXECUTE IMMEDIATE CONCAT('CREATE TABLE t', n,
      ' (id BIGINT PRIMARY KEY, a INT NOT NULL, b VARCHAR(40) NOT NULL)');
    EXECUTE IMMEDIATE CONCAT('INSERT INTO t', n, ' SELECT seq, 0, CONCAT(''row '', seq) FROM seq_1_to_', rows_each);
    SET n = n + 1;
  END WHILE;
END //

-- Ten updates a transaction, each in the next table.
CREATE PROCEDURE robin(changes INT, many INT, rows_each INT)
BEGIN
  DECLARE n INT DEFAULT 0;
  WHILE n < changes DO
    IF n % 10 = 0 THEN START TRANSACTION; END IF;
    EXECUTE IMMEDIATE CONCAT('UPDATE t', n % many, ' SET a = a + 1 WHERE id = ', 1 + FLOOR(RAND() * rows_each));
    SET n = n + 1;
    IF n % 10 = 0 THEN COMMIT; END IF;
  END WHILE;
  COMMIT;
END //

CREATE PROCEDURE turns(changes INT, first INT, many INT, rows_each INT)
BEGIN
  DECLARE n INT DEFAULT 0;
  WHILE n < changes DO
    IF n % 10 = 0 THEN START TRANSACTION; END IF;
    EXECUTE IMMEDIATE CONCAT('UPDATE t', first + n DIV 10 % many, ' SET a = a + 1 WHERE id = ', 1 + FLOOR(RAND() * rows_each));
    SET n = n + 1;
    IF n % 10 = 0 THEN COMMIT; END IF;
  END WHILE;
  COMMIT;
END //

CREATE PROCEDURE rewrite(changes INT, rows_there BIGINT)
BEGIN
  DECLARE n INT DEFAULT 0;
  DECLARE chosen BIGINT;
  WHILE n < changes DO
    IF n % 10 = 0 THEN START TRANSACTION; END IF;
    SET chosen = 1 + FLOOR(RAND() * rows_there);
    UPDATE letters SET changed = changed + 1, body = REPEAT(CONCAT('letter ', n, ', '), 150) WHERE id = chosen;
    SET n = n + 1;
    IF n % 10 = 0 THEN COMMIT; END IF;
  END WHILE;
  COMMIT;
END //
DELIMITER ;
