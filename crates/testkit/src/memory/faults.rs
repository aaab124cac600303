//! Dying at a chosen step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thalweg_core::{Error, Result};

/// Counts steps of both connectors and kills the "process" at one of them: from then on every call
/// fails until [`Faults::revive`], as if nobody were there to make it. A step stands before and
/// after each effect, so that both "not done" and "done, but nobody heard" occur.
#[derive(Debug)]
pub struct Faults {
    steps: AtomicU64,
    die_at: AtomicU64,
    dead: AtomicBool,
    transient: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            steps: AtomicU64::new(0),
            die_at: AtomicU64::new(u64::MAX),
            dead: AtomicBool::new(false),
            transient: AtomicBool::new(false),
        }
    }
}

impl Faults {
    /// Starts counting anew and dies at step `step` (from 0).
    pub fn die_at(&self, step: u64) {
        self.steps.store(0, Ordering::SeqCst);
        self.die_at.store(step, Ordering::SeqCst);
        self.transient.store(false, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
    }

    /// Starts counting anew and fails once, with a `Transient` error, at step `step`.
    pub fn stumble_at(&self, step: u64) {
        self.die_at(step);
        self.transient.store(true, Ordering::SeqCst);
    }

    /// No more faults.
    pub fn revive(&self) {
        self.die_at(u64::MAX);
    }

    /// Steps taken since the last start of counting.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Whether the fault has happened.
    pub fn happened(&self) -> bool {
        self.steps() > self.die_at.load(Ordering::SeqCst)
    }

    /// One step: an error if the fault is here, or the process is dead.
    pub fn step(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(Error::bug("the simulated process is dead"));
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if step != self.die_at.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.transient.load(Ordering::SeqCst) {
            return Err(Error::transient("the simulated connection broke"));
        }
        self.dead.store(true, Ordering::SeqCst);
        Err(Error::bug("the simulated process dies"))
    }
}
