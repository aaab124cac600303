//! Connecting.

use std::net::IpAddr;
use std::time::Duration;

use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::error::{convert, convert_connect};
use crate::{session, tls};

/// A client and the task that drives its connection; dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    _driver: JoinSet<()>,
}

/// Connects to a target, logs in and pins the session: no time zone, style of text or time limit of
/// the server's configuration can change what we read or write. A commit that was answered is on
/// disk, because the source forgets what it had. An isolation above `read committed` would turn the
/// look at the epoch into an error that is tried again. Rows that a policy hides are refused, not
/// passed over. A server that hears nothing of us for half a minute gives up what we have open, so that
/// whoever comes after does not wait for it.
pub(crate) async fn connect(config: &DataSourceConfig, name: &str) -> Result<Connection> {
    let connection = open(config, name, Side::Target).await?;
    // The staging table has no statistics, so the planner would read the whole target for a join
    // with it: only nested loops over the target's key index are left to choose. What is left still
    // costs "infinitely" much where the staging table is read, which would have each of these short
    // statements compiled to machine code first, for a third of a second. Settings that not every version has
    // are asked for one by one: `pg_settings` puts the texts of all together each time it is read.
    connection
        .client
        .batch_execute(
            "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; \
             SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; \
             SET xmloption = content; SET statement_timeout = 0; \
             SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning; \
             SET standard_conforming_strings = on; SET row_security = off; \
             SET default_transaction_isolation = 'read committed'; \
             SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
             SET tcp_keepalives_count = 4; \
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; \
             SET enable_material = off; SET jit = off; \
             SELECT set_config(name, value, false) FROM (VALUES ('synchronous_commit', 'off', 'on'), \
               ('idle_session_timeout', NULL, '0'), ('transaction_timeout', NULL, '0'), \
               ('plan_cache_mode', NULL, 'force_generic_plan')) wanted (name, old, value) \
               WHERE current_setting(name, true) = coalesce(old, current_setting(name, true))",
        )
        .await
        .map_err(convert)?;
    Ok(connection)
}

/// Connects to a source, for questions.
pub(crate) async fn connect_source(config: &DataSourceConfig) -> Result<Connection> {
    let connection = open(config, &config.application_name, Side::Source).await?;
    connection
        .client
        .batch_execute(session::PINNED)
        .await
        .map_err(crate::error::asking)?;
    Ok(connection)
}

/// Where the host lies, as far as a data source may lie there; within the time limit.
pub(crate) async fn addresses(config: &DataSourceConfig) -> Result<Vec<IpAddr>> {
    let found = lookup_host((config.host.as_str(), config.port));
    let unknown = || {
        let unknown = format!("the host {} cannot be resolved", config.host);
        Error::transient(unknown).with_hint("correct the data source's host, or the names")
    };
    let found = tokio::time::timeout(config.timeout, found).await;
    let found = found.map_err(|_| unknown())?;
    let found = found.map_err(|error| unknown().caused_by(error))?;
    let found = found.map(|address| address.ip());
    config.networks.admitted(&config.host, found)
}

async fn open(config: &DataSourceConfig, name: &str, side: Side) -> Result<Connection> {
    let mode = tls::mode(config).map_err(|error| error.at(side))?;
    let tls = tls::connector(&config.tls).map_err(|error| error.at(side))?;
    let mut options = tokio_postgres::Config::new();
    // One host for each address: the name is what a certificate is checked for.
    for address in addresses(config).await.map_err(|error| error.at(side))? {
        options.host(&config.host).hostaddr(address);
    }
    options
        .port(config.port)
        .dbname(&config.database)
        .user(&config.user)
        .password(config.password.expose())
        .application_name(name)
        .ssl_mode(mode)
        .connect_timeout(config.timeout)
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(30));
    let place = format!(
        "could not connect to PostgreSQL at {}:{}",
        config.host, config.port
    );
    let connecting = tokio::time::timeout(config.timeout, options.connect(tls)).await;
    let (client, connection) = connecting
        .map_err(|_| {
            Error::transient("no answer within the time limit")
                .context(&place)
                .at(side)
        })?
        .map_err(|error| convert_connect(error, config, side).context(&place))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // The error reaches whoever waits for an answer; there is nobody else to tell.
        drop(connection.await);
    });
    Ok(Connection {
        client,
        _driver: driver,
    })
}
