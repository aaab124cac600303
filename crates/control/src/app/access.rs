//! Who calls: passwords, tokens, access keys, and the place a path names.

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use rand::Rng as _;
use ring::digest::{SHA256, digest};
use thalweg_core::secret::Secret;
use tokio::sync::OnceCell;

use super::App;
use crate::catalog::{Account, Catalog, NewTemporaryKey, new_id, now_ms};
use crate::error::{Error, Result, Subject};
use crate::model::{
    Caller, Credential, FirstStart, Instance, Login, Project, Scope, TemporaryKey, User, UserInfo,
};
use crate::policy::Action;
use crate::seal::{Seal, hex};

const DOMAIN: &str = "thalweg";

const LETTERS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Makes the project, the instance and the account's owner.
pub(super) async fn first_start(
    catalog: &Catalog,
    seal: &Seal,
    announce: fn(&FirstStart) -> Result<(), String>,
) -> Result<FirstStart> {
    let (ak, sk) = new_key_pair();
    let first = FirstStart {
        project: new_id(),
        instance: uuid::Uuid::new_v4().to_string(),
        domain: DOMAIN.to_owned(),
        user: "admin".to_owned(),
        password: new_password(),
        ak,
        sk,
    };
    let created_ms = now_ms();
    let owner = Account {
        info: UserInfo {
            user: User {
                id: new_id(),
                name: first.user.clone(),
            },
            owner: true,
            enabled: true,
            created_ms,
        },
        password: hash(first.password.clone()).await?,
    };
    let sk = seal.seal(&sk_owner(&first.ak), &first.sk)?;
    announce(&first).map_err(Error::Internal)?;
    let canary = seal.seal("canary", &Secret::new("thalweg"))?;
    let server = uuid::Uuid::new_v4().to_string();
    let project = Project {
        id: first.project.clone(),
        name: "default".to_owned(),
        created_ms,
    };
    let instance = Instance {
        id: first.instance.clone(),
        name: "default".to_owned(),
        created_ms,
    };
    catalog
        .first_start(
            &[("server", &server), ("domain", DOMAIN), ("canary", &canary)],
            &project,
            &instance,
            (&owner, &first.ak, &sk),
        )
        .await?;
    Ok(first)
}

/// An access key and its secret, in the form of the original's.
pub(super) fn new_key_pair() -> (String, Secret) {
    let ak = random(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 20);
    (ak, Secret::new(random(LETTERS_AND_DIGITS, 40)))
}

/// Why nobody is signed in, without telling which of the two is wrong.
pub const WRONG_PASSWORD: &str = "the user name or password is wrong";

/// The hash of a password that nobody has.
async fn nobody() -> Result<String> {
    static HASH: OnceCell<String> = OnceCell::const_new();
    let made = HASH.get_or_try_init(|| hash(new_password())).await?;
    Ok(made.clone())
}

/// Without characters that look alike.
pub(super) fn new_password() -> Secret {
    Secret::new(random(b"abcdefghijkmnpqrstuvwxyz23456789", 24))
}

/// What a sealed secret key belongs to.
pub(super) fn sk_owner(ak: &str) -> String {
    format!("account/{ak}/sk")
}

/// Hashing is slow on purpose, so it has a thread of its own.
pub(super) async fn hash(password: Secret) -> Result<String> {
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

pub(super) async fn matches(password: Secret, stored: String) -> bool {
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

/// `Denied` for a temporary key: what it makes would outlive it.
pub(super) fn lasting(caller: &Caller) -> Result<()> {
    match caller.credential {
        Credential::Token { .. } | Credential::Key { .. } => Ok(()),
        Credential::TemporaryKey { .. } => Err(Error::Denied(
            "a temporary key makes no other credentials: use a token, or a key that is not temporary"
                .to_owned(),
        )),
    }
}

fn token_hash(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

/// A secret that a key was found with, for checking a signature.
#[derive(Debug)]
pub struct KeySecret {
    /// The secret half of the key.
    pub sk: Secret,
    token_hash: Option<String>,
}

impl KeySecret {
    /// Whether a security token goes with the key; a key that is not temporary has none.
    pub fn goes_with(&self, security_token: Option<&str>) -> bool {
        self.token_hash == security_token.map(token_hash)
    }
}

impl App {
    /// A new token for a user of the domain, scoped to the project (by id or name; neither: the first one the
    /// user knows, if any). `Unauthenticated` if anything of it is wrong, without telling what.
    pub async fn login(
        &self,
        domain: Option<&str>,
        name: &str,
        password: &Secret,
        project_id: Option<&str>,
        project_name: Option<&str>,
    ) -> Result<Login> {
        let refused = || Error::Unauthenticated(WRONG_PASSWORD.to_owned());
        let account = self.catalog().account_by_name(name).await?;
        // A user that does not exist takes as long as a wrong password.
        let stored = match &account {
            Some(account) => account.password.clone(),
            None => nobody().await?,
        };
        let right = matches(password.clone(), stored).await;
        let account = account.filter(|account| right && account.info.enabled);
        let account = account.ok_or_else(refused)?;
        let info = account.info.clone();
        if domain.is_some_and(|domain| domain != self.inner.domain) {
            return Err(refused());
        }
        let user = info.user.clone();
        // Judged as a key's is, which is bound to no project.
        let caller = self
            .caller(info, Credential::Key { ak: String::new() })
            .await?;
        let mut known = self.catalog().project_list().await?;
        known.retain(|project| caller.knows(&project.id));
        known.sort_by_key(|project| project.created_ms);
        let wanted = |project: &Project| {
            project_id.is_none_or(|id| id == project.id)
                && project_name.is_none_or(|name| name == project.name)
        };
        let project = known.into_iter().find(wanted);
        if project.is_none() && (project_id.is_some() || project_name.is_some()) {
            return Err(Error::Unauthenticated(
                "the user has no such project".to_owned(),
            ));
        }
        let token = random(LETTERS_AND_DIGITS, 64);
        let issued_ms = now_ms();
        let life = i64::try_from(self.inner.token_life.as_millis()).unwrap_or(i64::MAX);
        let expires_ms = issued_ms.saturating_add(life);
        let project_id = project.as_ref().map(|project| project.id.as_str());
        let hash = token_hash(&token);
        let made = self
            .catalog()
            .token_create(&hash, &account, project_id, expires_ms);
        if !made.await? {
            return Err(refused());
        }
        Ok(Login {
            token: Secret::new(token),
            user,
            domain: self.inner.domain.clone(),
            project,
            issued_ms,
            expires_ms,
        })
    }

    /// Ends one of the caller's own tokens. `NotFound(Token)`.
    pub async fn token_delete(&self, caller: &Caller, token: &str) -> Result<()> {
        let hash = token_hash(token);
        match self.catalog().token_delete(&hash, &caller.user.id).await? {
            true => Ok(()),
            false => Err(Error::NotFound(Subject::Token)),
        }
    }

    /// Whether there is a user of this name.
    pub async fn user_exists(&self, name: &str) -> Result<bool> {
        Ok(self.catalog().account_by_name(name).await?.is_some())
    }

    /// The caller a token stands for. `Unauthenticated` if it is unknown or has ended.
    pub async fn caller_by_token(&self, token: &str) -> Result<Caller> {
        let hash = token_hash(token);
        match self.catalog().account_by_token(&hash).await? {
            Some((account, project)) => {
                self.caller(account.info, Credential::Token { project, hash })
                    .await
            }
            None => Err(Error::Unauthenticated(
                "the token is unknown or has expired".to_owned(),
            )),
        }
    }

    /// The caller an access key stands for, and its secret, for checking a signature.
    /// `Unauthenticated` if it is unknown.
    pub async fn caller_by_access_key(&self, ak: &str) -> Result<(Caller, KeySecret)> {
        let found = self.catalog().account_by_access_key(ak).await?;
        let found =
            found.ok_or_else(|| Error::Unauthenticated("the access key is unknown".to_owned()))?;
        let secret = KeySecret {
            sk: self.inner.seal.unseal(&sk_owner(ak), &found.sk)?,
            token_hash: found.token_hash,
        };
        let ak = ak.to_owned();
        let credential = match &secret.token_hash {
            None => Credential::Key { ak },
            Some(_) => Credential::TemporaryKey {
                ak,
                project: found.project,
            },
        };
        let caller = self.caller(found.account.info, credential).await?;
        Ok((caller, secret))
    }

    async fn caller(&self, info: UserInfo, credential: Credential) -> Result<Caller> {
        let grants = match info.owner {
            true => Vec::new(),
            false => self.catalog().rights(&info.user.id).await?,
        };
        Ok(Caller {
            user: info.user,
            owner: info.owner,
            credential,
            grants,
        })
    }

    /// A temporary key of the caller, with its rights, for `seconds`.
    pub async fn temporary_key_create(
        &self,
        caller: &Caller,
        seconds: u32,
    ) -> Result<TemporaryKey> {
        lasting(caller)?;
        let (ak, sk) = new_key_pair();
        let security_token = random(LETTERS_AND_DIGITS, 64);
        let expires_ms = now_ms() + i64::from(seconds) * 1000;
        let sealed = self.inner.seal.seal(&sk_owner(&ak), &sk)?;
        let hash = token_hash(&security_token);
        let (parent, project) = match &caller.credential {
            Credential::Token { project, hash } => (hash, project.as_deref()),
            Credential::Key { ak } => (ak, None),
            Credential::TemporaryKey { ak, project } => (ak, project.as_deref()),
        };
        let new = NewTemporaryKey {
            ak: &ak,
            sk: &sealed,
            token_hash: &hash,
            expires_ms,
            parent,
            project,
        };
        self.catalog()
            .temporary_key_create(&caller.user.id, &new)
            .await?;
        Ok(TemporaryKey {
            ak,
            sk,
            security_token: Secret::new(security_token),
            expires_ms,
        })
    }

    /// `Denied` unless the caller may do this in the project, or (`None`) outside of all.
    pub fn admit(&self, caller: &Caller, action: Action, project: Option<&str>) -> Result<()> {
        match caller.may(action, project) {
            true => Ok(()),
            false => Err(Error::Denied(format!(
                "no policy granted to user {} allows {}: ask the owner of the account for one that does",
                caller.user.name, action.0
            ))),
        }
    }

    /// `OtherProject` unless the caller has to do with the project, whether it exists or not.
    pub async fn project_known(&self, caller: &Caller, project: &str) -> Result<()> {
        if !caller.knows(project) {
            return Err(Error::OtherProject);
        }
        let all = self.catalog().project_list().await?;
        match all.iter().any(|known| known.id == project) {
            true => Ok(()),
            false => Err(Error::OtherProject),
        }
    }

    /// The project and instance of a path: `OtherProject`, or `NotFound(Instance)`.
    pub async fn scope(&self, caller: &Caller, project: &str, instance: &str) -> Result<Scope> {
        self.project_known(caller, project).await?;
        let instances = self.catalog().instance_list(project).await?;
        if !instances.iter().any(|known| known.id == instance) {
            return Err(Error::NotFound(Subject::Instance));
        }
        Ok(Scope {
            project: project.to_owned(),
            instance: instance.to_owned(),
            user: caller.user.clone(),
            owner: caller.owner,
        })
    }

    /// The instance a path of the project means that names none: its only one. `OtherProject`, or
    /// `NotFound(Instance)` if there is not exactly one.
    pub async fn scope_of_project(&self, caller: &Caller, project: &str) -> Result<Scope> {
        self.project_known(caller, project).await?;
        match self.catalog().instance_list(project).await?.as_slice() {
            [only] => self.scope(caller, project, &only.id).await,
            _ => Err(Error::NotFound(Subject::Instance)),
        }
    }
}
