-- Why a table of a task is paused, as JSON; null: it is not.
ALTER TABLE mapping ADD COLUMN paused TEXT;
-- Whether its table is to be loaded again at the next plan.
ALTER TABLE mapping ADD COLUMN reload BIGINT NOT NULL DEFAULT 0;
-- Whether its rows are to be compared and repaired, as they may differ since the table has changed.
ALTER TABLE mapping ADD COLUMN doubt BIGINT NOT NULL DEFAULT 0;
