//! Who runs the server, because what is a statement elsewhere is a setting of the provider's console.

use thalweg_core::Result;
use tokio_postgres::Client;

use crate::error::asking;

/// Recognised by the roles a provider makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    /// Whoever has a superuser.
    SelfManaged,
    /// Amazon RDS and Aurora.
    Rds,
    /// Google Cloud SQL and AlloyDB.
    CloudSql,
    /// Azure Database for PostgreSQL.
    Azure,
    Supabase,
}

/// Roles, and whose they are.
const ROLES: &[(&str, Provider)] = &[
    ("rdsadmin", Provider::Rds),
    ("cloudsqladmin", Provider::CloudSql),
    ("azure_pg_admin", Provider::Azure),
    ("azuresu", Provider::Azure),
    ("supabase_admin", Provider::Supabase),
];

impl Provider {
    pub(super) async fn of(client: &Client) -> Result<Provider> {
        let names: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
        let found = client
            .query(
                "SELECT rolname::text FROM pg_roles WHERE rolname::text = ANY($1)",
                &[&names],
            )
            .await
            .map_err(asking)?;
        let has = |name: &str| found.iter().any(|row| row.get::<_, &str>(0) == name);
        let provider = ROLES.iter().find(|(name, _)| has(name));
        Ok(provider.map_or(Provider::SelfManaged, |(_, provider)| *provider))
    }

    /// How a setting that needs a restart is changed.
    pub(super) fn set(self, name: &str, value: &str) -> String {
        match self {
            Provider::SelfManaged => {
                format!("ALTER SYSTEM SET {name} = {value}; -- then restart the server")
            }
            Provider::Rds if name == "wal_level" => {
                "set rds.logical_replication = 1 in the parameter group (Aurora: of the cluster), \
                 then reboot the instance"
                    .to_owned()
            }
            Provider::Rds => format!(
                "set {name} = {value} in the parameter group (Aurora: of the cluster), then reboot \
                 the instance"
            ),
            Provider::CloudSql if name == "wal_level" => {
                "gcloud sql instances patch INSTANCE --database-flags=cloudsql.logical_decoding=on"
                    .to_owned()
            }
            Provider::CloudSql => {
                format!("gcloud sql instances patch INSTANCE --database-flags={name}={value}")
            }
            Provider::Azure => format!(
                "set the server parameter {name} to {value} (az postgres flexible-server parameter \
                 set --name {name} --value {value} …), then restart the server"
            ),
            Provider::Supabase => format!(
                "supabase --experimental postgres-config update --config {name}={value}; then \
                 restart the project"
            ),
        }
    }

    /// How a user gets the right to replicate.
    pub(super) fn replication(self, user: &str) -> String {
        match self {
            Provider::Rds => format!("GRANT rds_replication TO {user};"),
            _ => format!("ALTER ROLE {user} WITH REPLICATION;"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_own_way() {
        let all = [
            (
                Provider::SelfManaged,
                "ALTER SYSTEM SET wal_level = logical;",
                "ALTER ROLE",
            ),
            (
                Provider::Rds,
                "rds.logical_replication = 1",
                "GRANT rds_replication TO",
            ),
            (
                Provider::CloudSql,
                "cloudsql.logical_decoding=on",
                "ALTER ROLE",
            ),
            (
                Provider::Azure,
                "server parameter wal_level to logical",
                "ALTER ROLE",
            ),
            (Provider::Supabase, "wal_level=logical", "ALTER ROLE"),
        ];
        for (provider, set, grant) in all {
            let said = provider.set("wal_level", "logical");
            assert!(said.contains(set), "{said}");
            assert!(provider.replication("\"u\"").starts_with(grant));
            assert!(
                provider
                    .set("max_wal_senders", "20")
                    .contains("max_wal_senders")
            );
        }
    }
}
