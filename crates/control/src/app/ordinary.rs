//! Ordinary tasks: one table to one, in real time or by a schedule, on the same engine as composite ones.

use thalweg_core::mapping::Operations;

use super::App;
use super::mappings::table_mapping;
use crate::catalog::{new_id, now_ms};
use crate::error::{Error, Result};
use crate::model::{MappingStatus, OrdinaryTask, Scope, TaskKind};

impl App {
    /// Makes an ordinary task with its mapping. Gives its id.
    pub async fn ordinary_create(&self, scope: &Scope, new: OrdinaryTask) -> Result<String> {
        self.drop_old_drafts().await?;
        let mut task = self.draft(scope, None).await?;
        self.set_mapping(scope, &mut task, &new.mapping).await?;
        // A draft until it is complete: whatever happens in between is dropped with the drafts.
        task.shown.operations = Operations::ALL;
        task.shown.kind = new.kind;
        task.shown.detail = Some(new.detail);
        task.shown.description = new.description;
        task.shown.tag = new.tag;
        self.catalog().task_put(&task).await?;
        let mapping = table_mapping(new_id(), new.mapping, MappingStatus::Manual);
        let id = task.shown.id.clone();
        self.catalog()
            .mapping_create(&id, std::slice::from_ref(&mapping))
            .await?;
        task.created = true;
        task.shown.name = new.name;
        task.shown.updated_ms = now_ms();
        let created = self.catalog().task_put(&task).await;
        if created.is_err() {
            // Such as for a name that is taken.
            self.catalog().task_remove(&id).await?;
        }
        created.map(|()| id)
    }

    /// Replaces what is said of a stopped ordinary task; its data sources stay. A table that is mapped in another way
    /// than before is loaded again.
    pub async fn ordinary_update(&self, scope: &Scope, id: &str, new: OrdinaryTask) -> Result<()> {
        let mut task = self.created(scope, id).await?;
        if task.shown.kind == TaskKind::Composite {
            return Err(Error::invalid(
                "task_id",
                "this is a composite task; change it by PUT /multi-tasks/{task_id}",
            ));
        }
        self.stopped(scope, id).await?;
        self.set_mapping(scope, &mut task, &new.mapping).await?;
        if new.kind == TaskKind::Realtime && task.shown.dispatch.is_some() {
            return Err(Error::invalid(
                "task_type",
                "the task has a schedule; make another task for real time",
            ));
        }
        let all = self.catalog().mapping_list(id).await?;
        // The source keeps no log for a task that copies everything each time.
        task.forget |= task.shown.kind == TaskKind::Timing { incremental: false };
        task.shown.name = new.name;
        task.shown.kind = new.kind;
        task.shown.detail = Some(new.detail);
        task.shown.description = new.description;
        task.shown.tag = new.tag;
        task.shown.updated_ms = now_ms();
        self.catalog().task_put(&task).await?;
        match all.first() {
            Some(old) => {
                let mapping = table_mapping(old.id.clone(), new.mapping, MappingStatus::Update);
                self.catalog().mapping_update(id, &mapping).await
            }
            None => {
                let mapping = table_mapping(new_id(), new.mapping, MappingStatus::Manual);
                let mapping = std::slice::from_ref(&mapping);
                self.catalog().mapping_create(id, mapping).await
            }
        }
    }
}
