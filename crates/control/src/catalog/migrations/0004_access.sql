-- Who may do what: several users, each with up to two access keys, whose rights come from policies that are
-- granted to them. The first account is the owner and may do everything.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE account_before AS SELECT * FROM account;
DROP TABLE token;
DROP TABLE account;
-- `deleted`: gone for callers; its row stays because applications and the audit log name it.
CREATE TABLE account (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  password TEXT NOT NULL,
  owner BIGINT NOT NULL,
  enabled BIGINT NOT NULL,
  deleted BIGINT NOT NULL,
  created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX account_name ON account (name) WHERE deleted = 0;
INSERT INTO account (id, name, password, owner, enabled, deleted, created_ms)
  SELECT id, name, password, 1, 1, 0, 0 FROM account_before;
CREATE TABLE access_key (
  ak TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (id),
  sk TEXT NOT NULL,
  enabled BIGINT NOT NULL,
  description TEXT,
  created_ms BIGINT NOT NULL
);
INSERT INTO access_key (ak, account, sk, enabled, description, created_ms)
  SELECT ak, id, sk, 1, NULL, 0 FROM account_before;
DROP TABLE account_before;
-- Tokens given out before are gone with this version. `project`: the one it is good for; null: it opens none.
CREATE TABLE token (
  hash TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (id),
  project TEXT REFERENCES project (id),
  expires_ms BIGINT NOT NULL
);
-- A pair of keys for a while; its security token is stored as a hash. It ends with what it was asked for with
-- (`parent`: an access key, or the hash of a token), and opens the project that opens (null: all).
CREATE TABLE temporary_key (
  ak TEXT PRIMARY KEY,
  parent TEXT NOT NULL,
  project TEXT REFERENCES project (id),
  account TEXT NOT NULL REFERENCES account (id),
  sk TEXT NOT NULL,
  token_hash TEXT NOT NULL,
  expires_ms BIGINT NOT NULL
);
-- Policies somebody wrote; those of the system are not stored.
CREATE TABLE policy (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  description TEXT,
  document TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL
);
-- `project` is null: in all of them, and for what belongs to none.
CREATE TABLE account_grant (
  id TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES account (id),
  policy TEXT NOT NULL,
  project TEXT REFERENCES project (id),
  created_ms BIGINT NOT NULL
);
CREATE INDEX grant_of_account ON account_grant (account);
-- Which roles a user has in an application somebody else made; `roles` is a JSON array.
CREATE TABLE application_role (
  application TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
  account TEXT NOT NULL REFERENCES account (id),
  roles TEXT NOT NULL,
  PRIMARY KEY (application, account)
);
ALTER TABLE project ADD COLUMN created_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN name TEXT NOT NULL DEFAULT 'default';
ALTER TABLE instance ADD COLUMN created_ms BIGINT NOT NULL DEFAULT 0;
-- What was asked for and what became of it. Nothing here is ever changed or taken away: each row carries a hash
-- over itself and the hash of the row before it.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  request TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  user_name TEXT NOT NULL,
  operation TEXT NOT NULL,
  body TEXT NOT NULL,
  hash TEXT NOT NULL
);
CREATE INDEX audit_of_request ON audit (request);
CREATE INDEX audit_of_user ON audit (user_name, id);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;
