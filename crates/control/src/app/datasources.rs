//! Data sources.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::Kind;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{Connector, DataSourceConfig, Inspect};
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::secret::Secret;

use super::App;
use crate::catalog::{NewDataSourceRow, StoredDataSource, new_id, now_ms, page};
use crate::connect;
use crate::error::{Error, Result, Subject};
use crate::model::{
    DataSource, DataSourceFilter, DataSourceInput, DataSourceOptions, Direction, Page, Role, Scope,
    Window,
};
use crate::stored;

/// The longest a call waits for a system, whatever its data source allows a task.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(20);

fn password_owner(id: &str) -> String {
    format!("datasource/{id}/password")
}

fn client_key_owner(id: &str) -> String {
    format!("datasource/{id}/client_key")
}

pub(super) fn unreachable(error: &thalweg_core::Error) -> Error {
    Error::Unreachable {
        reason: error.chain(),
        detail: error.hint().map(str::to_owned),
    }
}

/// What is wrong, and what to do.
fn told(error: &thalweg_core::Error) -> String {
    match error.hint() {
        Some(hint) => format!("{}: {hint}", error.chain()),
        None => error.chain(),
    }
}

/// `Invalid(password)` unless a data source stays where it is: what is stored goes to no other place, and to
/// no other user there.
fn same_place(old: &DataSource, new: &DataSourceInput) -> Result<()> {
    let of = |kind: &str, content: &serde_json::Map<String, serde_json::Value>| {
        let user = content.get("user_name").cloned();
        (kind.to_owned(), connect::place(kind, content).ok(), user)
    };
    match of(&old.kind, &old.content) == of(&new.kind, &new.content.shown) {
        true => Ok(()),
        false => Err(Error::invalid(
            "password",
            "give it too: the type, the place or the user is another than before",
        )),
    }
}

impl App {
    /// Makes one; nothing is connected to.
    pub async fn datasource_create(
        &self,
        scope: &Scope,
        new: DataSourceInput,
    ) -> Result<DataSource> {
        let all = self.catalog().datasource_list(&scope.instance).await?;
        let max = self.quotas().data_sources;
        if all.len() >= max as usize {
            return Err(Error::invalid(
                "datasource_name",
                format!("the instance has {max} data sources, the most it may have"),
            ));
        }
        let secret = new.content.secret.clone();
        let secret =
            secret.ok_or_else(|| Error::invalid("password", "it is needed for this type"))?;
        let id = new_id();
        let now = now_ms();
        let sealed = self.inner.seal.seal(&password_owner(&id), &secret)?;
        let options = stored::source_options_write(&DataSourceOptions::default(), None);
        self.datasource_put(scope, new, (id, now), (&sealed, &options))
            .await
    }

    /// Replaces it. A task that runs goes on with what it started with until it is run again.
    pub async fn datasource_update(
        &self,
        scope: &Scope,
        id: &str,
        new: DataSourceInput,
    ) -> Result<DataSource> {
        let old = self.source_for(scope, id, Role::Modify).await?;
        if old.shown.kind != new.kind && !self.catalog().datasource_users(id).await?.is_empty() {
            return Err(Error::invalid(
                "datasource_type",
                "a task uses the data source; its type cannot change",
            ));
        }
        if new.app_id != old.shown.app_id {
            // Whoever has it afterwards may do everything with it.
            self.sees(scope)
                .await?
                .needs(&old.shown.app_id, Role::Admin)?;
            if let Some(task) = self.catalog().datasource_users(id).await?.first() {
                return Err(Error::invalid(
                    "app_id",
                    format!("task {task} uses the data source; its application cannot change"),
                ));
            }
        }
        let sealed = match &new.content.secret {
            Some(secret) => self.inner.seal.seal(&password_owner(id), secret)?,
            None => {
                same_place(&old.shown, &new)?;
                old.password.clone()
            }
        };
        let identity = (id.to_owned(), old.shown.created_ms);
        let options = self.options_at(&old, &new)?;
        self.datasource_put(scope, new, identity, (&sealed, &options))
            .await
    }

    /// The stored options of a data source as far as they go with it: a certificate of ours that is shown to one place
    /// is not shown to another, nor for another user.
    fn options_at(&self, stored: &StoredDataSource, new: &DataSourceInput) -> Result<String> {
        if same_place(&stored.shown, new).is_ok() {
            return Ok(stored.options.clone());
        }
        let mut options = self.inner.source_options(stored)?;
        options.tls.client = None;
        Ok(stored::source_options_write(&options, None))
    }

    async fn datasource_put(
        &self,
        scope: &Scope,
        new: DataSourceInput,
        (id, created_ms): (String, i64),
        (password, options): (&str, &str),
    ) -> Result<DataSource> {
        // What cannot be connected to is stored as it is.
        if connect::connector(&self.inner.connectors, &new.kind).is_ok() {
            let place = connect::place(&new.kind, &new.content.shown)?;
            // A name is judged when it is connected to: it can be given another address at any time.
            if let Ok(address) = place.host.parse::<IpAddr>() {
                let admitted = self
                    .inner
                    .networks
                    .admitted(&address.to_string(), [address]);
                admitted.map_err(|error| Error::Address(told(&error)))?;
            }
        }
        let seen = self.seen(scope, &new.app_id).await;
        let (app, sees) = seen.map_err(|error| match error {
            Error::NotFound(Subject::Application) => {
                Error::invalid("app_id", "there is no integration application with this id")
            }
            other => other,
        })?;
        sees.needs(&app.id, Role::Modify)?;
        let shown = DataSource {
            id,
            name: new.name,
            kind: new.kind,
            app_id: app.id,
            app_name: app.name,
            roles: app.roles,
            content: new.content.shown,
            description: new.description,
            created_ms,
            updated_ms: now_ms(),
        };
        self.catalog()
            .datasource_put(NewDataSourceRow {
                instance: &scope.instance,
                shown: &shown,
                password,
                options,
            })
            .await?;
        Ok(shown)
    }

    /// Those that match.
    pub async fn datasource_list(
        &self,
        scope: &Scope,
        filter: DataSourceFilter,
        window: Window,
    ) -> Result<Page<DataSource>> {
        let mut all = self.catalog().datasource_list(&scope.instance).await?;
        let sees = self.sees(scope).await?;
        for one in &mut all {
            one.roles = sees.roles(&one.app_id);
        }
        let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has);
        all.retain(|d| {
            sees.has(&d.app_id, Role::Read)
                && is(&filter.kind, &d.kind)
                && is(&filter.app_id, &d.app_id)
                && is(&filter.custom_plugin_id, "")
                && filter
                    .name
                    .as_ref()
                    .is_none_or(|part| d.name.to_lowercase().contains(&part.to_lowercase()))
        });
        if filter.newest_first {
            all.reverse();
        }
        Ok(page(all, window))
    }

    /// One of them.
    pub async fn datasource_show(&self, scope: &Scope, id: &str) -> Result<DataSource> {
        Ok(self.source_for(scope, id, Role::Read).await?.shown)
    }

    /// A data source the caller sees, if it has the role in its application. `NotFound(DataSource)`.
    pub(super) async fn source_for(
        &self,
        scope: &Scope,
        id: &str,
        role: Role,
    ) -> Result<StoredDataSource> {
        let mut found = self.catalog().datasource_show(&scope.instance, id).await?;
        let sees = self.sees(scope).await?;
        let app = &found.shown.app_id;
        if !sees.has(app, Role::Read) {
            return Err(Error::NotFound(Subject::DataSource));
        }
        sees.needs(app, role)?;
        found.shown.roles = sees.roles(app);
        Ok(found)
    }

    /// Deletes it. `Invalid(datasource_id)` while a task uses it, also one whose traces are still
    /// being removed.
    pub async fn datasource_delete(&self, scope: &Scope, id: &str) -> Result<()> {
        self.source_for(scope, id, Role::Delete).await?;
        let users = self.catalog().datasource_users(id).await?;
        if let Some(user) = users.first() {
            return Err(Error::invalid(
                "datasource_id",
                format!("task {user} uses it; delete the task first"),
            ));
        }
        self.catalog().datasource_delete(&scope.instance, id).await
    }

    /// Names of its tables that contain `filter` (whatever the case), in `schema` if one is given.
    pub async fn datasource_tables(
        &self,
        scope: &Scope,
        id: &str,
        _direction: Direction,
        schema: Option<&str>,
        filter: Option<&str>,
    ) -> Result<Vec<TableName>> {
        let stored = self.source_for(scope, id, Role::Read).await?;
        let (_, _, inspect) = self.inner.inspect(&stored)?;
        let mut all = inspect.tables().await.map_err(|e| unreachable(&e))?;
        all.retain(|table| {
            schema.is_none_or(|schema| table.schema == schema)
                && filter
                    .is_none_or(|part| table.name.to_lowercase().contains(&part.to_lowercase()))
        });
        Ok(all)
    }

    /// One of its tables; `Invalid(table_name)` if there is none of that name.
    pub async fn datasource_table(
        &self,
        scope: &Scope,
        id: &str,
        _direction: Direction,
        table: &str,
    ) -> Result<TableSchema> {
        let stored = self.source_for(scope, id, Role::Read).await?;
        let (connector, config, inspect) = self.inner.inspect(&stored)?;
        let missing = || {
            Error::invalid(
                "table_name",
                "the data source has no such table (case counts), or its user may not see it",
            )
        };
        let name = TableName::parse(table, &connector.default_schema(&config));
        let name = name.ok_or_else(missing)?;
        let found = inspect.describe(&[name]).await;
        found
            .map_err(|e| unreachable(&e))?
            .into_iter()
            .next()
            .ok_or_else(missing)
    }

    /// What a query would give; nothing is run. `Sql` if the system does not take it as one.
    pub async fn datasource_query(
        &self,
        scope: &Scope,
        id: &str,
        sql: &str,
    ) -> Result<TableSchema> {
        let stored = self.source_for(scope, id, Role::Read).await?;
        let (_, _, inspect) = self.inner.inspect(&stored)?;
        let described = inspect.describe_query(sql).await;
        described.map_err(|error| match error.kind() {
            Kind::Schema => Error::Sql(error.chain()),
            _ => unreachable(&error),
        })
    }

    /// Connects with `input`, or with what is stored; a system that can be a source is asked for its
    /// log settings and grants too. `Unreachable` with everything found.
    pub async fn datasource_test(
        &self,
        scope: &Scope,
        id: &str,
        input: Option<DataSourceInput>,
    ) -> Result<()> {
        // Other parameters than are stored would send the stored password elsewhere.
        let role = input.as_ref().map_or(Role::Read, |_| Role::Modify);
        let mut stored = self.source_for(scope, id, role).await?;
        if let Some(input) = input {
            if input.content.secret.is_none() {
                same_place(&stored.shown, &input)?;
            }
            stored.options = self.options_at(&stored, &input)?;
            stored.shown.kind = input.kind;
            stored.shown.content = input.content.shown;
            if let Some(secret) = input.content.secret {
                stored.password = self.inner.seal.seal(&password_owner(id), &secret)?;
            }
        }
        let (connector, config, inspect) = self.inner.inspect(&stored)?;
        let found = tokio::time::timeout(
            config.timeout,
            tokio::net::lookup_host((config.host.as_str(), config.port)),
        );
        // A name that is not found is told by the connection.
        if let Ok(Ok(found)) = found.await {
            let found = found.map(|address| address.ip());
            let admitted = self.inner.networks.admitted(&config.host, found);
            admitted.map_err(|error| Error::Address(told(&error)))?;
        }
        inspect.probe().await.map_err(|e| unreachable(&e))?;
        if !connector.roles().source {
            return Ok(());
        }
        let source = connector.source(&config).map_err(|e| unreachable(&e))?;
        let mut findings = source.check(&[]).await.map_err(|e| unreachable(&e))?;
        findings.retain(Finding::refuses);
        if findings.is_empty() {
            return Ok(());
        }
        let facts = findings
            .iter()
            .map(|f| format!("{}: {}", f.subject, f.message));
        let fixes = findings.iter().map(|f| f.fix.clone());
        Err(Error::Unreachable {
            reason: facts.collect::<Vec<_>>().join("; "),
            detail: Some(fixes.collect::<Vec<_>>().join(" ")),
        })
    }

    /// Its native options.
    pub async fn datasource_options(&self, scope: &Scope, id: &str) -> Result<DataSourceOptions> {
        let stored = self.source_for(scope, id, Role::Read).await?;
        self.inner.source_options(&stored)
    }

    /// Replaces its native options.
    pub async fn datasource_options_set(
        &self,
        scope: &Scope,
        id: &str,
        options: DataSourceOptions,
    ) -> Result<DataSourceOptions> {
        self.source_for(scope, id, Role::Modify).await?;
        let key = options.tls.client.as_ref().map(|client| &client.key_pem);
        let key = key.map(|key| self.inner.seal.seal(&client_key_owner(id), key));
        let text = stored::source_options_write(&options, key.transpose()?.as_deref());
        self.catalog().datasource_options_set(id, &text).await?;
        Ok(options)
    }
}

impl super::Inner {
    /// A stored data source's password.
    pub(crate) fn password(&self, stored: &StoredDataSource) -> Result<Secret> {
        self.seal
            .unseal(&password_owner(&stored.shown.id), &stored.password)
    }

    /// A stored data source's native options.
    fn source_options(&self, stored: &StoredDataSource) -> Result<DataSourceOptions> {
        stored::source_options_read(&stored.options, |sealed| {
            self.seal
                .unseal(&client_key_owner(&stored.shown.id), sealed)
        })
    }

    /// The connector and configuration of a stored data source.
    pub(crate) fn reach(
        &self,
        stored: &StoredDataSource,
        application_name: String,
    ) -> Result<(&dyn Connector, DataSourceConfig)> {
        let connector = connect::connector(&self.connectors, &stored.shown.kind)?;
        let config = connect::config(
            &stored.shown.kind,
            &stored.shown.content,
            self.password(stored)?,
            &self.source_options(stored)?,
            application_name,
            &self.networks,
        )?;
        Ok((connector, config))
    }

    /// A look at a system within the time of one call.
    fn inspect(
        &self,
        stored: &StoredDataSource,
    ) -> Result<(&dyn Connector, DataSourceConfig, Arc<dyn Inspect>)> {
        let (connector, mut config) = self.reach(stored, "thalweg".to_owned())?;
        config.timeout = config.timeout.min(CALL_LIMIT);
        let inspect = connector.inspect(&config).map_err(|e| unreachable(&e))?;
        Ok((connector, config, inspect))
    }
}
