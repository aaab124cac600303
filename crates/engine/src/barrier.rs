//! Where a verification and the stream meet.
//!
//! To compare a table while its task runs, both sides must be looked at at one moment. The source is
//! read in a snapshot that has seen certain transactions (its *visibility*); the target has the
//! transactions that the stream has applied. So:
//!
//! 1. The stream says a place and *notes* from there on each transaction it takes: which one, and which
//!    keys of the table it touches.
//! 2. The source's snapshot is taken; it has seen all that lies before the place. For that moment the
//!    stream takes nothing new ([`Barrier::hold`]), so that it does not run ahead of it.
//! 3. The stream goes on to the first transaction that the snapshot has not seen, or to where all that
//!    it has seen lies behind, and stands still there until the target's snapshot is taken, which needs
//!    a moment. That is the *barrier*: between transactions, with nothing under way.
//! 4. The stream goes on. A key is *disputed* if a transaction that touches it is in one of the two
//!    snapshots only: it was applied before the barrier and the source's snapshot has not seen it (one
//!    that was noted), or the snapshot has seen it and it comes behind the barrier (the order in which
//!    transactions become visible is not quite that of the log). When the stream has passed all that the
//!    snapshot has seen, the disputed keys are all known.
//!
//! Of every key that is not disputed both snapshots have seen the same transactions. So a difference in
//! such a key is one, whatever goes on meanwhile, and nothing here depends on how long anything takes:
//! times only decide how many keys are disputed, and those are compared again.
//!
//! A repair writes the source's rows of differing keys where the stream stands. These rows are as they
//! were at the barrier; so a key that a transaction behind the barrier has touched (*moved*) is left out,
//! and compared again. Repairs are written between transactions, with the task's own applier and epoch.
//!
//! Keys are kept as hashes: two keys with one hash are taken for one, which makes one of them disputed or
//! moved without need. Where two keys may be one to the target although their bytes differ, every key is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::plan::{Cascade, Plan};
use thalweg_core::position::{Position, TxId, Visibility};
use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch::{has_exact_key, key_hash};

/// Noted transactions and keys beyond which the source's snapshot has come too late.
const NOTES_MAX: usize = 500_000;
/// Moved and disputed keys beyond which every key is taken for one.
const KEYS_MAX: usize = 2_000_000;
/// How long the stream stands still for the source's snapshot.
const HOLD: Duration = Duration::from_secs(2);
/// Why a verification begins anew when the source cannot compare.
const UNTOLD: &str = "its snapshot is of another server than the stream";
/// How long it stands at the barrier for the target's snapshot.
const STAND: Duration = Duration::from_secs(10);

/// What a verification and the stream of its task share.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    /// Whether there is anything to look at; everything else is behind the lock.
    active: AtomicBool,
    state: Mutex<State>,
    /// Something for the stream.
    to_stream: Notify,
    /// Something for the verification.
    to_verifier: Notify,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    target: usize,
    /// The foreign keys that change rows of the table, directly or by way of others, without the log
    /// saying so.
    lead: Vec<Cascade>,
    notes: Vec<Note>,
    noted: usize,
    disputed: Keys,
    moved: Keys,
    /// Until when nothing new is taken.
    hold: Option<Instant>,
    repair: Option<ApplyBatch>,
    repaired: Option<Result<Repaired>>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Nobody verifies.
    #[default]
    Off,
    /// A place to begin is wanted.
    Wanted,
    /// What is taken behind the place is noted.
    Noting(Position),
    /// The source's snapshot has seen this; the stream is on its way to the barrier.
    Seen(Visibility),
    /// Nothing more is taken; what was taken is being applied.
    Closing(Visibility),
    /// Here the stream stands.
    At(Visibility, Position, Instant),
    /// The target's snapshot is taken. `true`: all that the source's has seen lies behind.
    Open(Visibility, bool),
    /// It has to begin anew.
    Lost(&'static str),
}

/// A transaction and the keys of the table that it touches.
#[derive(Debug)]
struct Note {
    id: TxId,
    keys: Keys,
}

/// A set of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    hashes: FxHashSet<u64>,
    /// Every key may be in it.
    all: bool,
}

impl Keys {
    pub(crate) fn has(&self, row: RowRef<'_>, key: &[usize]) -> bool {
        self.all || self.hashes.contains(&key_hash(row, key))
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.hashes.is_empty()
    }

    fn add(&mut self, other: &Keys) {
        self.all |= other.all;
        self.hashes.extend(&other.hashes);
        self.bound();
    }

    fn bound(&mut self) {
        if self.all || self.hashes.len() > KEYS_MAX {
            self.all = true;
            self.hashes = FxHashSet::default();
        }
    }
}

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// Rows that were written or removed.
    pub(crate) rows: u64,
    /// Rows that were left alone, because they have changed meanwhile.
    pub(crate) moved: u64,
}

/// A transaction as the stream takes it.
pub(crate) struct Taken<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) id: &'a TxId,
    /// What it does to the targets.
    pub(crate) ops: &'a [TableOp],
    pub(crate) rows: &'a RowBatch,
    /// Where it ends; `None`: this is a part of it.
    pub(crate) end: Option<&'a Position>,
}

/// What a source says of visibilities.
pub(crate) trait Sees {
    fn contains(&self, seen: &Visibility, id: &TxId) -> Result<bool>;
    fn passed(&self, at: &Position, seen: &Visibility) -> Result<bool>;
}

/// What the stream is to do between transactions.
pub(crate) enum Meeting {
    /// Go on.
    Go,
    /// Stand still until there is something new, at most until then.
    Stand(Instant),
    /// Write this. So many rows that it had have moved, and were left out.
    Repair(Box<ApplyBatch>, u64),
}

impl Barrier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The stream's side.

    /// Whether anybody verifies: otherwise nothing else needs to be asked.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Waits for something new for the stream. Cancel-safe.
    pub(crate) async fn news(&self) {
        self.to_stream.notified().await;
    }

    /// Whether nothing new may be taken between two transactions.
    pub(crate) fn halts(&self) -> bool {
        if !self.is_active() {
            return false;
        }
        let state = self.state();
        let held = state.hold.is_some_and(|until| until > Instant::now());
        held || state.repair.is_some() || matches!(state.stage, Stage::Closing(_) | Stage::At(..))
    }

    /// Until when it halts at most.
    pub(crate) fn halts_until(&self) -> Instant {
        let state = self.state();
        match (&state.stage, state.hold) {
            (Stage::At(_, _, until), _) => *until,
            (_, Some(until)) => until,
            _ => Instant::now() + STAND,
        }
    }

    /// Whether this transaction, the next one, may be taken; if not, the barrier is before it.
    pub(crate) fn admits(&self, id: &TxId, has_changes: bool, source: &dyn Sees) -> bool {
        let mut state = self.state();
        let Stage::Seen(seen) = &state.stage else {
            return true;
        };
        if !has_changes {
            return true;
        }
        match source.contains(seen, id) {
            Ok(true) => true,
            Ok(false) => {
                state.stage = Stage::Closing(seen.clone());
                false
            }
            Err(_) => {
                self.lose(&mut state, UNTOLD);
                true
            }
        }
    }

    /// A transaction, or a part of one, was taken. Tells whether the batch is to end with it.
    pub(crate) fn taken(&self, taken: &Taken<'_>, source: &dyn Sees) -> bool {
        let mut state = self.state();
        self.take(&mut state, taken, source).unwrap_or_else(|_| {
            self.lose(&mut state, UNTOLD);
            false
        })
    }

    fn take(&self, state: &mut State, taken: &Taken<'_>, source: &dyn Sees) -> Result<bool> {
        let mut ends = false;
        match &state.stage {
            Stage::Off | Stage::Lost(_) => return Ok(false),
            Stage::Wanted => {
                if let Some(end) = taken.end {
                    state.stage = Stage::Noting(end.clone());
                    self.to_verifier.notify_one();
                }
                return Ok(false);
            }
            Stage::Noting(_) => {
                let keys = state.touched(taken);
                if !keys.is_empty() {
                    state.noted += 1 + keys.hashes.len();
                    state.notes.push(Note {
                        id: taken.id.clone(),
                        keys,
                    });
                }
                if state.noted > NOTES_MAX {
                    state.stage = Stage::Lost("the source's snapshot was too long in coming");
                    self.to_verifier.notify_one();
                }
                return Ok(false);
            }
            Stage::Seen(seen) | Stage::Closing(seen) => {
                let keys = state.touched(taken);
                if !keys.is_empty() && !source.contains(seen, taken.id)? {
                    state.disputed.add(&keys);
                }
                if let Some(end) = taken.end
                    && source.passed(end, seen)?
                {
                    state.stage = Stage::Closing(seen.clone());
                    ends = true;
                }
            }
            Stage::At(..) => return Err(Error::bug("the stream has gone on from a barrier")),
            Stage::Open(seen, passed) => {
                let keys = state.touched(taken);
                if !keys.is_empty() {
                    if !passed && source.contains(seen, taken.id)? {
                        state.disputed.add(&keys);
                    }
                    state.moved.add(&keys);
                }
                if let Some(end) = taken.end
                    && !passed
                    && source.passed(end, seen)?
                {
                    state.stage = Stage::Open(seen.clone(), true);
                    self.to_verifier.notify_one();
                }
            }
        }
        Ok(ends)
    }

    /// The stream is between transactions, with nothing under way and all before `at` durable.
    pub(crate) fn meet(&self, at: &Position, plan: &Plan, source: &dyn Sees) -> Meeting {
        let mut state = self.state();
        self.met(&mut state, at, plan, source).unwrap_or_else(|_| {
            self.lose(&mut state, UNTOLD);
            Meeting::Go
        })
    }

    fn met(
        &self,
        state: &mut State,
        at: &Position,
        plan: &Plan,
        source: &dyn Sees,
    ) -> Result<Meeting> {
        let now = Instant::now();
        if let Some(until) = state.hold
            && until <= now
        {
            state.hold = None;
        }
        match &state.stage {
            Stage::Wanted => {
                state.stage = Stage::Noting(at.clone());
                self.to_verifier.notify_one();
            }
            Stage::Seen(seen) | Stage::Closing(seen) => {
                let closing = matches!(state.stage, Stage::Closing(_));
                if closing || source.passed(at, seen)? {
                    let until = now + STAND;
                    state.stage = Stage::At(seen.clone(), at.clone(), until);
                    self.to_verifier.notify_one();
                    return Ok(Meeting::Stand(until));
                }
            }
            Stage::At(_, _, until) if *until > now => return Ok(Meeting::Stand(*until)),
            Stage::At(..) => {
                state.stage = Stage::Lost("the target's snapshot was too long in coming");
                self.to_verifier.notify_one();
            }
            Stage::Open(seen, false) if source.passed(at, seen)? => {
                state.stage = Stage::Open(seen.clone(), true);
                self.to_verifier.notify_one();
            }
            _ => {}
        }
        if let Some(mut batch) = state.repair.take() {
            let moved = state.leave_out_moved(&mut batch, plan);
            return Ok(Meeting::Repair(Box::new(batch), moved));
        }
        Ok(match state.hold {
            Some(until) => Meeting::Stand(until),
            None => Meeting::Go,
        })
    }

    /// What became of a repair.
    pub(crate) fn repaired(&self, repaired: Result<Repaired>) {
        self.state().repaired = Some(repaired);
        self.to_verifier.notify_one();
    }

    /// The stream has ended, or begun: whatever was under way begins anew.
    pub(crate) fn interrupt(&self) {
        let mut state = self.state();
        if !matches!(state.stage, Stage::Off | Stage::Wanted) {
            self.lose(&mut state, "the task was interrupted");
        }
    }

    fn lose(&self, state: &mut State, why: &'static str) {
        *state = State {
            stage: Stage::Lost(why),
            ..State::default()
        };
        self.to_verifier.notify_one();
    }

    // The verification's side.

    /// Waits for a place behind which all is noted that touches the table.
    pub(crate) async fn begin(&self, plan: &Plan, target: usize) -> Result<Position> {
        {
            let mut state = self.state();
            *state = State {
                stage: Stage::Wanted,
                target,
                lead: lead(plan, target),
                ..State::default()
            };
            self.active.store(true, Ordering::Release);
        }
        self.to_stream.notify_one();
        self.wait(None, |state| match &state.stage {
            Stage::Noting(at) => Some(at.clone()),
            _ => None,
        })
        .await
    }

    /// The source's snapshot is about to be taken.
    pub(crate) fn hold(&self) {
        self.state().hold = Some(Instant::now() + HOLD);
    }

    /// The source's snapshot has seen this.
    pub(crate) fn seen(&self, seen: &Visibility, source: &dyn Sees) -> Result<()> {
        {
            let mut state = self.state();
            state.hold = None;
            if matches!(state.stage, Stage::Noting(_)) {
                for note in std::mem::take(&mut state.notes) {
                    if !source.contains(seen, &note.id)? {
                        state.disputed.add(&note.keys);
                    }
                }
                state.stage = Stage::Seen(seen.clone());
            }
        }
        self.to_stream.notify_one();
        Ok(())
    }

    /// Waits until the stream stands at the barrier; gives the place.
    pub(crate) async fn reached(&self, within: Duration) -> Result<Position> {
        self.wait(Some(within), |state| match &state.stage {
            Stage::At(_, at, _) => Some(at.clone()),
            _ => None,
        })
        .await
    }

    /// The target's snapshot is taken. An error if the stream has gone on without it.
    pub(crate) fn opened(&self) -> Result<()> {
        let mut state = self.state();
        let opened = match &state.stage {
            Stage::At(seen, ..) => {
                state.stage = Stage::Open(seen.clone(), false);
                Ok(())
            }
            Stage::Lost(why) => Err(lost(why)),
            _ => Err(lost("the stream has gone on")),
        };
        drop(state);
        self.to_stream.notify_one();
        opened
    }

    /// Waits until all disputed keys are known.
    pub(crate) async fn disputed(&self, within: Duration) -> Result<Keys> {
        self.wait(Some(within), |state| match &state.stage {
            Stage::Open(_, true) => Some(state.disputed.clone()),
            _ => None,
        })
        .await
    }

    /// Writes rows where the stream stands, but those that have moved. What the target says to it; an error
    /// if it was not asked.
    pub(crate) async fn repair(
        &self,
        batch: ApplyBatch,
        within: Duration,
    ) -> Result<Result<Repaired>> {
        {
            let mut state = self.state();
            // What has moved is known as long as this goes on.
            if !matches!(state.stage, Stage::Open(_, true)) {
                return Err(lost("the task was interrupted"));
            }
            state.repaired = None;
            state.repair = Some(batch);
        }
        self.to_stream.notify_one();
        self.wait(Some(within), |state| state.repaired.take()).await
    }

    /// An error if it has to begin anew.
    pub(crate) fn goes_on(&self) -> Result<()> {
        match &self.state().stage {
            Stage::Lost(why) => Err(lost(why)),
            _ => Ok(()),
        }
    }

    /// The verification of this range is over, or given up.
    pub(crate) fn end(&self) {
        *self.state() = State::default();
        self.active.store(false, Ordering::Release);
        self.to_stream.notify_one();
    }

    async fn wait<T>(
        &self,
        within: Option<Duration>,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let wait = async {
            loop {
                let notified = self.to_verifier.notified();
                {
                    let mut state = self.state();
                    if let Some(found) = found(&mut state) {
                        return Ok(found);
                    }
                    if let Stage::Lost(why) = &state.stage {
                        return Err(lost(why));
                    }
                }
                notified.await;
            }
        };
        match within {
            None => wait.await,
            Some(within) => tokio::time::timeout(within, wait)
                .await
                .unwrap_or_else(|_| Err(lost("the task is too far behind its source"))),
        }
    }
}

/// The foreign keys of the source that change rows of a table and log nothing, directly or by way of
/// other tables.
fn lead(plan: &Plan, target: usize) -> Vec<Cascade> {
    let (mut below, mut found) = (vec![target], Vec::new());
    while let Some(child) = below.pop() {
        for cascade in plan
            .cascades
            .iter()
            .filter(|c| c.child == child && !c.logged)
        {
            if !found.contains(cascade) {
                found.push(cascade.clone());
                below.push(cascade.parent);
            }
        }
    }
    found
}

fn lost(why: &str) -> Error {
    Error::transient(format!("the verification begins anew: {why}"))
}

impl State {
    /// Leaves out of a repair what has moved; says how many.
    fn leave_out_moved(&self, batch: &mut ApplyBatch, plan: &Plan) -> u64 {
        let key = plan.targets.get(self.target).map(|table| &table.key);
        let before = batch.ordered.len();
        let rows = &batch.rows;
        batch.ordered.retain(|op| match (key, op.op) {
            (Some(key), RowOp::Insert(row) | RowOp::Delete(row)) => {
                !self.moved.has(rows.row(row), key)
            }
            _ => false,
        });
        (before - batch.ordered.len()) as u64
    }

    /// The keys of the table that a transaction touches.
    fn touched(&self, taken: &Taken<'_>) -> Keys {
        let mut keys = Keys::default();
        let table = taken.plan.targets.get(self.target);
        let exact = table.filter(|table| has_exact_key(table));
        let key: &[usize] = exact.map_or(&[], |table| &table.key);
        for op in taken.ops {
            // What follows from it at the target is told by no operation.
            let mut lead = self.lead.iter().filter(|c| c.parent == op.target);
            keys.all |= lead.any(|cascade| cascade.fires(taken.rows, &op.op));
            if op.target != self.target {
                continue;
            }
            let mut put = |row: usize| {
                keys.hashes.insert(key_hash(taken.rows.row(row), key));
            };
            match op.op {
                _ if key.is_empty() => keys.all = true,
                RowOp::Insert(row) | RowOp::Delete(row) => put(row),
                RowOp::Update { before, after } => {
                    put(before);
                    put(after);
                }
                RowOp::Truncate => keys.all = true,
            }
        }
        keys.bound();
        keys
    }
}
