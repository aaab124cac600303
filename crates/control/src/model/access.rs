//! Users, their keys, and what they may do.

use std::fmt;

use thalweg_core::secret::Secret;

use crate::policy::{self, Action, Policy};

/// Who calls, as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Login name.
    pub name: String,
}

/// How a caller proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token, which is good for one project.
    Token {
        /// That project's id; `None`: it opens none.
        project: Option<String>,
        /// What the token is stored as.
        hash: String,
    },
    /// An access key.
    Key {
        /// Its public half.
        ak: String,
    },
    /// A temporary access key.
    TemporaryKey {
        /// Its public half.
        ak: String,
        /// The only project it opens; `None`: all that its user may use.
        project: Option<String>,
    },
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Token { .. } => f.write_str("token"),
            Credential::Key { ak } | Credential::TemporaryKey { ak, .. } => f.write_str(ak),
        }
    }
}

/// Who calls, and what they may do.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) user: User,
    pub(crate) owner: bool,
    pub(crate) credential: Credential,
    /// Each with the project it is for; `None`: in all of them, and outside.
    pub(crate) grants: Vec<(Option<String>, Policy)>,
}

impl Caller {
    /// Who it is.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// How it proved that.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether it owns the account: then it may do everything.
    pub fn is_owner(&self) -> bool {
        self.owner
    }

    /// Whether it may do something in a project, or (`None`) outside of all.
    pub fn may(&self, action: Action, project: Option<&str>) -> bool {
        let here = self
            .grants
            .iter()
            .filter(|(at, _)| at.is_none() || at.as_deref() == project)
            .map(|(_, policy)| policy);
        self.owner || policy::allow(here, action)
    }

    /// Whether it has anything to do with a project.
    pub(crate) fn knows(&self, project: &str) -> bool {
        let others = match &self.credential {
            Credential::Token { project: own, .. } => own.as_deref() != Some(project),
            Credential::TemporaryKey { project: own, .. } => {
                own.as_deref().is_some_and(|own| own != project)
            }
            Credential::Key { .. } => false,
        };
        let granted =
            |(at, _): &(Option<String>, Policy)| at.as_deref().is_none_or(|at| at == project);
        !others && (self.owner || self.grants.iter().any(granted))
    }
}

/// A caller inside the instance a path names; made by [`crate::App::scope`] only.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(crate) project: String,
    pub(crate) instance: String,
    pub(crate) user: User,
    /// Whether it sees every application.
    pub(crate) owner: bool,
}

impl Scope {
    /// The project's id.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The instance's id.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Who calls.
    pub fn user(&self) -> &User {
        &self.user
    }
}

/// A token just given out.
#[derive(Clone, Debug)]
pub struct Login {
    /// The token itself; only its hash is stored.
    pub token: Secret,
    /// Whose it is.
    pub user: User,
    /// Name of the account's domain.
    pub domain: String,
    /// The project it is good for; `None`: the user may use none.
    pub project: Option<Project>,
    /// Milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// What the first start made; shown once.
#[derive(Clone, Debug)]
pub struct FirstStart {
    /// Project id: 32 hexadecimal digits.
    pub project: String,
    /// Instance id: a UUID.
    pub instance: String,
    /// Domain name.
    pub domain: String,
    /// Login name of the account's owner.
    pub user: String,
    /// Their password.
    pub password: Secret,
    /// Their access key.
    pub ak: String,
    /// Its secret.
    pub sk: Secret,
}

/// A user as those see it who may administer users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Who.
    pub user: User,
    /// Whether it owns the account.
    pub owner: bool,
    /// Whether it may sign in and call.
    pub enabled: bool,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// What is to become of a user; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New login name.
    pub name: Option<String>,
    /// Whether it may sign in and call.
    pub enabled: Option<bool>,
}

/// An access key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public half.
    pub ak: String,
    /// Whether it opens anything.
    pub enabled: bool,
    /// Free text.
    pub description: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A pair of keys just made; its secret is shown once.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key.
    pub key: AccessKey,
    /// Its secret half.
    pub sk: Secret,
}

/// A pair of keys for a while.
#[derive(Clone, Debug)]
pub struct TemporaryKey {
    /// Its public half.
    pub ak: String,
    /// Its secret half.
    pub sk: Secret,
    /// Goes with every request that it signs.
    pub security_token: Secret,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// A policy with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPolicy {
    /// 32 hexadecimal digits, or the word of one of the system's.
    pub id: String,
    /// Unique.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// What it allows and denies.
    pub policy: Policy,
    /// Whether it is the system's, and cannot be changed.
    pub system: bool,
    /// Milliseconds since the Unix epoch; 0 for those of the system.
    pub updated_ms: i64,
}

/// A policy to be stored.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// Unique.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// What it allows and denies.
    pub policy: Policy,
}

/// A policy granted to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The policy's id.
    pub policy_id: String,
    /// The policy's name.
    pub policy_name: String,
    /// Where it holds; `None`: in all projects, and outside of them.
    pub project: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// Milliseconds since the Unix epoch; 0 for that of the first start.
    pub created_ms: i64,
}

/// An instance of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// A UUID.
    pub id: String,
    /// Free text.
    pub name: String,
    /// Milliseconds since the Unix epoch; 0 for that of the first start.
    pub created_ms: i64,
}

/// What a user may do with an application and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See its data sources, and use them in tasks.
    Read,
    /// Use what it offers to callers from outside; nothing of ours asks for it.
    Access,
    /// Delete it, and its data sources.
    Delete,
    /// Change it, and make and change its data sources.
    Modify,
    /// All of that, and give roles to others.
    Admin,
}

impl Role {
    /// In the order of the API.
    pub const ALL: [Role; 5] = [
        Role::Read,
        Role::Access,
        Role::Delete,
        Role::Modify,
        Role::Admin,
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Access => "access",
            Role::Delete => "delete",
            Role::Modify => "modify",
            Role::Admin => "admin",
        }
    }

    /// From the word of the API.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// A user with roles in an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleHolder {
    /// Who.
    pub user: User,
    /// In the order of the API.
    pub roles: Vec<Role>,
}
