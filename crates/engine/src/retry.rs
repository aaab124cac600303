//! From the kind of an error to the reaction: the one place that decides.

use std::time::Duration;

use rand::Rng as _;
use thalweg_core::Kind;

use crate::limits::Limits;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait this long, then resume from the checkpoint.
    Retry(Duration),
    /// The tables are others than those the plan was made of: whoever makes plans makes a new one, or stops
    /// the task.
    Plan,
    /// Stop the task; a person must act.
    Fail,
    /// Stop quietly: someone else has the task.
    Yield,
}

/// The reaction to an error of `kind` that is the `attempt`th in a row without progress (from 1).
/// Waits double up to a limit and are jittered by up to a half, so that many tasks do not come back
/// to a restarted server at the same moment.
pub fn action(kind: Kind, attempt: u32, limits: &Limits) -> Action {
    match kind {
        Kind::Transient => {
            let doubled = 2u32.saturating_pow(attempt.saturating_sub(1).min(16));
            let full = limits
                .backoff_first
                .saturating_mul(doubled)
                .min(limits.backoff_max);
            Action::Retry(full.mul_f64(rand::rng().random_range(0.5..1.0)))
        }
        Kind::Fenced => Action::Yield,
        Kind::Schema => Action::Plan,
        Kind::Config | Kind::PositionLost | Kind::Data | Kind::Bug => Action::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_trouble_is_tried_again() {
        let limits = Limits::default();
        for (kind, retries) in [
            (Kind::Transient, true),
            (Kind::Config, false),
            (Kind::PositionLost, false),
            (Kind::Schema, false),
            (Kind::Data, false),
            (Kind::Fenced, false),
            (Kind::Bug, false),
        ] {
            let action = action(kind, 1, &limits);
            assert_eq!(matches!(action, Action::Retry(_)), retries, "{kind:?}");
            assert_eq!(action == Action::Yield, kind == Kind::Fenced);
            assert_eq!(action == Action::Plan, kind == Kind::Schema);
        }
    }

    #[test]
    fn waits_grow_and_end_at_the_limit() {
        let limits = Limits::default();
        for attempt in [1, 2, 5, 100, u32::MAX] {
            let Action::Retry(wait) = action(Kind::Transient, attempt, &limits) else {
                panic!()
            };
            assert!(
                wait >= limits.backoff_first / 2 && wait <= limits.backoff_max,
                "{wait:?}"
            );
        }
    }
}
