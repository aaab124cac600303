//! The table of all routes.

use thalweg_control::policy::Action;

use super::fdi::{datasources, dispatches, mappings, monitors, multi_tasks, ordinary, tasks};
use super::iam::{audit, policies, projects, roles, users};
use super::roma::apps;
use super::route::{Access, Route, Surface, TIME_MAX, WAITING_TIME_MAX};
use super::{iam, native, ops, quarantine, tables, verifications};

/// The last part says what the caller's policies have to allow; `-`: every caller may.
macro_rules! route {
    ($method:literal, $path:expr, $surface:ident, $access:ident, $action:tt, $handler:path) => {
        route!(
            $method, $path, $surface, $access, $action, $handler, TIME_MAX
        )
    };
    ($method:literal, $path:expr, $surface:ident, $access:ident, $action:tt, $handler:path, $time_max:ident) => {
        Route {
            method: $method,
            path: $path,
            surface: Surface::$surface,
            access: Access::$access,
            action: action!($action),
            time_max: $time_max,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

macro_rules! action {
    (-) => {
        None
    };
    ($action:literal) => {
        Some(Action($action))
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
    route!("POST",   fdi!("/datasources"), Fdi, Instance, "roma:datasources:create", datasources::create),
    route!("GET",    fdi!("/datasources"), Fdi, Instance, "roma:datasources:list", datasources::list),
    route!("GET",    fdi!("/datasources/{datasource_id}"), Fdi, Instance, "roma:datasources:get", datasources::show),
    route!("PUT",    fdi!("/datasources/{datasource_id}"), Fdi, Instance, "roma:datasources:update", datasources::update),
    route!("DELETE", fdi!("/datasources/{datasource_id}"), Fdi, Instance, "roma:datasources:delete", datasources::delete),
    route!("GET",    fdi!("/datasources/{datasource_id}/tables"), FdiDetail, Instance, "roma:datasources:get", datasources::tables),
    route!("GET",    fdi!("/datasources/{datasource_id}/columns"), FdiDetail, Instance, "roma:datasources:get", datasources::columns),
    route!("POST",   fdi!("/datasources/{datasource_id}/test-connect"), FdiDetail, Instance, "roma:datasources:test", datasources::test_connect),
    route!("POST",   fdi!("/datasources/{datasource_id}/test-sql"), FdiDetail, Instance, "roma:datasources:test", datasources::test_sql),
    route!("POST",   fdi!("/multi-tasks/init"), Fdi, Instance, "roma:tasks:create", multi_tasks::init),
    route!("POST",   fdi!("/multi-tasks"), Fdi, Instance, "roma:tasks:create", multi_tasks::create),
    route!("PUT",    fdi!("/multi-tasks/{task_id}"), Fdi, Instance, "roma:tasks:update", multi_tasks::update),
    route!("POST",   fdi!("/multi-tasks/{task_id}/reset"), Fdi, Instance, "roma:tasks:update", multi_tasks::reset),
    route!("POST",   fdi!("/multi-tasks/{task_id}/mappings"), Fdi, Instance, "roma:tasks:create", mappings::create),
    route!("GET",    fdi!("/multi-tasks/{task_id}/mappings"), Fdi, Instance, "roma:tasks:get", mappings::list),
    route!("POST",   "/v2/{project_id}/fdi/multi-tasks/mappings/auto", Fdi, OnlyInstance, "roma:tasks:create", mappings::auto),
    route!("PUT",    fdi!("/multi-tasks/{task_id}/mappings/{mapping_id}"), Fdi, Instance, "roma:tasks:update", mappings::update),
    route!("DELETE", fdi!("/multi-tasks/{task_id}/mappings/{mapping_id}"), Fdi, Instance, "roma:tasks:update", mappings::delete),
    route!("POST",   fdi!("/tasks"), Fdi, Instance, "roma:tasks:create", ordinary::create),
    route!("GET",    fdi!("/tasks"), Fdi, Instance, "roma:tasks:list", tasks::list),
    route!("GET",    fdi!("/tasks/{task_id}"), Fdi, Instance, "roma:tasks:get", tasks::show),
    route!("PUT",    fdi!("/tasks/{task_id}"), Fdi, Instance, "roma:tasks:update", ordinary::update),
    route!("DELETE", fdi!("/tasks/{task_id}"), Fdi, Instance, "roma:tasks:delete", tasks::delete),
    route!("POST",   fdi!("/tasks/{task_id}/run"), Fdi, Instance, "roma:tasks:operate", tasks::run),
    route!("POST",   fdi!("/tasks/{task_id}/terminate"), Fdi, Instance, "roma:tasks:operate", tasks::terminate),
    route!("POST",   fdi!("/batch-operation/tasks"), Fdi, Instance, "roma:tasks:operate", tasks::batch),
    route!("GET",    fdi!("/statistics/tasks"), Fdi, Instance, "roma:tasks:list", tasks::statistics),
    route!("POST",   fdi!("/tasks/{task_id}/dispatches"), Fdi, Instance, "roma:tasks:update", dispatches::create),
    route!("GET",    fdi!("/tasks/{task_id}/dispatches"), Fdi, Instance, "roma:tasks:get", dispatches::show),
    route!("PUT",    fdi!("/tasks/{task_id}/dispatches/{dispatch_id}"), Fdi, Instance, "roma:tasks:update", dispatches::update),
    route!("GET",    fdi!("/task-monitors"), Fdi, Instance, "roma:tasks:list", monitors::tasks),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-logs"), Fdi, Instance, "roma:tasks:get", monitors::logs),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-logs/{tracking_id}"), Fdi, Instance, "roma:tasks:get", monitors::log_detail),
    route!("GET",    fdi!("/tasks/{task_id}/monitor-overview"), Fdi, Instance, "roma:tasks:get", monitors::overview),
    route!("POST",   roma!("/apps"), Roma, Instance, "roma:apps:create", apps::create),
    route!("GET",    roma!("/apps"), Roma, Instance, "roma:apps:list", apps::list),
    route!("GET",    roma!("/apps/{app_id}"), Roma, Instance, "roma:apps:get", apps::show),
    route!("PUT",    roma!("/apps/{app_id}"), Roma, Instance, "roma:apps:update", apps::update),
    route!("DELETE", roma!("/apps/{app_id}"), Roma, Instance, "roma:apps:delete", apps::delete),
    route!("GET",    native!("/tasks/{task_id}/options"), Native, Instance, "roma:tasks:get", native::show_task_options),
    route!("PATCH",  native!("/tasks/{task_id}/options"), Native, Instance, "roma:tasks:update", native::change_task_options),
    route!("GET",    native!("/tasks/{task_id}/status"), Native, Instance, "roma:tasks:get", native::show_status),
    route!("GET",    native!("/tasks/{task_id}/plan"), Native, Instance, "roma:tasks:get", native::show_plan),
    route!("POST",   native!("/tasks/{task_id}/verifications"), Native, Instance, "roma:tasks:operate", verifications::create),
    route!("GET",    native!("/tasks/{task_id}/verifications"), Native, Instance, "roma:tasks:get", verifications::list),
    route!("GET",    native!("/tasks/{task_id}/verifications/{verification_id}"), Native, Instance, "roma:rows:read", verifications::show),
    route!("GET",    native!("/tasks/{task_id}/quarantine"), Native, Instance, "roma:rows:read", quarantine::list),
    route!("GET",    native!("/tasks/{task_id}/quarantine/{row_id}"), Native, Instance, "roma:rows:read", quarantine::show),
    route!("POST",   native!("/tasks/{task_id}/quarantine/release"), Native, Instance, "roma:tasks:operate", quarantine::release, WAITING_TIME_MAX),
    route!("POST",   native!("/tasks/{task_id}/quarantine/discard"), Native, Instance, "roma:tasks:operate", quarantine::discard, WAITING_TIME_MAX),
    route!("GET",    native!("/tasks/{task_id}/tables"), Native, Instance, "roma:tasks:get", tables::list),
    route!("POST",   native!("/tasks/{task_id}/tables"), Native, Instance, "roma:tasks:update", tables::add, WAITING_TIME_MAX),
    route!("DELETE", native!("/tasks/{task_id}/tables/{mapping_id}"), Native, Instance, "roma:tasks:update", tables::remove),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/pause"), Native, Instance, "roma:tasks:operate", tables::pause),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/resume"), Native, Instance, "roma:tasks:operate", tables::resume, WAITING_TIME_MAX),
    route!("POST",   native!("/tasks/{task_id}/tables/{mapping_id}/reload"), Native, Instance, "roma:tasks:operate", tables::reload),
    route!("GET",    native!("/datasources/{datasource_id}/options"), Native, Instance, "roma:datasources:get", native::show_datasource_options),
    route!("PATCH",  native!("/datasources/{datasource_id}/options"), Native, Instance, "roma:datasources:update", native::change_datasource_options),
    route!("GET",    native!("/leftovers"), Native, Instance, "roma:tasks:list", native::leftovers),
    route!("POST",   "/v3/auth/tokens", Iam, Open, -, iam::tokens),
    route!("DELETE", "/v3/auth/tokens", Iam, Domain, -, iam::end_token),
    route!("POST",   "/v3.0/OS-CREDENTIAL/securitytokens", Iam, Domain, -, iam::security_tokens),
    route!("GET",    "/v1/users", Native, Domain, "iam:users:list", users::list),
    route!("POST",   "/v1/users", Native, Domain, "iam:users:create", users::create),
    route!("GET",    "/v1/users/{user_id}", Native, User, "iam:users:get", users::show),
    route!("PATCH",  "/v1/users/{user_id}", Native, Domain, "iam:users:update", users::update),
    route!("PUT",    "/v1/users/{user_id}/password", Native, User, "iam:users:update", users::set_password),
    route!("DELETE", "/v1/users/{user_id}", Native, Domain, "iam:users:delete", users::delete),
    route!("GET",    "/v1/users/{user_id}/keys", Native, User, "iam:keys:list", users::list_keys),
    route!("POST",   "/v1/users/{user_id}/keys", Native, User, "iam:keys:create", users::create_key),
    route!("PATCH",  "/v1/users/{user_id}/keys/{ak}", Native, User, "iam:keys:update", users::update_key),
    route!("DELETE", "/v1/users/{user_id}/keys/{ak}", Native, User, "iam:keys:delete", users::delete_key),
    route!("GET",    "/v1/users/{user_id}/grants", Native, User, "iam:grants:list", policies::list_grants),
    route!("POST",   "/v1/users/{user_id}/grants", Native, Domain, "iam:grants:create", policies::create_grant),
    route!("DELETE", "/v1/users/{user_id}/grants/{grant_id}", Native, Domain, "iam:grants:delete", policies::delete_grant),
    route!("GET",    "/v1/policies", Native, Domain, "iam:policies:list", policies::list),
    route!("POST",   "/v1/policies", Native, Domain, "iam:policies:create", policies::create),
    route!("GET",    "/v1/policies/{policy_id}", Native, Domain, "iam:policies:get", policies::show),
    route!("PUT",    "/v1/policies/{policy_id}", Native, Domain, "iam:policies:update", policies::update),
    route!("DELETE", "/v1/policies/{policy_id}", Native, Domain, "iam:policies:delete", policies::delete),
    route!("GET",    "/v1/projects", Native, Domain, -, projects::list),
    route!("POST",   "/v1/projects", Native, Domain, "iam:projects:create", projects::create),
    route!("DELETE", "/v1/projects/{project_id}", Native, Domain, "iam:projects:delete", projects::delete),
    route!("GET",    "/v1/projects/{project_id}/instances", Native, Project, "roma:instances:list", projects::list_instances),
    route!("POST",   "/v1/projects/{project_id}/instances", Native, Project, "roma:instances:create", projects::create_instance),
    route!("DELETE", native!(""), Native, Instance, "roma:instances:delete", projects::delete_instance),
    route!("GET",    native!("/apps/{app_id}/roles"), Native, Instance, "roma:apps:get", roles::list),
    route!("PUT",    native!("/apps/{app_id}/roles/{user_id}"), Native, Instance, "roma:apps:update", roles::set),
    route!("GET",    "/v1/audit", Native, Domain, "iam:audit:list", audit::list),
    route!("GET",    "/v1/audit/check", Native, Domain, "iam:audit:list", audit::check),
    route!("GET",    "/livez", Ops, Open, -, ops::live),
    route!("GET",    "/readyz", Ops, Open, -, ops::ready),
    route!("GET",    "/metrics", Ops, Open, -, ops::metrics),
];
