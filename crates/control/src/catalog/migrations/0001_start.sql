-- Milliseconds since the Unix epoch throughout; booleans are 0 and 1; lists and options are JSON;
-- secrets are sealed with the key file ("v1:" and hexadecimal digits).
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE TABLE project (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE instance (
  id TEXT PRIMARY KEY,
  project TEXT NOT NULL REFERENCES project (id)
);
CREATE TABLE account (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  password TEXT NOT NULL,
  ak TEXT NOT NULL UNIQUE,
  sk TEXT NOT NULL
);
CREATE TABLE token (
  hash TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (id),
  expires_ms BIGINT NOT NULL
);
CREATE TABLE application (
  id TEXT PRIMARY KEY,
  instance TEXT NOT NULL REFERENCES instance (id),
  name TEXT NOT NULL,
  remark TEXT,
  app_key TEXT NOT NULL,
  secret TEXT NOT NULL,
  favorite BIGINT NOT NULL,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  created_by TEXT NOT NULL REFERENCES account (id),
  updated_by TEXT NOT NULL REFERENCES account (id),
  UNIQUE (instance, name),
  UNIQUE (instance, app_key)
);
CREATE TABLE datasource (
  id TEXT PRIMARY KEY,
  instance TEXT NOT NULL REFERENCES instance (id),
  application TEXT NOT NULL REFERENCES application (id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  content TEXT NOT NULL,
  password TEXT NOT NULL,
  options TEXT NOT NULL,
  description TEXT,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  UNIQUE (instance, name)
);
-- A draft (made by init, not created yet) has no name. `forget`: the next run first forgets the
-- position at the target. `begun`: the target has a checkpoint, so that its absence is a loss.
-- `deleted`: gone for callers; traces at both ends are being removed.
CREATE TABLE task (
  id TEXT PRIMARY KEY,
  instance TEXT NOT NULL REFERENCES instance (id),
  name TEXT,
  description TEXT,
  tag TEXT,
  insert_rows BIGINT NOT NULL,
  update_rows BIGINT NOT NULL,
  delete_rows BIGINT NOT NULL,
  source TEXT REFERENCES datasource (id),
  target TEXT REFERENCES datasource (id),
  source_app TEXT,
  target_app TEXT,
  server_id BIGINT,
  options TEXT NOT NULL,
  desired BIGINT NOT NULL,
  begun BIGINT NOT NULL,
  forget BIGINT NOT NULL,
  deleted BIGINT NOT NULL,
  release_error TEXT,
  release_ms BIGINT,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  UNIQUE (instance, name)
);
CREATE TABLE mapping (
  id TEXT PRIMARY KEY,
  task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
  source_table TEXT NOT NULL,
  target_table TEXT NOT NULL,
  source_columns TEXT NOT NULL,
  target_columns TEXT NOT NULL,
  links TEXT NOT NULL,
  status TEXT NOT NULL,
  percent BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  UNIQUE (task, source_table, target_table)
);
CREATE TABLE execution (
  id TEXT PRIMARY KEY,
  task TEXT NOT NULL REFERENCES task (id) ON DELETE CASCADE,
  dispatched_ms BIGINT NOT NULL,
  started_ms BIGINT NOT NULL,
  ended_ms BIGINT,
  status TEXT NOT NULL,
  node TEXT NOT NULL,
  node_status TEXT NOT NULL,
  code BIGINT NOT NULL,
  remarks TEXT NOT NULL,
  row_count BIGINT NOT NULL,
  byte_count BIGINT NOT NULL,
  dirty_count BIGINT NOT NULL
);
CREATE INDEX execution_of_task ON execution (task, dispatched_ms);
CREATE TABLE step (
  id TEXT PRIMARY KEY,
  execution TEXT NOT NULL REFERENCES execution (id) ON DELETE CASCADE,
  node TEXT NOT NULL,
  node_status TEXT NOT NULL,
  code BIGINT NOT NULL,
  stage TEXT NOT NULL,
  remarks TEXT NOT NULL,
  row_count BIGINT NOT NULL,
  byte_count BIGINT NOT NULL,
  dirty_count BIGINT NOT NULL,
  begin_ms BIGINT NOT NULL,
  end_ms BIGINT
);
CREATE INDEX step_of_execution ON step (execution, begin_ms);
