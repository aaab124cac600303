//! Projects, instances, and the roles of users in applications.

use sqlx::any::AnyRow;

use super::access::{Query, name_taken, user};
use super::{Catalog, count, number, text};
use crate::error::{Error, Result};
use crate::model::{Instance, Project, Role, RoleHolder};

fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: text(row, "id")?,
        name: text(row, "name")?,
        created_ms: number(row, "created_ms")?,
    })
}

impl Catalog {
    /// By name.
    pub(crate) async fn project_list(&self) -> Result<Vec<Project>> {
        let rows = sqlx::query("SELECT * FROM project ORDER BY name")
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(project).collect()
    }

    pub(crate) async fn project_create(&self, new: &Project) -> Result<()> {
        let made = project_insert(new).execute(&self.writer).await;
        made.map_err(name_taken("project"))?;
        Ok(())
    }

    /// Its grants and tokens go with it; `false`: it has instances.
    pub(crate) async fn project_delete(&self, id: &str) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let has = sqlx::query("SELECT COUNT(*) AS n FROM instance WHERE project = $1")
            .bind(id.to_owned())
            .fetch_one(&mut *tx)
            .await?;
        if count(&has, "n")? > 0 {
            return Ok(false);
        }
        for sql in [
            "DELETE FROM token WHERE project = $1",
            "DELETE FROM temporary_key WHERE project = $1",
            "DELETE FROM account_grant WHERE project = $1",
            "DELETE FROM project WHERE id = $1",
        ] {
            sqlx::query(sql)
                .bind(id.to_owned())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The instances of a project, by name.
    pub(crate) async fn instance_list(&self, project: &str) -> Result<Vec<Instance>> {
        let rows = sqlx::query("SELECT * FROM instance WHERE project = $1 ORDER BY name, id")
            .bind(project.to_owned())
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Instance {
                    id: text(row, "id")?,
                    name: text(row, "name")?,
                    created_ms: number(row, "created_ms")?,
                })
            })
            .collect()
    }

    pub(crate) async fn instance_create(&self, project: &str, new: &Instance) -> Result<()> {
        instance_insert(project, new).execute(&self.writer).await?;
        Ok(())
    }

    /// `false`: something of it is left, such as an application, or a task whose traces are being removed.
    pub(crate) async fn instance_delete(&self, id: &str) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let left = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM application WHERE instance = $1) \
             + (SELECT COUNT(*) FROM datasource WHERE instance = $1) \
             + (SELECT COUNT(*) FROM task WHERE instance = $1) AS n",
        )
        .bind(id.to_owned())
        .fetch_one(&mut *tx)
        .await?;
        if count(&left, "n")? > 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM instance WHERE id = $1")
            .bind(id.to_owned())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The roles somebody was given in an application, by name.
    pub(crate) async fn role_list(&self, application: &str) -> Result<Vec<RoleHolder>> {
        let rows = sqlx::query(
            "SELECT a.id, a.name, r.roles FROM application_role r JOIN account a ON a.id = r.account \
             WHERE r.application = $1 ORDER BY a.name",
        )
        .bind(application.to_owned())
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RoleHolder {
                    user: user(row)?,
                    roles: roles(&text(row, "roles")?)?,
                })
            })
            .collect()
    }

    /// The roles a user was given in the applications of an instance: the application and the roles.
    pub(crate) async fn roles_of(&self, account: &str) -> Result<Vec<(String, Vec<Role>)>> {
        let rows =
            sqlx::query("SELECT application, roles FROM application_role WHERE account = $1")
                .bind(account.to_owned())
                .fetch_all(&self.reader)
                .await?;
        rows.iter()
            .map(|row| Ok((text(row, "application")?, roles(&text(row, "roles")?)?)))
            .collect()
    }

    /// Replaces the roles of a user in an application; none of them takes it out.
    pub(crate) async fn role_put(
        &self,
        application: &str,
        account: &str,
        roles: &[Role],
    ) -> Result<()> {
        let query = if roles.is_empty() {
            sqlx::query("DELETE FROM application_role WHERE application = $1 AND account = $2")
        } else {
            sqlx::query(
                "INSERT INTO application_role (application, account, roles) VALUES ($1, $2, $3) \
                 ON CONFLICT (application, account) DO UPDATE SET roles = $3",
            )
        };
        let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let mut query = query.bind(application.to_owned()).bind(account.to_owned());
        if !roles.is_empty() {
            query = query.bind(serde_json::Value::from(words).to_string());
        }
        query.execute(&self.writer).await?;
        Ok(())
    }
}

fn roles(words: &str) -> Result<Vec<Role>> {
    let words: Vec<String> = serde_json::from_str(words).map_err(Error::internal)?;
    Ok(words.iter().filter_map(|word| Role::parse(word)).collect())
}

pub(super) fn project_insert(new: &Project) -> Query<'static> {
    sqlx::query("INSERT INTO project (id, name, created_ms) VALUES ($1, $2, $3)")
        .bind(new.id.clone())
        .bind(new.name.clone())
        .bind(new.created_ms)
}

pub(super) fn instance_insert(project: &str, new: &Instance) -> Query<'static> {
    sqlx::query("INSERT INTO instance (id, project, name, created_ms) VALUES ($1, $2, $3, $4)")
        .bind(new.id.clone())
        .bind(project.to_owned())
        .bind(new.name.clone())
        .bind(new.created_ms)
}
