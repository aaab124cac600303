-- Ordinary tasks: one table to one table. `kind`: composite, realtime or timing; `incremental`: a scheduled run goes
-- on from the position instead of copying everything again; `scheduled`: its schedule is on.
ALTER TABLE task ADD COLUMN kind TEXT NOT NULL DEFAULT 'composite';
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
-- The form an ordinary task was made with, as it was given. Apart, since it is long and only shown.
CREATE TABLE task_detail (
  task TEXT PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
  detail TEXT NOT NULL
);
