//! Sessions at a source: what is set in each of them, so that values have one text form whatever the
//! server, the database or the role is configured to.

/// Settings of every session that reads values. `row_security = off` makes the server refuse what a
/// policy would filter, instead of leaving rows out.
pub(crate) const PINNED: &str = "SET client_encoding = 'UTF8'; SET timezone = 'UTC'; \
    SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; \
    SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = pg_catalog; \
    SET standard_conforming_strings = on; SET row_security = off; SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning; \
    SELECT set_config(name, '0', false) FROM unnest(ARRAY['idle_session_timeout', 'transaction_timeout']) name \
      WHERE current_setting(name, true) IS NOT NULL";
