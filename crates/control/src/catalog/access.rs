//! Accounts, their keys and tokens, policies and who has them.

use sqlx::any::AnyRow;

use super::projects::{instance_insert, project_insert};
use super::{Catalog, count, flag, is_taken, now_ms, number, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::{AccessKey, Grant, Instance, NamedPolicy, Project, User, UserInfo};
use crate::policy::{Policy, SYSTEM};

/// A stored account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) info: UserInfo,
    /// Hash of the password, in PHC form.
    pub(crate) password: String,
}

/// A stored key: the account, its sealed secret, and the hash of its security token if it is temporary.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) account: Account,
    pub(crate) sk: String,
    pub(crate) token_hash: Option<String>,
    /// Of a temporary one: the only project it opens.
    pub(crate) project: Option<String>,
}

/// What is changed of an account; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountChange {
    pub(crate) name: Option<String>,
    /// Hash, in PHC form.
    pub(crate) password: Option<String>,
    pub(crate) enabled: Option<bool>,
}

/// A temporary key to be stored: its secret sealed, the hash of its security token, and what it ends with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTemporaryKey<'a> {
    pub(crate) ak: &'a str,
    pub(crate) sk: &'a str,
    pub(crate) token_hash: &'a str,
    pub(crate) expires_ms: i64,
    /// An access key, or the hash of a token.
    pub(crate) parent: &'a str,
    pub(crate) project: Option<&'a str>,
}

/// Keys a user may have, as the original has it: one to use, one to change to.
pub(crate) const KEYS_MAX: u64 = 2;

fn account(row: &AnyRow) -> Result<Account> {
    Ok(Account {
        info: UserInfo {
            user: user(row)?,
            owner: flag(row, "owner")?,
            enabled: flag(row, "enabled")?,
            created_ms: number(row, "created_ms")?,
        },
        password: text(row, "password")?,
    })
}

pub(super) fn user(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: text(row, "id")?,
        name: text(row, "name")?,
    })
}

fn key(row: &AnyRow) -> Result<AccessKey> {
    Ok(AccessKey {
        ak: text(row, "ak")?,
        enabled: flag(row, "enabled")?,
        description: text_or_none(row, "description")?,
        created_ms: number(row, "created_ms")?,
    })
}

fn parsed(document: &str) -> Result<Policy> {
    let value = serde_json::from_str(document).map_err(Error::internal)?;
    Policy::stored(&value).map_err(|error| Error::Internal(format!("a stored policy: {error}")))
}

fn policy(row: &AnyRow) -> Result<NamedPolicy> {
    Ok(NamedPolicy {
        id: text(row, "id")?,
        name: text(row, "name")?,
        description: text_or_none(row, "description")?,
        policy: parsed(&text(row, "document")?)?,
        system: false,
        updated_ms: number(row, "updated_ms")?,
    })
}

pub(super) fn name_taken(what: &str) -> impl Fn(sqlx::Error) -> Error {
    move |error| match is_taken(&error) {
        true => Error::invalid(
            "name",
            format!("a {what} of this name exists; choose another"),
        ),
        false => error.into(),
    }
}

impl Catalog {
    /// Makes the first project, instance, account and key, all or none.
    pub(crate) async fn first_start(
        &self,
        meta: &[(&str, &str)],
        project: &Project,
        instance: &Instance,
        (owner, ak, sk): (&Account, &str, &str),
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for (name, value) in meta {
            sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2)")
                .bind((*name).to_owned())
                .bind((*value).to_owned())
                .execute(&mut *tx)
                .await?;
        }
        project_insert(project).execute(&mut *tx).await?;
        instance_insert(&project.id, instance)
            .execute(&mut *tx)
            .await?;
        account_insert(owner).execute(&mut *tx).await?;
        key_insert(&owner.info.user.id, ak, sk, None, owner.info.created_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn account_by_name(&self, name: &str) -> Result<Option<Account>> {
        let row = sqlx::query("SELECT * FROM account WHERE name = $1 AND deleted = 0")
            .bind(name.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(account).transpose()
    }

    /// `NotFound(User)`.
    pub(crate) async fn account_show(&self, id: &str) -> Result<Account> {
        let row = sqlx::query("SELECT * FROM account WHERE id = $1 AND deleted = 0")
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        account(&row.ok_or(Error::NotFound(Subject::User))?)
    }

    /// By name.
    pub(crate) async fn account_list(&self) -> Result<Vec<UserInfo>> {
        let rows = sqlx::query("SELECT * FROM account WHERE deleted = 0 ORDER BY name")
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| account(row).map(|one| one.info))
            .collect()
    }

    pub(crate) async fn account_create(&self, new: &Account) -> Result<()> {
        let made = account_insert(new).execute(&self.writer).await;
        made.map_err(name_taken("user"))?;
        Ok(())
    }

    /// Changes what is given of an account. `ends`: its tokens and temporary keys end. `expects`: only if its password's
    /// hash is still this and it is enabled; `false`: it is not.
    pub(crate) async fn account_update(
        &self,
        id: &str,
        change: AccountChange,
        expects: Option<&str>,
    ) -> Result<bool> {
        let ends = change.password.is_some() || change.enabled == Some(false);
        let mut tx = self.writer.begin().await?;
        let changed = sqlx::query(
            "UPDATE account SET name = COALESCE($2, name), password = COALESCE($3, password), \
             enabled = COALESCE($4, enabled) WHERE id = $1 AND deleted = 0 \
             AND ($5 IS NULL OR (password = $5 AND enabled = 1))",
        )
        .bind(id.to_owned())
        .bind(change.name)
        .bind(change.password)
        .bind(change.enabled.map(i64::from))
        .bind(expects.map(str::to_owned))
        .execute(&mut *tx)
        .await
        .map_err(name_taken("user"))?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        if ends {
            credentials_end(&mut tx, id).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Its keys, tokens, grants and roles go with it; its row stays for those that name it.
    pub(crate) async fn account_delete(&self, id: &str) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for sql in [
            "DELETE FROM token WHERE account = $1",
            "DELETE FROM temporary_key WHERE account = $1",
            "DELETE FROM access_key WHERE account = $1",
            "DELETE FROM account_grant WHERE account = $1",
            "DELETE FROM application_role WHERE account = $1",
            "UPDATE account SET deleted = 1, enabled = 0, password = '' WHERE id = $1",
        ] {
            sqlx::query(sql)
                .bind(id.to_owned())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The account an access key stands for, temporary ones that have not expired too. `None` also if the key or
    /// the account is not enabled.
    pub(crate) async fn account_by_access_key(&self, ak: &str) -> Result<Option<StoredKey>> {
        let row = sqlx::query(
            "SELECT a.*, k.sk, NULL AS token_hash, NULL AS project FROM access_key k JOIN account a ON a.id = k.account \
             WHERE k.ak = $1 AND k.enabled = 1 AND a.enabled = 1 \
             UNION ALL SELECT a.*, t.sk, t.token_hash, t.project FROM temporary_key t \
             JOIN account a ON a.id = t.account \
             WHERE t.ak = $1 AND t.expires_ms > $2 AND a.enabled = 1",
        )
        .bind(ak.to_owned())
        .bind(now_ms())
        .fetch_optional(&self.reader)
        .await?;
        let key = |row: AnyRow| {
            Ok(StoredKey {
                account: account(&row)?,
                sk: text(&row, "sk")?,
                token_hash: text_or_none(&row, "token_hash")?,
                project: text_or_none(&row, "project")?,
            })
        };
        row.map(key).transpose()
    }

    /// Oldest first.
    pub(crate) async fn key_list(&self, account: &str) -> Result<Vec<AccessKey>> {
        let rows =
            sqlx::query("SELECT * FROM access_key WHERE account = $1 ORDER BY created_ms, ak")
                .bind(account.to_owned())
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(key).collect()
    }

    /// `false`: the account has as many as it may have.
    pub(crate) async fn key_create(
        &self,
        account: &str,
        new: &AccessKey,
        sk: &str,
    ) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let has = sqlx::query("SELECT COUNT(*) AS n FROM access_key WHERE account = $1")
            .bind(account.to_owned())
            .fetch_one(&mut *tx)
            .await?;
        if count(&has, "n")? >= KEYS_MAX {
            return Ok(false);
        }
        let (ak, about) = (&new.ak, new.description.clone());
        key_insert(account, ak, sk, about, new.created_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// `NotFound(Key)`. A key that is disabled ends the tokens and temporary keys of its account.
    pub(crate) async fn key_update(&self, account: &str, new: &AccessKey) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let changed = sqlx::query(
            "UPDATE access_key SET enabled = $3, description = $4 WHERE account = $1 AND ak = $2",
        )
        .bind(account.to_owned())
        .bind(new.ak.clone())
        .bind(i64::from(new.enabled))
        .bind(new.description.clone())
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 0 {
            return Err(Error::NotFound(Subject::Key));
        }
        if !new.enabled {
            credentials_end(&mut tx, account).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// `NotFound(Key)`. The tokens and temporary keys of its account end.
    pub(crate) async fn key_delete(&self, account: &str, ak: &str) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let gone = sqlx::query("DELETE FROM access_key WHERE account = $1 AND ak = $2")
            .bind(account.to_owned())
            .bind(ak.to_owned())
            .execute(&mut *tx)
            .await?;
        if gone.rows_affected() == 0 {
            return Err(Error::NotFound(Subject::Key));
        }
        credentials_end(&mut tx, account).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Stores a temporary key and drops those that have expired.
    pub(crate) async fn temporary_key_create(
        &self,
        account: &str,
        new: &NewTemporaryKey<'_>,
    ) -> Result<()> {
        sqlx::query("DELETE FROM temporary_key WHERE expires_ms <= $1")
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        sqlx::query(
            "INSERT INTO temporary_key (ak, account, sk, token_hash, expires_ms, parent, project) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.ak.to_owned())
        .bind(account.to_owned())
        .bind(new.sk.to_owned())
        .bind(new.token_hash.to_owned())
        .bind(new.expires_ms)
        .bind(new.parent.to_owned())
        .bind(new.project.map(str::to_owned))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The account a token that has not expired stands for, and the project it is good for.
    pub(crate) async fn account_by_token(
        &self,
        hash: &str,
    ) -> Result<Option<(Account, Option<String>)>> {
        let row = sqlx::query(
            "SELECT a.*, t.project FROM token t JOIN account a ON a.id = t.account \
             WHERE t.hash = $1 AND t.expires_ms > $2 AND a.enabled = 1",
        )
        .bind(hash.to_owned())
        .bind(now_ms())
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| Ok((account(&row)?, text_or_none(&row, "project")?)))
            .transpose()
    }

    /// Stores a token and drops those that have expired; `false`: the account has another password meanwhile, or is
    /// not enabled.
    pub(crate) async fn token_create(
        &self,
        hash: &str,
        account: &Account,
        project: Option<&str>,
        expires_ms: i64,
    ) -> Result<bool> {
        sqlx::query("DELETE FROM token WHERE expires_ms <= $1")
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        let made = sqlx::query(
            "INSERT INTO token (hash, account, project, expires_ms) SELECT $1, id, $3, $4 \
             FROM account WHERE id = $2 AND password = $5 AND enabled = 1 AND deleted = 0",
        )
        .bind(hash.to_owned())
        .bind(account.info.user.id.clone())
        .bind(project.map(str::to_owned))
        .bind(expires_ms)
        .bind(account.password.clone())
        .execute(&self.writer)
        .await?;
        Ok(made.rows_affected() > 0)
    }

    /// Ends a token of an account, and the temporary keys that were asked for with it; `false`: it has no such token.
    pub(crate) async fn token_delete(&self, hash: &str, account: &str) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let gone = sqlx::query("DELETE FROM token WHERE hash = $1 AND account = $2")
            .bind(hash.to_owned())
            .bind(account.to_owned())
            .execute(&mut *tx)
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM temporary_key WHERE parent = $1")
            .bind(hash.to_owned())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What a user is granted: where, and the policy.
    pub(crate) async fn rights(&self, account: &str) -> Result<Vec<(Option<String>, Policy)>> {
        let rows = sqlx::query(
            "SELECT g.project, g.policy, p.document FROM account_grant g \
             LEFT JOIN policy p ON p.id = g.policy WHERE g.account = $1",
        )
        .bind(account.to_owned())
        .fetch_all(&self.reader)
        .await?;
        let mut rights = Vec::with_capacity(rows.len());
        for row in &rows {
            let named = text(row, "policy")?;
            let policy = match text_or_none(row, "document")? {
                Some(document) => parsed(&document)?,
                None => match SYSTEM.iter().find(|system| system.id == named) {
                    Some(system) => system.policy(),
                    None => continue,
                },
            };
            rights.push((text_or_none(row, "project")?, policy));
        }
        Ok(rights)
    }

    /// Those of the system first, then by name.
    pub(crate) async fn policy_list(&self) -> Result<Vec<NamedPolicy>> {
        let rows = sqlx::query("SELECT * FROM policy ORDER BY name")
            .fetch_all(&self.reader)
            .await?;
        let of_system = SYSTEM.iter().map(|system| {
            Ok(NamedPolicy {
                id: system.id.to_owned(),
                name: system.name.to_owned(),
                description: Some(system.description.to_owned()),
                policy: system.policy(),
                system: true,
                updated_ms: 0,
            })
        });
        of_system.chain(rows.iter().map(policy)).collect()
    }

    /// Makes it, or replaces the one with its id.
    pub(crate) async fn policy_put(&self, new: &NamedPolicy) -> Result<()> {
        let put = sqlx::query(
            "INSERT INTO policy (id, name, description, document, created_ms, updated_ms) \
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO UPDATE SET name = $2, \
             description = $3, document = $4, updated_ms = $5",
        )
        .bind(new.id.clone())
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(new.policy.document().to_string())
        .bind(new.updated_ms);
        put.execute(&self.writer)
            .await
            .map_err(name_taken("policy"))?;
        Ok(())
    }

    /// `false`: it is granted to somebody.
    pub(crate) async fn policy_delete(&self, id: &str) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let granted = sqlx::query("SELECT COUNT(*) AS n FROM account_grant WHERE policy = $1")
            .bind(id.to_owned())
            .fetch_one(&mut *tx)
            .await?;
        if count(&granted, "n")? > 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM policy WHERE id = $1")
            .bind(id.to_owned())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Oldest first; the names of policies are looked up by the caller.
    pub(crate) async fn grant_list(&self, account: &str) -> Result<Vec<Grant>> {
        let rows =
            sqlx::query("SELECT * FROM account_grant WHERE account = $1 ORDER BY created_ms, id")
                .bind(account.to_owned())
                .fetch_all(&self.reader)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(Grant {
                    id: text(row, "id")?,
                    policy_id: text(row, "policy")?,
                    policy_name: String::new(),
                    project: text_or_none(row, "project")?,
                    created_ms: number(row, "created_ms")?,
                })
            })
            .collect()
    }

    /// Grants a policy to a user. What it has already is not granted twice.
    pub(crate) async fn grant_create(&self, account: &str, new: &Grant) -> Result<()> {
        sqlx::query(
            "INSERT INTO account_grant (id, account, policy, project, created_ms) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.id.clone())
        .bind(account.to_owned())
        .bind(new.policy_id.clone())
        .bind(new.project.clone())
        .bind(new.created_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// `NotFound(Grant)`.
    pub(crate) async fn grant_delete(&self, account: &str, id: &str) -> Result<()> {
        let gone = sqlx::query("DELETE FROM account_grant WHERE account = $1 AND id = $2")
            .bind(account.to_owned())
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        match gone.rows_affected() {
            0 => Err(Error::NotFound(Subject::Grant)),
            _ => Ok(()),
        }
    }
}

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn account_insert(new: &Account) -> Query<'static> {
    sqlx::query(
        "INSERT INTO account (id, name, password, owner, enabled, deleted, created_ms) \
         VALUES ($1, $2, $3, $4, $5, 0, $6)",
    )
    .bind(new.info.user.id.clone())
    .bind(new.info.user.name.clone())
    .bind(new.password.clone())
    .bind(i64::from(new.info.owner))
    .bind(i64::from(new.info.enabled))
    .bind(new.info.created_ms)
}

fn key_insert(
    account: &str,
    ak: &str,
    sk: &str,
    description: Option<String>,
    created_ms: i64,
) -> Query<'static> {
    sqlx::query(
        "INSERT INTO access_key (ak, account, sk, enabled, description, created_ms) \
         VALUES ($1, $2, $3, 1, $4, $5)",
    )
    .bind(ak.to_owned())
    .bind(account.to_owned())
    .bind(sk.to_owned())
    .bind(description)
    .bind(created_ms)
}

/// Ends the tokens and temporary keys of an account.
async fn credentials_end(tx: &mut sqlx::Transaction<'_, sqlx::Any>, account: &str) -> Result<()> {
    for sql in [
        "DELETE FROM token WHERE account = $1",
        "DELETE FROM temporary_key WHERE account = $1",
    ] {
        let end = sqlx::query(sql).bind(account.to_owned());
        end.execute(&mut **tx).await?;
    }
    Ok(())
}
