//! Accounts, tokens, projects and instances.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Catalog, now_ms, text};
use crate::error::Result;
use crate::model::User;

/// A stored account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) user: User,
    /// Hash of the password, in PHC form.
    pub(crate) password: String,
    pub(crate) ak: String,
    /// Sealed.
    pub(crate) sk: String,
}

fn account(row: &AnyRow) -> Result<Account> {
    Ok(Account {
        user: User {
            id: text(row, "id")?,
            name: text(row, "name")?,
        },
        password: text(row, "password")?,
        ak: text(row, "ak")?,
        sk: text(row, "sk")?,
    })
}

impl Catalog {
    /// Makes the first project, instance and account, all or none.
    pub(crate) async fn first_start(
        &self,
        meta: &[(&str, &str)],
        project: (&str, &str),
        instance: &str,
        account: &Account,
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for (name, value) in meta {
            sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2)")
                .bind((*name).to_owned())
                .bind((*value).to_owned())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("INSERT INTO project (id, name) VALUES ($1, $2)")
            .bind(project.0.to_owned())
            .bind(project.1.to_owned())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO instance (id, project) VALUES ($1, $2)")
            .bind(instance.to_owned())
            .bind(project.0.to_owned())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO account (id, name, password, ak, sk) VALUES ($1, $2, $3, $4, $5)")
            .bind(account.user.id.clone())
            .bind(account.user.name.clone())
            .bind(account.password.clone())
            .bind(account.ak.clone())
            .bind(account.sk.clone())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        let row = sqlx::query("SELECT * FROM account WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(account).transpose()
    }

    pub(crate) async fn account_by_access_key(&self, ak: &str) -> Result<Option<Account>> {
        let row = sqlx::query("SELECT * FROM account WHERE ak = $1")
            .bind(ak.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(account).transpose()
    }

    /// The account a token that has not expired stands for.
    pub(crate) async fn account_by_token(&self, hash: &str) -> Result<Option<Account>> {
        let row = sqlx::query(
            "SELECT account.* FROM token JOIN account ON account.id = token.account \
             WHERE token.hash = $1 AND token.expires_ms > $2",
        )
        .bind(hash.to_owned())
        .bind(now_ms())
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map(account).transpose()
    }

    /// Stores a token and drops those that have expired.
    pub(crate) async fn token_create(
        &self,
        hash: &str,
        account: &str,
        expires_ms: i64,
    ) -> Result<()> {
        sqlx::query("DELETE FROM token WHERE expires_ms <= $1")
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        sqlx::query("INSERT INTO token (hash, account, expires_ms) VALUES ($1, $2, $3)")
            .bind(hash.to_owned())
            .bind(account.to_owned())
            .bind(expires_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// The project: id and name. There is one.
    pub(crate) async fn project(&self) -> Result<(String, String)> {
        let row = sqlx::query("SELECT id, name FROM project")
            .fetch_one(&self.reader)
            .await?;
        Ok((text(&row, "id")?, text(&row, "name")?))
    }

    /// The instances of a project.
    pub(crate) async fn instances(&self, project: &str) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT id FROM instance WHERE project = $1 ORDER BY id")
            .bind(project.to_owned())
            .fetch_all(&self.reader)
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get::<String, _>("id"))
            .collect::<Result<_, _>>()?)
    }
}
