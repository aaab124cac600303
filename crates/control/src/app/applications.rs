//! Integration applications.

use thalweg_core::secret::Secret;

use super::App;
use super::access::random;
use crate::catalog::{new_id, now_ms, page};
use crate::error::{Error, Result};
use crate::model::{
    Application, ApplicationChange, ApplicationFilter, NewApplication, Page, Role, Scope, Window,
};

impl App {
    /// Makes one. `Invalid` if the name or key is taken or there are too many.
    pub async fn application_create(
        &self,
        scope: &Scope,
        new: NewApplication,
    ) -> Result<Application> {
        let max = self.quotas().applications;
        if self
            .catalog()
            .application_list(&scope.instance)
            .await?
            .len()
            >= max as usize
        {
            return Err(Error::invalid(
                "name",
                format!("the instance has {max} applications, the most it may have"),
            ));
        }
        let now = now_ms();
        let application = Application {
            id: uuid::Uuid::new_v4().to_string(),
            name: new.name,
            remark: new.remark,
            key: new.key.unwrap_or_else(new_id),
            favorite: new.favorite,
            created_ms: now,
            updated_ms: now,
            created_by: scope.user.clone(),
            updated_by: scope.user.clone(),
            roles: Role::ALL.to_vec(),
        };
        let secret = new.secret.unwrap_or_else(|| {
            Secret::new(random(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                32,
            ))
        });
        let owner = format!("application/{}/secret", application.id);
        let sealed = self.inner.seal.seal(&owner, &secret)?;
        self.catalog()
            .application_create(&scope.instance, &application, &sealed)
            .await?;
        Ok(application)
    }

    /// Those that match and that the caller sees, oldest first.
    pub async fn application_list(
        &self,
        scope: &Scope,
        filter: ApplicationFilter,
        window: Window,
    ) -> Result<Page<Application>> {
        let mut all = self.catalog().application_list(&scope.instance).await?;
        let sees = self.sees(scope).await?;
        for one in &mut all {
            one.roles = sees.roles(&one.id);
        }
        let contains = |text: &str, part: &Option<String>| {
            part.as_ref()
                .is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()))
        };
        all.retain(|a| {
            let own = a.created_by.id == scope.user.id;
            !a.roles.is_empty()
                && filter.role.is_none_or(|role| a.roles.contains(&role))
                && filter.own.is_none_or(|wanted| wanted == own)
                && contains(&a.name, &filter.name)
                && contains(&a.created_by.name, &filter.user_name)
                && filter
                    .favorite
                    .is_none_or(|favorite| favorite == a.favorite)
        });
        Ok(page(all, window))
    }

    /// One of them.
    pub async fn application_show(&self, scope: &Scope, id: &str) -> Result<Application> {
        Ok(self.seen(scope, id).await?.0)
    }

    /// Changes what is given.
    pub async fn application_update(
        &self,
        scope: &Scope,
        id: &str,
        change: ApplicationChange,
    ) -> Result<Application> {
        let (mut application, sees) = self.seen(scope, id).await?;
        sees.needs(id, Role::Modify)?;
        if let Some(name) = change.name {
            application.name = name;
        }
        if let Some(remark) = change.remark {
            application.remark = Some(remark);
        }
        if let Some(favorite) = change.favorite {
            application.favorite = favorite;
        }
        application.updated_ms = now_ms();
        application.updated_by = scope.user.clone();
        self.catalog()
            .application_update(&scope.instance, &application)
            .await?;
        Ok(application)
    }

    /// Deletes it. `Invalid(app_id)` while a data source belongs to it.
    pub async fn application_delete(&self, scope: &Scope, id: &str) -> Result<()> {
        let (_, sees) = self.seen(scope, id).await?;
        sees.needs(id, Role::Delete)?;
        let sources = self.catalog().datasource_list(&scope.instance).await?;
        if let Some(owned) = sources.iter().find(|source| source.app_id == id) {
            return Err(Error::invalid(
                "app_id",
                format!(
                    "data source {} belongs to it; delete the data source first",
                    owned.name
                ),
            ));
        }
        self.catalog().application_delete(&scope.instance, id).await
    }
}
