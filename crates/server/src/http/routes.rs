//! The table of all routes.
//!
//! What the contract has and this table lacks answers 404, as a path that does not exist: ordinary
//! tasks and schedules.

use super::fdi::{datasources, mappings, monitors, multi_tasks, tasks};
use super::roma::apps;
use super::route::{Access, Route, Surface, TIME_MAX, WAITING_TIME_MAX};
use super::{iam, native, ops, quarantine, tables, verifications};

macro_rules! route {
    ($method:literal, $path:expr, $surface:ident, $access:ident, $handler:path) => {
        route!($method, $path, $surface, $access, $handler, TIME_MAX)
    };
    ($method:literal, $path:expr, $surface:ident, $access:ident, $handler:path, $time_max:ident) => {
        Route {
            method: $method,
            path: $path,
            surface: Surface::$surface,
            access: Access::$access,
            time_max: $time_max,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

macro_rules! fdi {
    ($path:literal) => {
        concat!("/v2/{project_id}/fdi/instances/{instance_id}", $path)
    };
}

macro_rules! roma {
    ($path:literal) => {
        concat!("/v2/{project_id}/instances/{instance_id}", $path)
    };
}

macro_rules! native {
    ($path:literal) => {
        concat!("/v1/projects/{project_id}/instances/{instance_id}", $path)
    };
}

/// All of them.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    route!("POST",   fdi!("/datasources"), Fdi, Instance, datasources::create),
    route!("GET",    fdi!("/datasources"), Fdi, Instance, datasources::list),
    route!("GET",    fdi!("/datasources/{datasource_id}"), Fdi, Instance, datasources::show),
    route!("PUT",    fdi!("/datasources/{datasource_id}"), Fdi, Instance, datasources::update),
    route!("DELETE", fdi!("/datasources/{datasource_id}"), Fdi, Instance, datasources::delete),
    route!("GET",    fdi!("/datasources/{datasource_id}/tables"), FdiDetail, Instance, datasources::tables),
    route!("GET",    fdi!("/datasources/{datasource_id}/columns"), FdiDetail, Instance, datasources::columns),
    route!("POST",   fdi!("/datasources/{datasource_id}/test-connect"), FdiDetail, Instance, datasources::test_connect),
    route!("POST",   fdi!("/datasources/{datasource_id}/test-sql"), FdiDetail, Instance, datasources::test_sql),
    route!("POST",   fdi!("/multi-tasks/init"), Fdi, Instance, multi_tasks::init),
    route!("POST",   fdi!("/multi-tasks"), Fdi, Instance, multi_tasks::create),
    route!("PUT",    fdi!("/multi-tasks/{task_id}"), Fdi, Instance, multi_tasks::update),
    route!("POST",   fdi!("/multi-tasks/{task_id}/reset"), Fdi, Instance, multi_tasks::reset),
    route!("POST",   fdi!("/multi-tasks/{task_id}/mappings"), Fdi, Instance, mappings::create),
    route!("GET",    fdi!("/multi-tasks/{task_id}/mappings"), Fdi, Instance, mappings::list),
    route!("POST",   "/v2/{project_id}/fdi/multi-tasks/mappings/auto", Fdi, Project, mappings::auto),
    route!("PUT",    fdi!("/multi-tasks/{task_id}/mappings/{mapping_id}"), Fdi, Instance, mappings::update),
    route!("DELETE", fdi!("/multi-tasks/{task_id}/mappings/{mapping_id}"), Fdi, Instance, mappings::delete),
    route!("GET",    fdi!("/tasks"), Fdi, Instance, tasks::list),
    route!("GET",    fdi!("/tasks/{task_id}"), Fdi, Instance, tasks::show),
    route!("DELETE", fdi!("/tasks/{task_id}"), Fdi, Instance, tasks::delete),
    route!("POST",   fdi!("/tasks/{task_id}/run"), Fdi, Instance, tasks::run),
    route!("POST",   fdi!("/tasks/{task_id}/terminate"), Fdi, Instance, tasks::terminate),
    route!("POST",   fdi!("/batch-operation/tasks"), Fdi, Instance, tasks::batch),
    route!("GET",    fdi!("/statistics/tasks"), Fdi, Instance, tasks::statistics),
    route!("GET",    fdi!("/task-monitors"), Fdi, Instance, monitors::tasks),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-logs"), Fdi, Instance, monitors::logs),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-logs/{tracking_id}"), Fdi, Instance, monitors::log_detail),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-overview"), Fdi, Instance, monitors::overview),
    route!("POST",   roma!("/apps"), Roma, Instance, apps::create),
    route!("GET",    roma!("/apps"), Roma, Instance, apps::list),
    route!("GET",    roma!("/apps/{app_id}"), Roma, Instance, apps::show),
    route!("PUT",    roma!("/apps/{app_id}"), Roma, Instance, apps::update),
    route!("DELETE", roma!("/apps/{app_id}"), Roma, Instance, apps::delete),
    route!("GET",    native!("/tasks/{task_id}/options"), Native, Instance, native::show_task_options),
    route!("PATCH",  native!("/tasks/{task_id}/options"), Native, Instance, native::change_task_options),
    route!("GET",    native!("/tasks/{task_id}/status"), Native, Instance, native::show_status),
    route!("GET",    native!("/tasks/{task_id}/plan"), Native, Instance, native::show_plan),
    route!("POST",   native!("/tasks/{task_id}/verifications"), Native, Instance, verifications::create),
    route!("GET",    native!("/tasks/{task_id}/verifications"), Native, Instance, verifications::list),
    route!("GET",    native!("/tasks/{task_id}/verifications/{verification_id}"), Native, Instance, verifications::show),
    route!("GET",    native!("/tasks/{task_id}/quarantine"), Native, Instance, quarantine::list),
    route!("GET",    native!("/tasks/{task_id}/quarantine/{row_id}"), Native, Instance, quarantine::show),
    route!("POST",   native!("/tasks/{task_id}/quarantine/release"), Native, Instance, quarantine::release, WAITING_TIME_MAX),
    route!("POST",   native!("/tasks/{task_id}/quarantine/discard"), Native, Instance, quarantine::discard, WAITING_TIME_MAX),
    route!("GET",    native!("/tasks/{task_id}/tables"), Native, Instance, tables::list),
    route!("POST",   native!("/tasks/{task_id}/tables"), Native, Instance, tables::add, WAITING_TIME_MAX),
    route!("DELETE", native!("/tasks/{task_id}/tables/{mapping_id}"), Native, Instance, tables::remove),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/pause"), Native, Instance, tables::pause),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/resume"), Native, Instance, tables::resume, WAITING_TIME_MAX),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/reload"), Native, Instance, tables::reload),
    route!("GET",    native!("/datasources/{datasource_id}/options"), Native, Instance, native::show_datasource_options),
    route!("PATCH",  native!("/datasources/{datasource_id}/options"), Native, Instance, native::change_datasource_options),
    route!("GET",    native!("/leftovers"), Native, Instance, native::leftovers),
    route!("POST",   "/v3/auth/tokens", Iam, Open, iam::tokens),
    route!("GET",    "/livez", Ops, Open, ops::live),
    route!("GET",    "/readyz", Ops, Open, ops::ready),
    route!("GET",    "/metrics", Ops, Open, ops::metrics),
];
