//! Users, their keys, and what they are granted.
//!
//! The owner of the account may do everything, and nobody else may change it: whoever could set its
//! password would be the owner.

use thalweg_core::secret::Secret;

use super::App;
use super::access::{hash, lasting, matches, new_key_pair, new_password, sk_owner};
use crate::catalog::{Account, AccountChange, KEYS_MAX, new_id, now_ms};
use crate::error::{Error, Result, Subject};
use crate::model::{
    AccessKey, Caller, Grant, NamedPolicy, NewKey, NewPolicy, User, UserChange, UserInfo,
};

/// Users there may be.
const USERS_MAX: usize = 1_000;
/// Policies granted to a user.
const GRANTS_MAX: usize = 100;
/// Policies somebody wrote.
const POLICIES_MAX: usize = 200;

fn policy_named<'a>(all: &'a [NamedPolicy], id: &str) -> Option<&'a NamedPolicy> {
    all.iter().find(|policy| policy.id == id)
}

impl App {
    /// All users, by name.
    pub async fn user_list(&self) -> Result<Vec<UserInfo>> {
        self.catalog().account_list().await
    }

    /// One of them. `NotFound(User)`.
    pub async fn user_show(&self, id: &str) -> Result<UserInfo> {
        Ok(self.catalog().account_show(id).await?.info)
    }

    /// Makes a user, who may do nothing yet; with its password, which is made if none is given.
    pub async fn user_create(
        &self,
        caller: &Caller,
        name: String,
        password: Option<Secret>,
    ) -> Result<(UserInfo, Secret)> {
        lasting(caller)?;
        if self.catalog().account_list().await?.len() >= USERS_MAX {
            return Err(Error::invalid(
                "name",
                format!("there are {USERS_MAX} users, the most there may be"),
            ));
        }
        let password = password.unwrap_or_else(new_password);
        let account = Account {
            info: UserInfo {
                user: User { id: new_id(), name },
                owner: false,
                enabled: true,
                created_ms: now_ms(),
            },
            password: hash(password.clone()).await?,
        };
        self.catalog().account_create(&account).await?;
        Ok((account.info, password))
    }

    /// Changes what is given. Being disabled ends the user's tokens and temporary keys.
    pub async fn user_update(
        &self,
        caller: &Caller,
        id: &str,
        change: UserChange,
    ) -> Result<UserInfo> {
        lasting(caller)?;
        let account = self.changeable(caller, id).await?;
        if account.info.owner && change.enabled == Some(false) {
            return Err(Error::invalid(
                "enabled",
                "the owner of the account cannot be disabled",
            ));
        }
        let change = AccountChange {
            name: change.name,
            password: None,
            enabled: change.enabled,
        };
        match self.catalog().account_update(id, change, None).await? {
            true => self.user_show(id).await,
            false => Err(Error::NotFound(Subject::User)),
        }
    }

    /// Sets a user's password, which ends its tokens and temporary keys. `old`: its present password, which a
    /// caller has to give that changes its own.
    pub async fn user_password_set(
        &self,
        caller: &Caller,
        id: &str,
        new: Secret,
        old: Option<Secret>,
    ) -> Result<()> {
        lasting(caller)?;
        let account = self.changeable(caller, id).await?;
        let own = caller.user.id == account.info.user.id;
        if own {
            let given = old.ok_or_else(|| {
                Error::invalid(
                    "old_password",
                    "give your present password with the new one",
                )
            })?;
            if !matches(given, account.password.clone()).await {
                return Err(Error::invalid("old_password", "this is not your password"));
            }
        }
        let change = AccountChange {
            password: Some(hash(new).await?),
            ..AccountChange::default()
        };
        // Somebody may have disabled the user meanwhile, or set its password.
        let expects = own.then_some(account.password.as_str());
        match self.catalog().account_update(id, change, expects).await? {
            true => Ok(()),
            false if !own => Err(Error::NotFound(Subject::User)),
            false => Err(Error::invalid(
                "old_password",
                "this is not your password any more",
            )),
        }
    }

    /// Deletes a user with its keys, tokens and grants. What it made stays.
    pub async fn user_delete(&self, id: &str) -> Result<()> {
        if self.user_show(id).await?.owner {
            return Err(Error::invalid(
                "user_id",
                "the owner of the account cannot be deleted",
            ));
        }
        self.catalog().account_delete(id).await
    }

    /// A user whom the caller may change: anybody but the owner, who changes itself.
    async fn changeable(&self, caller: &Caller, id: &str) -> Result<Account> {
        let account = self.catalog().account_show(id).await?;
        if account.info.owner && !caller.owner {
            return Err(Error::Denied(
                "only the owner of the account may change it".to_owned(),
            ));
        }
        Ok(account)
    }

    /// The access keys of a user, oldest first.
    pub async fn key_list(&self, user: &str) -> Result<Vec<AccessKey>> {
        self.user_show(user).await?;
        self.catalog().key_list(user).await
    }

    /// One more key, whose secret is shown once. `Invalid` if the user has two.
    pub async fn key_create(
        &self,
        caller: &Caller,
        user: &str,
        description: Option<String>,
    ) -> Result<NewKey> {
        lasting(caller)?;
        self.changeable(caller, user).await?;
        let (ak, sk) = new_key_pair();
        let sealed = self.inner.seal.seal(&sk_owner(&ak), &sk)?;
        let key = AccessKey {
            ak,
            enabled: true,
            description,
            created_ms: now_ms(),
        };
        match self.catalog().key_create(user, &key, &sealed).await? {
            true => Ok(NewKey { key, sk }),
            false => Err(Error::invalid(
                "user_id",
                format!(
                    "a user has at most {KEYS_MAX} keys: delete the one that is not used any more"
                ),
            )),
        }
    }

    /// Enables, disables or describes a key; `None` leaves as it is.
    pub async fn key_update(
        &self,
        caller: &Caller,
        (user, ak): (&str, &str),
        enabled: Option<bool>,
        description: Option<String>,
    ) -> Result<AccessKey> {
        lasting(caller)?;
        self.changeable(caller, user).await?;
        let keys = self.catalog().key_list(user).await?;
        let found = keys.into_iter().find(|key| key.ak == ak);
        let mut key = found.ok_or(Error::NotFound(Subject::Key))?;
        key.enabled = enabled.unwrap_or(key.enabled);
        key.description = description.or(key.description);
        self.catalog().key_update(user, &key).await?;
        Ok(key)
    }

    /// Deletes a key; the user's tokens end with it.
    pub async fn key_delete(&self, caller: &Caller, user: &str, ak: &str) -> Result<()> {
        self.changeable(caller, user).await?;
        self.catalog().key_delete(user, ak).await
    }

    /// All policies, those of the system first.
    pub async fn policy_list(&self) -> Result<Vec<NamedPolicy>> {
        self.catalog().policy_list().await
    }

    /// One of them. `NotFound(Policy)`.
    pub async fn policy_show(&self, id: &str) -> Result<NamedPolicy> {
        let all = self.catalog().policy_list().await?;
        policy_named(&all, id)
            .cloned()
            .ok_or(Error::NotFound(Subject::Policy))
    }

    /// Stores a policy.
    pub async fn policy_create(&self, caller: &Caller, new: NewPolicy) -> Result<NamedPolicy> {
        lasting(caller)?;
        let own = self
            .policy_list()
            .await?
            .iter()
            .filter(|one| !one.system)
            .count();
        if own >= POLICIES_MAX {
            return Err(Error::invalid(
                "name",
                format!("there are {POLICIES_MAX} policies, the most there may be"),
            ));
        }
        self.policy_put(new_id(), new).await
    }

    /// Replaces a policy. It holds at once for everybody it is granted to.
    pub async fn policy_update(
        &self,
        caller: &Caller,
        id: &str,
        new: NewPolicy,
    ) -> Result<NamedPolicy> {
        lasting(caller)?;
        self.policy_of_ours(id).await?;
        self.policy_put(id.to_owned(), new).await
    }

    async fn policy_put(&self, id: String, new: NewPolicy) -> Result<NamedPolicy> {
        if self
            .policy_list()
            .await?
            .iter()
            .any(|one| one.system && one.name == new.name)
        {
            return Err(Error::invalid(
                "name",
                "a policy of the system has this name; choose another",
            ));
        }
        let policy = NamedPolicy {
            id,
            name: new.name,
            description: new.description,
            policy: new.policy,
            system: false,
            updated_ms: now_ms(),
        };
        self.catalog().policy_put(&policy).await?;
        Ok(policy)
    }

    /// Deletes a policy that is granted to nobody.
    pub async fn policy_delete(&self, id: &str) -> Result<()> {
        self.policy_of_ours(id).await?;
        match self.catalog().policy_delete(id).await? {
            true => Ok(()),
            false => Err(Error::invalid(
                "policy_id",
                "the policy is granted to a user; take it back first",
            )),
        }
    }

    async fn policy_of_ours(&self, id: &str) -> Result<()> {
        match self.policy_show(id).await?.system {
            false => Ok(()),
            true => Err(Error::invalid(
                "policy_id",
                "this policy is the system's; write another one",
            )),
        }
    }

    /// What a user is granted, oldest first.
    pub async fn grant_list(&self, user: &str) -> Result<Vec<Grant>> {
        self.user_show(user).await?;
        let policies = self.catalog().policy_list().await?;
        let mut grants = self.catalog().grant_list(user).await?;
        for grant in &mut grants {
            if let Some(policy) = policy_named(&policies, &grant.policy_id) {
                grant.policy_name.clone_from(&policy.name);
            }
        }
        Ok(grants)
    }

    /// Grants a policy to a user, in one project or (`None`) in all and outside of them.
    pub async fn grant_create(
        &self,
        caller: &Caller,
        user: &str,
        policy: &str,
        project: Option<String>,
    ) -> Result<Grant> {
        lasting(caller)?;
        let has = self.grant_list(user).await?;
        let named = self
            .policy_show(policy)
            .await
            .map_err(|error| match error {
                Error::NotFound(_) => {
                    Error::invalid("policy_id", "there is no policy with this id")
                }
                other => other,
            })?;
        if let Some(project) = &project
            && !self
                .catalog()
                .project_list()
                .await?
                .iter()
                .any(|one| one.id == *project)
        {
            return Err(Error::invalid(
                "project_id",
                "there is no project with this id",
            ));
        }
        if let Some(same) = has
            .iter()
            .find(|grant| grant.policy_id == policy && grant.project == project)
        {
            return Ok(same.clone());
        }
        if has.len() >= GRANTS_MAX {
            return Err(Error::invalid(
                "policy_id",
                format!("the user is granted {GRANTS_MAX} policies, the most there may be"),
            ));
        }
        let grant = Grant {
            id: new_id(),
            policy_id: named.id,
            policy_name: named.name,
            project,
            created_ms: now_ms(),
        };
        self.catalog().grant_create(user, &grant).await?;
        Ok(grant)
    }

    /// Takes a policy back. It counts from the next call on.
    pub async fn grant_delete(&self, user: &str, id: &str) -> Result<()> {
        self.user_show(user).await?;
        self.catalog().grant_delete(user, id).await
    }
}
