//! Policies: which actions they allow and deny.
//!
//! A policy has the form of the original's: `{"Version": "1.1", "Statement": [{"Effect": "Allow",
//! "Action": ["roma:tasks:*"]}]}`. `*` stands for any characters. What no statement allows is refused,
//! and what one denies is refused whatever others allow. A pattern that fits no action is refused when
//! the policy is written: somebody meant something by it.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Something a caller may be allowed to do, such as `roma:tasks:create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action(pub &'static str);

/// All of them; each is that of a route.
pub const ACTIONS: &[Action] = &[
    Action("iam:audit:list"),
    Action("iam:grants:create"),
    Action("iam:grants:delete"),
    Action("iam:grants:list"),
    Action("iam:keys:create"),
    Action("iam:keys:delete"),
    Action("iam:keys:list"),
    Action("iam:keys:update"),
    Action("iam:policies:create"),
    Action("iam:policies:delete"),
    Action("iam:policies:get"),
    Action("iam:policies:list"),
    Action("iam:policies:update"),
    Action("iam:projects:create"),
    Action("iam:projects:delete"),
    Action("iam:users:create"),
    Action("iam:users:delete"),
    Action("iam:users:get"),
    Action("iam:users:list"),
    Action("iam:users:update"),
    Action("roma:apps:create"),
    Action("roma:apps:delete"),
    Action("roma:apps:get"),
    Action("roma:apps:list"),
    Action("roma:apps:update"),
    Action("roma:datasources:create"),
    Action("roma:datasources:delete"),
    Action("roma:datasources:get"),
    Action("roma:datasources:list"),
    Action("roma:datasources:test"),
    Action("roma:datasources:update"),
    Action("roma:instances:create"),
    Action("roma:instances:delete"),
    Action("roma:instances:list"),
    Action("roma:rows:read"),
    Action("roma:tasks:create"),
    Action("roma:tasks:delete"),
    Action("roma:tasks:get"),
    Action("roma:tasks:list"),
    Action("roma:tasks:operate"),
    Action("roma:tasks:update"),
];

/// Statements of a policy and patterns of a statement, at most.
const PARTS_MAX: usize = 100;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<String>,
}

/// A policy of the system: id, name, what it is for, and what it allows.
pub(crate) struct SystemPolicy {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    allows: &'static [&'static str],
}

/// Names as the original has them.
pub(crate) const SYSTEM: &[SystemPolicy] = &[
    SystemPolicy {
        id: "roma-full-access",
        name: "ROMA FullAccess",
        description: "Everything with applications, data sources and tasks.",
        allows: &["roma:*"],
    },
    SystemPolicy {
        id: "roma-read-only-access",
        name: "ROMA ReadOnlyAccess",
        description: "See applications, data sources and tasks, but no row of a table.",
        allows: &["roma:*:get", "roma:*:list"],
    },
];

impl SystemPolicy {
    /// Its document.
    pub(crate) fn policy(&self) -> Policy {
        let actions = self.allows.iter().map(|pattern| (*pattern).to_owned());
        Policy {
            statements: vec![Statement {
                allow: true,
                actions: actions.collect(),
            }],
        }
    }
}

impl Policy {
    /// Reads a document; `Invalid(document)` says what is wrong with it.
    pub fn parse(document: &Value) -> Result<Policy> {
        let policy = Policy::stored(document)?;
        let patterns = policy.statements.iter().flat_map(|one| &one.actions);
        for pattern in patterns {
            if !ACTIONS.iter().any(|action| fits(pattern, action.0)) {
                return Err(Error::invalid(
                    "document",
                    format!("{pattern:?} fits no action; there are {}", listed()),
                ));
            }
        }
        Ok(policy)
    }

    /// The same of one that was written before: it may have patterns of another version's actions.
    pub(crate) fn stored(document: &Value) -> Result<Policy> {
        let wrong = |reason: String| Error::invalid("document", reason);
        let only = |value: &Value, names: &[&str], place: &str| {
            let object = value.as_object();
            let object = object.ok_or_else(|| wrong(format!("{place} has to be an object")))?;
            match object.keys().find(|key| !names.contains(&key.as_str())) {
                Some(key) => Err(wrong(format!(
                    "{place} has a field {key}, which there is not"
                ))),
                None => Ok(object.clone()),
            }
        };
        let object = only(document, &["Version", "Statement"], "the policy")?;
        if object.get("Version").and_then(Value::as_str) != Some("1.1") {
            return Err(wrong("Version has to be \"1.1\"".to_owned()));
        }
        let given = object.get("Statement").and_then(Value::as_array);
        let given = given.filter(|list| (1..=PARTS_MAX).contains(&list.len()));
        let given = given.ok_or_else(|| {
            wrong(format!(
                "Statement has to be an array of 1 to {PARTS_MAX} statements"
            ))
        })?;
        let mut statements = Vec::with_capacity(given.len());
        for one in given {
            let one = only(one, &["Effect", "Action"], "a statement")?;
            let allow = match one.get("Effect").and_then(Value::as_str) {
                Some("Allow") => true,
                Some("Deny") => false,
                _ => return Err(wrong("Effect has to be \"Allow\" or \"Deny\"".to_owned())),
            };
            let patterns = one.get("Action").and_then(Value::as_array);
            let patterns = patterns.filter(|list| (1..=PARTS_MAX).contains(&list.len()));
            let patterns = patterns.ok_or_else(|| {
                wrong(format!(
                    "Action has to be an array of 1 to {PARTS_MAX} actions"
                ))
            })?;
            let mut actions = Vec::with_capacity(patterns.len());
            for pattern in patterns {
                let pattern = pattern.as_str().unwrap_or_default();
                actions.push(pattern.to_owned());
            }
            statements.push(Statement { allow, actions });
        }
        Ok(Policy { statements })
    }

    /// Its document.
    pub fn document(&self) -> Value {
        let statement = |one: &Statement| {
            let effect = if one.allow { "Allow" } else { "Deny" };
            json!({ "Effect": effect, "Action": one.actions })
        };
        let statements: Vec<Value> = self.statements.iter().map(statement).collect();
        json!({ "Version": "1.1", "Statement": statements })
    }

    fn says(&self, allow: bool, action: Action) -> bool {
        self.statements.iter().any(|one| {
            one.allow == allow && one.actions.iter().any(|pattern| fits(pattern, action.0))
        })
    }
}

fn listed() -> String {
    let names: Vec<&str> = ACTIONS.iter().map(|action| action.0).collect();
    names.join(", ")
}

/// Whether policies together allow something.
pub(crate) fn allow<'a>(
    policies: impl Iterator<Item = &'a Policy> + Clone,
    action: Action,
) -> bool {
    policies.clone().any(|one| one.says(true, action))
        && !{ policies }.any(|one| one.says(false, action))
}

/// Whether a pattern fits a text; `*` stands for any characters. In time of the product of their lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        // The earliest place leaves the most for what follows.
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("roma:tasks:create", "roma:tasks:create", true),
            ("roma:tasks:create", "roma:tasks:created", false),
            ("roma:tasks:*", "roma:tasks:get", true),
            ("roma:*", "roma:tasks:get", true),
            ("roma:*:get", "roma:tasks:get", true),
            ("roma:*:get", "roma:tasks:list", false),
            ("*", "iam:users:get", true),
            ("*:*:*", "iam:users:get", true),
            ("r*ma*k*t", "roma:tasks:get", true),
            ("roma:tasks:get*get", "roma:tasks:get", false),
            ("*get*", "roma:tasks:get", true),
            ("", "roma:tasks:get", false),
            ("get", "roma:tasks:get", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    fn policy(statements: Value) -> Policy {
        Policy::parse(&json!({ "Version": "1.1", "Statement": statements })).unwrap()
    }

    #[test]
    fn what_one_denies_is_refused_whatever_others_allow() {
        let all = policy(json!([{ "Effect": "Allow", "Action": ["roma:*"] }]));
        let not = policy(json!([{ "Effect": "Deny", "Action": ["roma:tasks:delete"] }]));
        let check = |policies: &[&Policy], action: &'static str, expected: bool| {
            let found = allow(policies.iter().copied(), Action(action));
            assert_eq!(found, expected, "{action}");
        };
        check(&[], "roma:tasks:get", false);
        check(&[&all], "roma:tasks:delete", true);
        check(&[&all], "iam:users:get", false);
        check(&[&all, &not], "roma:tasks:delete", false);
        check(&[&not, &all], "roma:tasks:delete", false);
        check(&[&not], "roma:tasks:get", false);
    }

    #[test]
    fn a_policy_of_the_system_allows_something() {
        for system in SYSTEM {
            let policy = Policy::parse(&system.policy().document()).unwrap();
            assert_eq!(policy, system.policy());
        }
    }

    #[test]
    fn what_is_wrong_with_a_document_is_told() {
        for (document, told) in [
            (json!(1), "the policy has to be an object"),
            (json!({}), "Version"),
            (json!({ "Version": "5.0", "Statement": [] }), "Version"),
            (json!({ "Version": "1.1", "Statement": [] }), "Statement"),
            (json!({ "Version": "1.1", "Statement": [1] }), "a statement"),
            (
                json!({ "Version": "1.1", "Statement": [{ "Effect": "allow" }] }),
                "Effect",
            ),
            (
                json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow" }] }),
                "Action",
            ),
            (
                json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": ["roma:task:*"] }] }),
                "\"roma:task:*\" fits no action",
            ),
            (
                json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": [1] }] }),
                "fits no action",
            ),
            (
                json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": ["*"], "Resource": "*" }] }),
                "Resource",
            ),
        ] {
            let error = Policy::parse(&document).unwrap_err().to_string();
            assert!(error.contains(told), "{document}: {error}");
        }
    }
}
