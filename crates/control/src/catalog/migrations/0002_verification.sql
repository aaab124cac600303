-- Verifications of tasks. `tables`: what is known of each table, without row values; `differences`: the
-- rows that differ, sealed, since their keys are values of the user.
CREATE TABLE verification (
  id TEXT PRIMARY KEY,
  task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
  asked_by TEXT NOT NULL,
  asked_ms BIGINT NOT NULL,
  ended_ms BIGINT,
  progress TEXT NOT NULL,
  waits TEXT,
  request TEXT NOT NULL,
  tables TEXT NOT NULL,
  differences TEXT
);
CREATE INDEX verification_of_task ON verification (task, asked_ms);
-- What was found last of each target table; it outlives the verification that found it.
CREATE TABLE verified (
  task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
  target_table TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  position TEXT,
  result TEXT NOT NULL,
  PRIMARY KEY (task, target_table)
);
-- When all tables of the task were last found equal, or repaired.
ALTER TABLE task ADD COLUMN verified_ms BIGINT;
