//! Which applications a caller sees, and what it may do with what belongs to them.
//!
//! The owner of the account sees all of them with all roles; everybody else those it made, with all
//! roles, and those somebody gave it a role in. An application that is not seen does not exist for
//! the caller, nor do its data sources.

use std::collections::HashMap;

use super::App;
use crate::catalog::StoredTask;
use crate::error::{Error, Result, Subject};
use crate::model::{Application, Role, RoleHolder, Scope};

/// The roles of a caller.
pub(super) enum Sees {
    /// All roles everywhere.
    All,
    /// By the application's id; others are not seen.
    Some(HashMap<String, Vec<Role>>),
}

impl Sees {
    /// Its roles in an application, in the order of the API.
    pub(super) fn roles(&self, application: &str) -> Vec<Role> {
        match self {
            Sees::All => Role::ALL.to_vec(),
            Sees::Some(roles) => roles.get(application).cloned().unwrap_or_default(),
        }
    }

    /// Whether it has a role there. Who may delete or change data sources may see them, and an
    /// administrator may everything.
    pub(super) fn has(&self, application: &str, role: Role) -> bool {
        let roles = self.roles(application);
        match role {
            Role::Read => roles.iter().any(|role| *role != Role::Access),
            role => roles.contains(&role) || roles.contains(&Role::Admin),
        }
    }

    /// Whether it sees a task: the data sources that it has.
    pub(super) fn task(&self, task: &StoredTask) -> bool {
        let named = [&task.source_app, &task.target_app];
        let named = named
            .into_iter()
            .flatten()
            .all(|app| self.has(app, Role::Read));
        let ends = [&task.shown.source, &task.shown.target];
        named
            && ends
                .into_iter()
                .flatten()
                .all(|end| self.has(&end.app_id, Role::Read))
    }

    /// `Denied` unless it has a role in an application it sees.
    pub(super) fn needs(&self, application: &str, role: Role) -> Result<()> {
        match self.has(application, role) {
            true => Ok(()),
            false => Err(Error::Denied(format!(
                "you do not have the role {} in the integration application: ask who made it, or the \
                 owner of the account",
                role.as_str()
            ))),
        }
    }
}

impl App {
    /// What a caller sees.
    pub(super) async fn sees(&self, scope: &Scope) -> Result<Sees> {
        if scope.owner {
            return Ok(Sees::All);
        }
        let given = self.catalog().roles_of(&scope.user.id).await?;
        let mut roles: HashMap<String, Vec<Role>> = given.into_iter().collect();
        for made in self.catalog().application_list(&scope.instance).await? {
            if made.created_by.id == scope.user.id {
                roles.insert(made.id, Role::ALL.to_vec());
            }
        }
        Ok(Sees::Some(roles))
    }

    /// An application the caller sees, with its roles there. `NotFound(Application)`.
    pub(super) async fn seen(&self, scope: &Scope, id: &str) -> Result<(Application, Sees)> {
        let sees = self.sees(scope).await?;
        let mut found = self.catalog().application_show(&scope.instance, id).await?;
        found.roles = sees.roles(id);
        match found.roles.is_empty() {
            true => Err(Error::NotFound(Subject::Application)),
            false => Ok((found, sees)),
        }
    }

    /// A task, drafts included, whose data sources the caller sees. `NotFound(Task)`.
    pub(super) async fn task_seen(&self, scope: &Scope, id: &str) -> Result<StoredTask> {
        let task = self.catalog().task_show(&scope.instance, id).await?;
        match self.sees(scope).await?.task(&task) {
            true => Ok(task),
            false => Err(Error::NotFound(Subject::Task)),
        }
    }

    /// Who was given roles in an application, by name.
    pub async fn role_list(&self, scope: &Scope, application: &str) -> Result<Vec<RoleHolder>> {
        self.seen(scope, application).await?;
        self.catalog().role_list(application).await
    }

    /// Replaces the roles of a user in an application; none of them takes it out.
    pub async fn role_set(
        &self,
        scope: &Scope,
        application: &str,
        user: &str,
        roles: &[Role],
    ) -> Result<RoleHolder> {
        let (_, sees) = self.seen(scope, application).await?;
        sees.needs(application, Role::Admin)?;
        let user = self.user_show(user).await?.user;
        let in_order = Role::ALL.into_iter().filter(|role| roles.contains(role));
        let roles: Vec<Role> = in_order.collect();
        self.catalog()
            .role_put(application, &user.id, &roles)
            .await?;
        Ok(RoleHolder { user, roles })
    }
}
