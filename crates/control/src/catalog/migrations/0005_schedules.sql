-- Ordinary tasks: one table to one table. `kind`: composite, realtime or timing; `detail`: as it was given;
-- `incremental`: a scheduled run goes on from the position instead of copying everything again; `scheduled`: its
-- schedule is on.
ALTER TABLE task ADD COLUMN kind TEXT NOT NULL DEFAULT 'composite';
ALTER TABLE task ADD COLUMN detail TEXT;
ALTER TABLE task ADD COLUMN incremental BIGINT NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN scheduled BIGINT NOT NULL DEFAULT 0;
-- When a scheduled task is run. `due_ms`: the next time, while the schedule is on.
CREATE TABLE dispatch (
  id TEXT PRIMARY KEY,
  task TEXT NOT NULL UNIQUE REFERENCES task (id) ON DELETE CASCADE,
  start_ms BIGINT,
  unit TEXT,
  every BIGINT,
  cron TEXT,
  remark TEXT,
  due_ms BIGINT,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL
);
CREATE INDEX dispatch_due ON dispatch (due_ms);
