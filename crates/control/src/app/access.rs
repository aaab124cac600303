//! Who calls: accounts, tokens, access keys, and the place a path names.

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use rand::Rng as _;
use ring::digest::{SHA256, digest};
use thalweg_core::secret::Secret;

use super::App;
use crate::catalog::{Account, Catalog, new_id, now_ms};
use crate::error::{Error, Result, Subject};
use crate::model::{FirstStart, Login, Scope, User};
use crate::seal::{Seal, hex};

/// How long a token lives, in milliseconds.
const TOKEN_MS: i64 = 24 * 60 * 60 * 1000;

const DOMAIN: &str = "thalweg";

/// Makes the project, the instance and the administrator.
pub(super) async fn first_start(
    catalog: &Catalog,
    seal: &Seal,
    announce: fn(&FirstStart) -> Result<(), String>,
) -> Result<FirstStart> {
    let first = FirstStart {
        project: new_id(),
        instance: uuid::Uuid::new_v4().to_string(),
        domain: DOMAIN.to_owned(),
        user: "admin".to_owned(),
        password: Secret::new(random(b"abcdefghijkmnpqrstuvwxyz23456789", 24)),
        ak: random(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 20),
        sk: Secret::new(random(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            40,
        )),
    };
    let account = Account {
        user: User {
            id: new_id(),
            name: first.user.clone(),
        },
        password: hash(first.password.clone()).await?,
        sk: seal.seal(&sk_owner(&first.ak), &first.sk)?,
        ak: first.ak.clone(),
    };
    announce(&first).map_err(Error::Internal)?;
    let canary = seal.seal("canary", &Secret::new("thalweg"))?;
    let server = uuid::Uuid::new_v4().to_string();
    catalog
        .first_start(
            &[("server", &server), ("domain", DOMAIN), ("canary", &canary)],
            (&first.project, "default"),
            &first.instance,
            &account,
        )
        .await?;
    Ok(first)
}

fn sk_owner(ak: &str) -> String {
    format!("account/{ak}/sk")
}

/// Hashing is slow on purpose, so it has a thread of its own.
async fn hash(password: Secret) -> Result<String> {
    let work = move || {
        let salt = SaltString::generate(&mut OsRng);
        Argon2::default()
            .hash_password(password.expose().as_bytes(), &salt)
            .map(|hash| hash.to_string())
            .map_err(|error| Error::Internal(error.to_string()))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

async fn matches(password: Secret, stored: String) -> bool {
    let work = move || {
        PasswordHash::new(&stored).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.expose().as_bytes(), &hash)
                .is_ok()
        })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(false)
}

pub(super) fn random(alphabet: &[u8], length: usize) -> String {
    let mut rng = rand::rng();
    let pick = |_| {
        let at = rng.random_range(0..alphabet.len());
        alphabet.get(at).copied().map_or('0', char::from)
    };
    (0..length).map(pick).collect()
}

fn token_hash(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

impl App {
    /// A new token for a user of the domain, scoped to the project (by id or name; `None`: the only
    /// one). `Unauthenticated` if anything of it is wrong, without telling what.
    pub async fn login(
        &self,
        domain: Option<&str>,
        name: &str,
        password: &Secret,
        project_id: Option<&str>,
        project_name: Option<&str>,
    ) -> Result<Login> {
        let refused = || Error::Unauthenticated("the user name or password is wrong".to_owned());
        let account = self.catalog().account_by_name(name).await?;
        // A user that does not exist takes as long as a wrong password.
        let stored = match &account {
            Some(account) => account.password.clone(),
            None => hash(Secret::new("nobody")).await?,
        };
        let right = matches(password.clone(), stored).await;
        let account = account.filter(|_| right).ok_or_else(refused)?;
        if domain.is_some_and(|domain| domain != self.inner.domain) {
            return Err(refused());
        }
        let project = self.catalog().project().await?;
        if project_id.is_some_and(|id| id != project.0)
            || project_name.is_some_and(|name| name != project.1)
        {
            return Err(Error::Unauthenticated(
                "the user has no such project".to_owned(),
            ));
        }
        let token = random(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            64,
        );
        let issued_ms = now_ms();
        let expires_ms = issued_ms + TOKEN_MS;
        self.catalog()
            .token_create(&token_hash(&token), &account.user.id, expires_ms)
            .await?;
        Ok(Login {
            token: Secret::new(token),
            user: account.user,
            domain: self.inner.domain.clone(),
            project,
            issued_ms,
            expires_ms,
        })
    }

    /// The caller a token stands for. `Unauthenticated` if it is unknown or has expired.
    pub async fn user_by_token(&self, token: &str) -> Result<User> {
        let account = self.catalog().account_by_token(&token_hash(token)).await?;
        account
            .map(|account| account.user)
            .ok_or_else(|| Error::Unauthenticated("the token is unknown or has expired".to_owned()))
    }

    /// The caller an access key stands for, and its secret, for checking a signature.
    /// `Unauthenticated` if it is unknown.
    pub async fn user_by_access_key(&self, ak: &str) -> Result<(User, Secret)> {
        let account = self.catalog().account_by_access_key(ak).await?;
        let account = account
            .ok_or_else(|| Error::Unauthenticated("the access key is unknown".to_owned()))?;
        let sk = self.inner.seal.unseal(&sk_owner(ak), &account.sk)?;
        Ok((account.user, sk))
    }

    /// The project and instance of a path: `OtherProject`, or `NotFound(Instance)`.
    pub async fn scope(&self, user: &User, project: &str, instance: &str) -> Result<Scope> {
        let (own, _) = self.catalog().project().await?;
        if own != project {
            return Err(Error::OtherProject);
        }
        let instances = self.catalog().instances(project).await?;
        if !instances.iter().any(|known| known == instance) {
            return Err(Error::NotFound(Subject::Instance));
        }
        Ok(Scope {
            project: project.to_owned(),
            instance: instance.to_owned(),
            user: user.clone(),
        })
    }

    /// The instance a path of the project means that names none: its only one. `OtherProject`, or
    /// `NotFound(Instance)` if there is not exactly one.
    pub async fn scope_of_project(&self, user: &User, project: &str) -> Result<Scope> {
        let (own, _) = self.catalog().project().await?;
        if own != project {
            return Err(Error::OtherProject);
        }
        match self.catalog().instances(project).await?.as_slice() {
            [only] => self.scope(user, project, only).await,
            _ => Err(Error::NotFound(Subject::Instance)),
        }
    }
}
