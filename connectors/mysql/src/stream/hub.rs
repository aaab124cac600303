//! One dump for all tasks of a source that stand at the head of its log.
//!
//! A task opens a dump of its own, which checks all that has to be checked, and catches up by itself. Only
//! where nothing more is there to be read, between two groups, does it look for company: its dump becomes
//! the shared one, or it takes a seat at the one there is and closes its own. While it is the source's
//! only task there is no sharing and no cost of it.
//!
//! Where many tasks begin at once far behind the head, as after a restart of the process, each would read all of
//! the log alone. So one that has much to catch up with opens a shared dump at once if others have begun
//! that have no stream yet, and waits for them before it reads: as long as they keep coming, and not for ever.
//!
//! **Nothing is lost or comes twice.** A seat is taken at a place where the decoder stands between two
//! groups and which the shared dump passes as well: one that it has in its ring, is at, or will come to
//! soon. Places are the same if server, file, offset and the file's birth are. From there on the seat is
//! given every piece ([`super::piece`]) that is for everybody or has one of its tables, in order, and of
//! the others knows that they lie between. So the decoder sees what it would on its own dump, but for
//! groups of which it would have kept the position only; and that is handed over with the next piece, or
//! when nothing has come for a while.
//!
//! **Nobody waits for anybody.** There is no task that reads. Whoever has nothing left and wants more takes the
//! dump and reads until there is something for itself, for the others too; the others are woken for what is
//! theirs. Pieces lie in a ring of bounded size, and whoever is so far behind that a piece for it has left
//! the ring has lost its seat and goes on with its own dump where it stands. Before a piece goes that
//! somebody still wants, reading pauses for [`turn::GRACE`] at most, and not again for a quarter of the ring: so
//! much is granted to a seat that had no processor for a moment. Where many begin together there is that much
//! for each of them, once.
//!
//! **An error is nobody's.** When the dump ends, for whatever reason, all seats are lost. Each task opens its own
//! dump, and so meets what it would meet without company: the same error, or none.

mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use thalweg_core::ports::DataSourceConfig;
use tokio::sync::Notify;

use self::turn::{Reader, Turn};
use super::cursor::Cursor;
use super::dump::{DRAWN, Dump};
use super::piece::{Cutter, Piece, Point};

/// Pieces are kept up to so many bytes.
pub(super) const RING: usize = 4 << 20;
/// Who is ahead of the dump by no more than this takes a seat and reads on from there.
const AHEAD: u64 = 1 << 20;
/// How long a dump that has much to catch up with waits for tasks that have begun, at most,
const HOLD: Duration = Duration::from_secs(30);
/// how long since the last one came,
const QUIET: Duration = Duration::from_secs(3);
/// and how long if no other is under way. A person's script, or we after a restart, start one after the other.
const SETTLED: Duration = Duration::from_secs(1);

/// The hubs of all sources.
#[derive(Default)]
pub(crate) struct Hubs(Mutex<Vec<(DataSourceConfig, Weak<Hub>)>>);

impl Hubs {
    /// The hub of a source. A task for which somebody chose a replica id shares nothing.
    pub(crate) fn of(&self, config: &DataSourceConfig) -> Option<Arc<Hub>> {
        if config.server_id.is_some_and(|id| id < DRAWN) {
            return None;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, hub)| hub.strong_count() > 0);
        let known = all.iter().find(|(other, _)| same(config, other));
        if let Some(hub) = known.and_then(|(_, hub)| hub.upgrade()) {
            return Some(hub);
        }
        let hub = Arc::new(Hub::default());
        all.push((config.clone(), Arc::downgrade(&hub)));
        Some(hub)
    }
}

/// Whether both reach the same server as the same user, in the same way.
fn same(a: &DataSourceConfig, b: &DataSourceConfig) -> bool {
    let who = |c: &DataSourceConfig| (c.port, c.allow_cleartext_password);
    who(a) == who(b)
        && a.host == b.host
        && a.user == b.user
        && a.password == b.password
        && a.tls == b.tls
}

/// What the streams of a source share.
#[derive(Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    /// How many streams there are, with seats or without.
    streams: AtomicUsize,
    /// Since when a stream is expected, by a number.
    coming: Mutex<BTreeMap<u64, Instant>>,
}

#[derive(Default)]
enum Place {
    #[default]
    Nowhere,
    Here(Box<Reader>),
    /// Somebody reads.
    Out,
}

#[derive(Debug)]
struct Seat {
    /// Numbers of the pieces that are for it.
    queue: VecDeque<u64>,
    /// Ahead of the dump: nothing before this is for it.
    from: Option<Cursor>,
    lost: bool,
    waits: bool,
    bell: Arc<Notify>,
}

#[derive(Default)]
struct State {
    reader: Place,
    seats: Vec<Option<Seat>>,
    taken: usize,
    /// Which seats want a table.
    wants: FxHashMap<Vec<u8>, Vec<usize>>,
    /// Seats that are ahead of the dump.
    ahead: Vec<usize>,
    ring: VecDeque<Arc<Piece>>,
    /// Number of the ring's first piece.
    first: u64,
    held: usize,
    /// The place behind the ring's last piece.
    front: Option<Point>,
    /// The dump's replica id.
    id: Option<u32>,
    /// Since when those are waited for that are expected, and when the last one came.
    hold: Option<(Instant, Instant)>,
    /// Where there was more than one seat for the last time, in bytes of log.
    shared: u64,
    /// Whom to wake first, so that it is not always the same.
    next: usize,
}

/// What a seat is given.
pub(super) enum Given {
    Piece(Arc<Piece>),
    /// Nothing came in time. If all that has passed was for others, where that ends.
    Nothing(Option<Point>),
    /// The source has no other stream any more: its dump, and the place where it is.
    Alone(Box<Dump>, Point),
    /// The seat is lost.
    Lost,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects a stream.
    pub(crate) fn expect(self: &Arc<Self>) -> Expected {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let number = coming.last_key_value().map_or(0, |(last, _)| last + 1);
        coming.insert(number, Instant::now());
        Expected {
            hub: Arc::clone(self),
            number,
        }
    }

    fn expects(&self) -> bool {
        let coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.values().any(|since| since.elapsed() < HOLD)
    }

    /// The replica id of the shared dump.
    pub(super) fn id(&self) -> Option<u32> {
        self.state().id
    }

    /// Puts a reader back. What it has read goes into the ring, whether or not whoever read is still there.
    fn put_back(&self, mut reader: Box<Reader>) {
        let mut state = self.state();
        state.add(&mut reader.done);
        if state.taken > 0 {
            state.reader = Place::Here(reader);
            state.call();
        } else {
            state.clear();
        }
    }
}

/// A task has begun, and its stream may come.
pub(crate) struct Expected {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Expected {
    fn drop(&mut self) {
        let coming = &self.hub.coming;
        let mut coming = coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.remove(&self.number);
        if coming.is_empty() {
            drop(coming);
            self.hub.state().call();
        }
    }
}

/// A stream of a source.
pub(super) struct Guest(Arc<Hub>);

impl Guest {
    pub(super) fn new(hub: Arc<Hub>) -> Guest {
        hub.streams.fetch_add(1, Ordering::Relaxed);
        Guest(hub)
    }

    /// Whether the source has other streams.
    pub(super) fn has_company(&self) -> bool {
        self.0.streams.load(Ordering::Relaxed) > 1
    }

    /// Whether other streams are about to come.
    pub(super) fn expects_company(&self) -> bool {
        self.0.expects()
    }

    /// Takes a seat for these tables at a place between two groups, and gives it with the bytes of log
    /// up to there; `None`: no dump is there or will be soon.
    pub(super) fn join(
        &self,
        at: &Cursor,
        tables: &mut dyn FnMut() -> Vec<Vec<u8>>,
    ) -> Option<(Ticket, u64)> {
        let mut state = self.0.state();
        let front = state.front.as_ref()?;
        let mut from = None;
        let mut past = state.ring.len();
        let mut bytes = front.bytes;
        if !front.cursor.meets(at) {
            let gap = at.pos.checked_sub(front.cursor.pos);
            match gap.filter(|gap| *gap <= AHEAD && front.cursor.same_file(at)) {
                Some(gap) => {
                    bytes += gap;
                    from = Some(at.clone());
                }
                None => {
                    past = state.ring.iter().rposition(|p| p.before.cursor.meets(at))?;
                    bytes = state.ring.get(past)?.before.bytes;
                }
            }
        }
        Some((self.sit(&mut state, tables(), from, past), bytes))
    }

    /// A seat at this place, between two groups, if there is no dump. It is to [`Ticket::bring`] its own.
    /// `hold`: those that are expected are waited for.
    pub(super) fn open(&self, at: &Cursor, tables: Vec<Vec<u8>>, hold: bool) -> Option<Ticket> {
        let mut state = self.0.state();
        if !matches!(state.reader, Place::Nowhere) {
            return None;
        }
        state.clear();
        state.front = Some(Cutter::new(at.clone()).cut_at().clone());
        state.reader = Place::Out;
        state.hold = hold.then(|| (Instant::now(), Instant::now()));
        Some(self.sit(&mut state, tables, None, 0))
    }

    /// A seat for which the ring's pieces from `past` on are.
    fn sit(
        &self,
        state: &mut State,
        tables: Vec<Vec<u8>>,
        from: Option<Cursor>,
        past: usize,
    ) -> Ticket {
        let wanted = |piece: &Piece| match piece.tables() {
            None => true,
            Some(mut names) => names.any(|name| tables.iter().any(|t| t == name)),
        };
        let numbered = (state.first..).zip(&state.ring).skip(past);
        let queue = numbered.filter(|(_, p)| wanted(p)).map(|(n, _)| n);
        let bell = Arc::new(Notify::new());
        let ahead = from.is_some();
        let seat = Seat {
            queue: queue.collect(),
            from,
            lost: false,
            waits: false,
            bell: Arc::clone(&bell),
        };
        let free = state.seats.iter().position(Option::is_none);
        let index = free.unwrap_or(state.seats.len());
        match state.seats.get_mut(index) {
            Some(place) => *place = Some(seat),
            None => state.seats.push(Some(seat)),
        }
        state.taken += 1;
        state.note();
        if let Some((_, last)) = &mut state.hold {
            *last = Instant::now();
        }
        if ahead {
            state.ahead.push(index);
        }
        for table in tables {
            state.wants.entry(table).or_default().push(index);
        }
        Ticket {
            hub: Arc::clone(&self.0),
            index,
            bell,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// Takes pieces into the ring, and wakes those they are for.
    fn add(&mut self, done: &mut Vec<Arc<Piece>>) {
        let mut wake: Vec<usize> = Vec::new();
        for piece in done.drain(..) {
            let number = self.first + self.ring.len() as u64;
            self.arrive(&piece);
            match piece.tables() {
                None => {
                    for seat in self.seats.iter_mut().flatten() {
                        seat.push(number, self.first);
                    }
                }
                Some(names) => {
                    for index in names.filter_map(|name| self.wants.get(name)).flatten() {
                        if let Some(Some(seat)) = self.seats.get_mut(*index) {
                            seat.push(number, self.first);
                            wake.push(*index);
                        }
                    }
                }
            }
            if piece.tables().is_none() {
                wake.extend(0..self.seats.len());
            }
            self.held += piece.held();
            self.front = Some(piece.after.clone());
            self.ring.push_back(piece);
            while self.held > RING && self.ring.len() > 1 {
                self.held -= self.ring.pop_front().map_or(0, |p| p.held());
                self.first += 1;
            }
        }
        for index in wake {
            if let Some(Some(seat)) = self.seats.get_mut(index) {
                seat.wake();
            }
        }
    }

    /// Seats that were ahead of the dump and are not any more.
    fn arrive(&mut self, piece: &Piece) {
        let (seats, before) = (&mut self.seats, &piece.before.cursor);
        self.ahead.retain(|index| {
            let Some(Some(seat)) = seats.get_mut(*index) else {
                return false;
            };
            let Some(from) = &seat.from else {
                return false;
            };
            if before.meets(from) {
                seat.from = None;
            } else if !before.same_file(from) || before.pos > from.pos {
                // The place is none between two pieces.
                seat.lose();
            }
            seat.from.is_some() && !seat.lost
        });
    }

    /// More than one has a seat here.
    fn note(&mut self) {
        if self.taken > 1 {
            self.shared = self.front.as_ref().map_or(0, |front| front.bytes);
        }
    }

    /// Whether a piece is wanted that is about to leave the ring.
    fn is_late(&self) -> bool {
        let old = self.first + self.ring.len() as u64 / 4;
        let late = |seat: &Seat| seat.queue.front().is_some_and(|number| *number < old);
        self.held > RING / 4 * 3 && self.seats.iter().flatten().any(late)
    }

    /// Wakes somebody who may read, because nobody does.
    fn call(&mut self) {
        if !matches!(self.reader, Place::Here(_)) {
            return;
        }
        let count = self.seats.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            if let Some(Some(seat)) = self.seats.get_mut(index)
                && seat.waits
            {
                seat.wake();
                self.next = index + 1;
                return;
            }
        }
    }

    /// The dump has ended: all seats are lost.
    fn clear(&mut self) {
        self.reader = Place::Nowhere;
        self.front = None;
        self.id = None;
        self.hold = None;
        self.shared = 0;
        self.first += self.ring.len() as u64;
        self.ring.clear();
        self.held = 0;
        self.ahead.clear();
        for seat in self.seats.iter_mut().flatten() {
            seat.lose();
            seat.wake();
        }
    }
}

impl Seat {
    fn push(&mut self, number: u64, first: u64) {
        if self.lost || self.from.is_some() {
            return;
        }
        match (self.queue.front(), self.queue.back()) {
            (Some(oldest), _) if *oldest < first => self.lose(),
            (_, Some(last)) if *last == number => {}
            _ => self.queue.push_back(number),
        }
    }

    fn lose(&mut self) {
        self.lost = true;
        self.queue = VecDeque::new();
    }

    fn wake(&mut self) {
        if self.waits {
            self.waits = false;
            self.bell.notify_one();
        }
    }
}

/// A seat. Dropping it gives it back.
pub(super) struct Ticket {
    hub: Arc<Hub>,
    index: usize,
    bell: Arc<Notify>,
}

/// What a look at the seat says.
enum Look {
    Give(Given),
    Read(Box<Reader>),
    /// Until it is woken, but not longer than this.
    Wait(Duration),
}

impl Ticket {
    /// Brings the dump that all shall have, from where it is on.
    pub(super) fn bring(&self, dump: Dump, at: &Cursor) {
        self.hub.state().id = Some(dump.id);
        self.hub.put_back(Box::new(Reader::new(dump, at)));
    }

    /// What comes next for the seat, waited for so long. Cancel-safe.
    pub(super) async fn next(&self, wait: Duration) -> Given {
        let until = Instant::now() + wait;
        let mut read = false;
        loop {
            match self.look(until, read) {
                Look::Give(given) => return given,
                Look::Read(reader) => {
                    read = true;
                    let mut turn = Turn::new(self, reader);
                    if let Err(error) = turn.run(until).await {
                        tracing::info!(error = %error.chain(), "a shared binlog stream ended");
                        turn.end();
                    }
                }
                Look::Wait(most) => {
                    let left = until.saturating_duration_since(Instant::now()).min(most);
                    // Whether it was woken or not, the next look tells.
                    drop(tokio::time::timeout(left, self.bell.notified()).await);
                }
            }
        }
    }

    /// Brings pieces into the ring, and tells whether the seat has one now, or lost what it had.
    fn share(&self, done: &mut Vec<Arc<Piece>>) -> bool {
        let mut state = self.hub.state();
        state.add(done);
        let seat = state.seats.get(self.index).and_then(Option::as_ref);
        seat.is_none_or(|seat| seat.lost || !seat.queue.is_empty())
    }

    /// `read`: this one has just put the dump back, and so has called somebody else.
    fn look(&self, until: Instant, read: bool) -> Look {
        let mut state = self.hub.state();
        let state = &mut *state;
        let Some(Some(seat)) = state.seats.get_mut(self.index) else {
            return Look::Give(Given::Lost);
        };
        seat.waits = false;
        if let Some(number) = seat.queue.front().copied() {
            let index = number.checked_sub(state.first);
            let index = index.and_then(|index| usize::try_from(index).ok());
            let piece = index.and_then(|index| state.ring.get(index)).cloned();
            let given = match piece {
                Some(piece) => {
                    seat.queue.pop_front();
                    Given::Piece(piece)
                }
                None => {
                    seat.lose();
                    Given::Lost
                }
            };
            if !read {
                state.call();
            }
            return Look::Give(given);
        }
        if seat.lost {
            return Look::Give(Given::Lost);
        }
        if Instant::now() >= until {
            let front = match seat.from {
                None => state.front.clone(),
                Some(_) => None,
            };
            if !read {
                state.call();
            }
            return Look::Give(Given::Nothing(front));
        }
        if let Some((since, last)) = state.hold {
            let quiet = match self.hub.expects() {
                true => QUIET,
                false => SETTLED,
            };
            let left = HOLD.saturating_sub(since.elapsed());
            let left = left.min(quiet.saturating_sub(last.elapsed()));
            if !left.is_zero() {
                seat.waits = true;
                return Look::Wait(left);
            }
            state.hold = None;
            if let Place::Here(reader) = &mut state.reader {
                reader.gathered(state.taken);
            }
        }
        match std::mem::replace(&mut state.reader, Place::Out) {
            Place::Here(reader) => {
                let only = self.hub.streams.load(Ordering::Relaxed) == 1;
                let read = state.front.as_ref().map_or(0, |front| front.bytes);
                let alone =
                    state.taken == 1 && (only || read.saturating_sub(state.shared) > RING as u64);
                let between = reader.cutter.is_empty() && reader.done.is_empty();
                if alone && between && state.ahead.is_empty() {
                    state.reader = Place::Nowhere;
                    state.front = None;
                    state.id = None;
                    let at = reader.cutter.cut_at().clone();
                    return Look::Give(Given::Alone(Box::new(reader.dump), at));
                }
                Look::Read(reader)
            }
            Place::Out => {
                seat.waits = true;
                Look::Wait(Duration::MAX)
            }
            Place::Nowhere => {
                state.reader = Place::Nowhere;
                Look::Give(Given::Lost)
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(seat) = state.seats.get_mut(self.index) {
            *seat = None;
        }
        state.note();
        state.taken -= 1;
        state.ahead.retain(|index| *index != self.index);
        state.wants.retain(|_, seats| {
            seats.retain(|index| *index != self.index);
            !seats.is_empty()
        });
        if state.taken == 0 {
            if !matches!(state.reader, Place::Out) {
                state.clear();
            }
        } else {
            // It may have been called to read.
            state.call();
        }
    }
}
