//! Projects and their instances.

use super::App;
use crate::catalog::{new_id, now_ms};
use crate::error::{Error, Result, Subject};
use crate::model::{Caller, Instance, Project};

/// Projects there may be, and instances of one.
const MAX: usize = 1_000;

impl App {
    /// The projects the caller has to do with, by name.
    pub async fn project_list(&self, caller: &Caller) -> Result<Vec<Project>> {
        let mut all = self.catalog().project_list().await?;
        all.retain(|project| caller.knows(&project.id));
        Ok(all)
    }

    /// Makes a project without an instance.
    pub async fn project_create(&self, name: String) -> Result<Project> {
        if self.catalog().project_list().await?.len() >= MAX {
            return Err(Error::invalid(
                "name",
                format!("there are {MAX} projects, the most there may be"),
            ));
        }
        let project = Project {
            id: new_id(),
            name,
            created_ms: now_ms(),
        };
        self.catalog().project_create(&project).await?;
        Ok(project)
    }

    /// Deletes a project that has no instance; what is granted in it is taken back.
    pub async fn project_delete(&self, id: &str) -> Result<()> {
        let all = self.catalog().project_list().await?;
        if !all.iter().any(|project| project.id == id) {
            return Err(Error::NotFound(Subject::Project));
        }
        match self.catalog().project_delete(id).await? {
            true => Ok(()),
            false => Err(Error::invalid(
                "project_id",
                "the project has instances; delete them first",
            )),
        }
    }

    /// The instances of a project, by name.
    pub async fn instance_list(&self, project: &str) -> Result<Vec<Instance>> {
        self.catalog().instance_list(project).await
    }

    /// Makes an instance.
    pub async fn instance_create(&self, project: &str, name: String) -> Result<Instance> {
        if self.catalog().instance_list(project).await?.len() >= MAX {
            return Err(Error::invalid(
                "name",
                format!("the project has {MAX} instances, the most it may have"),
            ));
        }
        let instance = Instance {
            id: uuid::Uuid::new_v4().to_string(),
            name,
            created_ms: now_ms(),
        };
        self.catalog().instance_create(project, &instance).await?;
        Ok(instance)
    }

    /// Deletes an instance in which nothing is left. `NotFound(Instance)`.
    pub async fn instance_delete(&self, project: &str, id: &str) -> Result<()> {
        let all = self.catalog().instance_list(project).await?;
        if !all.iter().any(|instance| instance.id == id) {
            return Err(Error::NotFound(Subject::Instance));
        }
        match self.catalog().instance_delete(id).await? {
            true => Ok(()),
            false => Err(Error::invalid(
                "instance_id",
                "the instance has applications, data sources or tasks, or a deleted task whose traces \
                 are still being removed: delete them first, or wait",
            )),
        }
    }
}
