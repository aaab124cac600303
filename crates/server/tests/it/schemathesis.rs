//! Schemathesis makes requests out of the OpenAPI document, right and wrong ones, in sequences and at the edges
//! of what a field may be, and looks whether the built server answers as the document says.
//!
//! Not in the gate, whose tests of the API compare each answer with the document as well. `THALWEG_PROVE=1`: at least
//! [`REQUESTS`] requests, else as many as a few seconds give. A failure names
//! the request as a command of `curl`, and the seed.
//!
//! Two of its checks are left out. `positive_data_acceptance` takes every answer of 400 to a request that the
//! schema allows for a mistake: but an id in a body has to be one that exists, a name one that is not taken.
//! `unsupported_method` wants 405 for a method that a path does not have: the contract says 404 (`APIGW.0101`).

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use thalweg_testkit::thalweg::Thalweg;

use crate::sdk::python;

/// What a proof asks at least.
const REQUESTS: u64 = 100_000;
/// Seconds of a run.
const SHORT: u64 = 8;
const PROOF: u64 = 300;
/// Runs of a proof; each has a seed of its own.
const RUNS: u64 = 12;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    ignored_auth,use_after_free,ensure_resource_availability,allow_header_conformance";

#[test]
#[ignore = "the gate has no time for it: make prove schemathesis"]
fn answers_are_those_of_the_document() {
    let proves = std::env::var_os("THALWEG_PROVE").is_some();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let python = python(&tests.join("requirements.txt"));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let mut document: Value = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
    // It cannot sign, and would send a wrong signature beside a good token.
    document["security"] = json!([{ "token": [] }]);
    // One that is full would refuse everything.
    let many = ["--max-applications", "--max-data-sources", "--max-tasks"];
    let many: Vec<&str> = many.iter().flat_map(|quota| [*quota, "1000000"]).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_thalweg"));
    let server = Thalweg::start_with(binary, &many, &[]).unwrap();
    let id = server.identity();
    let token = server.client().login(&id.domain, &id.user, &id.password);
    let config = format!(
        "base-url = \"{}\"\nworkers = 1\nheaders = {{ X-Auth-Token = \"{}\" }}\n[parameters]\n\
         \"path.project_id\" = \"{project}\"\n\"path.instance_id\" = \"{}\"\n\
         \"header.X-Project-Id\" = \"{project}\"\n",
        server.base_url(),
        token.unwrap(),
        id.instance,
        project = id.project,
    );
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{}", id.instance));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("schemathesis.toml"), config).unwrap();
    fs::write(folder.join("openapi.json"), document.to_string()).unwrap();
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let (mut asked, mut run) = (0, 0);
    while run == 0 || (proves && given.is_none() && asked < REQUESTS && run < RUNS) {
        let seed: u64 = given.unwrap_or_else(rand::random);
        let seconds = if proves { PROOF } else { SHORT };
        let said = Command::new(python.with_file_name("schemathesis"))
            .current_dir(&folder)
            .args([
                "--config-file",
                "schemathesis.toml",
                "run",
                "openapi.json",
                "--no-color",
            ])
            .args(["--checks", CHECKS, "--seed", &seed.to_string()])
            .args(["--max-time", &seconds.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        let cases = generated(&text);
        asked += cases.unwrap_or(0);
        assert!(
            said.status.success() && cases.is_some(),
            "SEED={seed}\n{text}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        run += 1;
    }
    fs::remove_dir_all(&folder).unwrap();
    println!(
        "proof: schemathesis: {asked} requests in {run} runs, each answered as the document says"
    );
    assert!(
        !proves || given.is_some() || asked >= REQUESTS,
        "too few requests"
    );
}

/// How many requests it has made: `1692 generated, …`.
fn generated(said: &str) -> Option<u64> {
    let mut lines = said.lines();
    let line = lines.find(|line| line.contains(" generated, "))?;
    line.split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}
