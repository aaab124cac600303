//! Codes, statuses and texts of errors.

use super::*;

fn check(failure: Failure, surface: Surface, status: u16, code: &str, message: &str) {
    let chosen = choose(&failure, surface);
    assert_eq!(chosen.status.as_u16(), status, "{failure:?}");
    assert_eq!(chosen.code, code, "{failure:?}");
    assert!(
        chosen.message().starts_with(message),
        "{failure:?}: {}",
        chosen.message()
    );
}

#[test]
fn every_failure_has_its_status_code_and_documented_text() {
    use Surface::{Fdi, Roma};
    let reason = || String::from("because");
    let c = Failure::Control;
    let invalid = || c(Error::invalid("task_name", "is missing"));
    check(
        invalid(),
        Fdi,
        400,
        "FDI.3033",
        "Invalid parameter [task_name]. Is missing.",
    );
    check(
        invalid(),
        Roma,
        400,
        "ROMA.00013000",
        "Invalid parameter [task_name].",
    );
    check(
        c(Error::Parameters(reason())),
        Fdi,
        400,
        "FDI.3002",
        "Invalid parameters. Because.",
    );
    check(
        c(Error::Parameters(reason())),
        Roma,
        400,
        "ROMA.00013000",
        "Invalid parameters.",
    );
    check(
        c(Error::Mapping(reason())),
        Fdi,
        400,
        "FDI.3037",
        "The parameter in mapping",
    );
    check(
        c(Error::Running(reason())),
        Fdi,
        400,
        "FDI.3023",
        "One or more tasks are running.",
    );
    check(
        c(Error::Start(reason())),
        Fdi,
        400,
        "FDI.3026",
        "Failed to manually start",
    );
    check(
        c(Error::Stop(reason())),
        Fdi,
        400,
        "FDI.3027",
        "Failed to manually stop",
    );
    let unreachable = Error::Unreachable {
        reason: reason(),
        detail: None,
    };
    check(
        c(unreachable),
        Fdi,
        400,
        "FDI.3016",
        "Failed to test the connectivity. Because.",
    );
    let not_running = "The task is not running. Because.";
    check(
        c(Error::NotRunning(reason())),
        Surface::Native,
        409,
        "FDI.3027",
        not_running,
    );
    let many = "Too many are waiting. Because.";
    let too_many = c(Error::TooMany(reason()));
    check(too_many, Surface::Native, 429, "FDI.3002", many);
    let not_yet = "The task has not done it yet. Because.";
    let later = c(Error::NotYet(reason()));
    check(later, Surface::Native, 503, "FDI.9999", not_yet);
    let tables = "The task's tables do not allow this now. Because.";
    let conflict = c(Error::Conflict(reason()));
    check(conflict, Surface::Native, 409, "FDI.3037", tables);
    let not_found = |subject| c(Error::NotFound(subject));
    let verification = not_found(Subject::Verification);
    check(verification, Surface::Native, 404, "FDI.3002", "Invalid");
    let row = not_found(Subject::QuarantinedRow);
    check(row, Surface::Native, 404, "FDI.3002", "Invalid");
    check(
        not_found(Subject::Execution),
        Fdi,
        404,
        "FDI.3002",
        "Invalid",
    );
    check(
        not_found(Subject::Task),
        Fdi,
        404,
        "FDI.3081",
        "The task does not exist.",
    );
    check(
        not_found(Subject::DataSource),
        Fdi,
        404,
        "FDI.3002",
        "Invalid parameters.",
    );
    check(
        not_found(Subject::Mapping),
        Fdi,
        404,
        "FDI.3002",
        "Invalid parameters.",
    );
    check(
        not_found(Subject::Application),
        Roma,
        404,
        "ROMA.00110006",
        "The resource",
    );
    check(
        not_found(Subject::Instance),
        Fdi,
        404,
        "APIG.3030",
        "The instance",
    );
    check(
        c(Error::OtherProject),
        Fdi,
        403,
        "APIG.1005",
        "No permissions",
    );
    let unauthenticated = || c(Error::Unauthenticated(reason()));
    let text = "Incorrect IAM authentication information: because";
    check(unauthenticated(), Fdi, 401, "APIGW.0301", text);
    check(unauthenticated(), Roma, 401, "APIGW.0301", text);
    check(
        c(Error::Internal(reason())),
        Fdi,
        500,
        "FDI.9999",
        "Network error.",
    );
    let busy = "Network error. The catalogue is busy";
    check(c(Error::Busy), Fdi, 503, "FDI.9999", busy);
    check(
        Failure::UnknownPath,
        Fdi,
        404,
        "APIGW.0101",
        "The API does not exist",
    );
    check(
        Failure::TooLarge { bytes_max: 8 },
        Fdi,
        413,
        "APIG.0201",
        "Request entity",
    );
    check(
        Failure::ProjectDiffers,
        Fdi,
        400,
        "FDI.3039",
        "The project ID",
    );
    check(
        Failure::EmptyList,
        Fdi,
        400,
        "FDI.3150",
        "The task list is empty.",
    );
    check(
        Failure::EmptyTaskId { index: 1 },
        Fdi,
        400,
        "FDI.3022",
        "One or more tasks",
    );
    check(Failure::Panicked, Fdi, 500, "FDI.9999", "Network error.");
}

#[test]
fn the_cause_of_an_internal_fault_stays_here() {
    let failure = Failure::Control(Error::Internal("secret table".into()));
    let chosen = choose(&failure, Surface::Fdi);
    assert!(!fdi(&chosen, true).to_string().contains("secret"));
    assert!(!problem(&chosen).to_string().contains("secret"));
}

#[test]
fn shapes_have_exactly_the_fields_of_the_contract() {
    let failure = Failure::Control(Error::Unreachable {
        reason: "refused".into(),
        detail: Some("start it".into()),
    });
    let chosen = choose(&failure, Surface::Fdi);
    let names =
        |value: Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(fdi(&chosen, false)), ["error_code", "error_msg"]);
    assert_eq!(
        names(fdi(&chosen, true)),
        ["detail", "error_code", "error_msg"]
    );
    assert_eq!(
        names(gateway(&chosen, "r")),
        ["error_code", "error_msg", "request_id"]
    );
    assert_eq!(
        names(roma(&chosen, "r")),
        ["error_code", "error_details", "error_msg", "request_id"]
    );
}

#[test]
fn reasons_become_sentences_and_names_stay() {
    assert_eq!(
        sentence("it is running: stop it"),
        "It is running: stop it."
    );
    assert_eq!(sentence("server_id 7 is taken."), "server_id 7 is taken.");
    assert_eq!(sentence(""), "");
}

#[test]
fn messages_are_cut_between_characters() {
    assert_eq!(cut("äöü", 3), "äöü");
    assert_eq!(cut("äöüß", 3), "äö…");
}
