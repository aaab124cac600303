//! How far a task is behind its source, measured from outside the stream.
//!
//! The age of the last event says nothing on an idle source, and a stream that does not move says
//! nothing at all. So every second the source is asked for the end of its log, and the answer is
//! kept as a *mark* together with the moment before the question was put. What the target has
//! durably is compared with the marks:
//!
//! - while a mark is not reached, everything committed before its moment may be missing, so the lag
//!   is the age of the oldest such mark, but not less than the last one took: a mark that is new
//!   says nothing yet;
//! - when all are reached, the lag is how long the last one took;
//! - until one is reached, nothing is known: the stream may have begun anywhere before it.
//!
//! The moment lies before the question, so the lag may come out too long by the time of the answer,
//! and never too short. It is unknown before the first answer and when there has been none for
//! [`ANSWER_MAX`]; a failing question is nothing else: a source that is gone is the stream's to
//! find out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use thalweg_core::ports::Source;
use thalweg_core::position::Position;
use thalweg_core::{Error, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::status::Reporter;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// A source that has not answered for so long cannot be asked.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Marks stand closer to each other than this part of the lag, so that it is true within it.
const RESOLUTION: u32 = 100;
/// Marks kept: with the spacing above enough for a lag of ten days.
const MARKS_MAX: usize = 1_000;

/// The probes of a stream; they end when this is dropped.
pub(crate) struct Probes {
    _running: JoinSet<()>,
    behind: watch::Receiver<Option<Instant>>,
}

impl Probes {
    /// For how long already something is missing at the target; zero when nothing is, or nothing is
    /// known.
    pub(crate) fn behind(&self) -> Duration {
        self.behind
            .borrow()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Starts the probes of a stream. `applied` is what the target has durably.
pub(crate) fn start(
    source: Arc<dyn Source>,
    applied: watch::Receiver<Position>,
    report: Reporter,
) -> Probes {
    let (oldest, behind) = watch::channel(None);
    let mut probes = JoinSet::new();
    probes.spawn(backlog(
        Arc::clone(&source),
        applied.clone(),
        report.clone(),
    ));
    probes.spawn(lag(source, applied, report, oldest));
    Probes {
        _running: probes,
        behind,
    }
}

/// What can wake the probe of the lag.
enum Wake {
    Tick,
    Answer(Result<Position>),
    Applied,
}

/// `oldest`: the moment of the oldest mark that is not reached.
async fn lag(
    source: Arc<dyn Source>,
    mut applied: watch::Receiver<Position>,
    report: Reporter,
    oldest: watch::Sender<Option<Instant>>,
) {
    let mut marks = Marks::default();
    let mut tick = every_second();
    // The moment before the question, and the question.
    let mut asked = None;
    loop {
        let answer = async {
            match &mut asked {
                Some((_, question)) => Pin::as_mut(question).await,
                None => std::future::pending().await,
            }
        };
        let wake = tokio::select! {
            _ = tick.tick() => Wake::Tick,
            answer = answer => Wake::Answer(answer),
            moved = applied.changed() => match moved {
                Ok(()) => Wake::Applied,
                // The stream has ended.
                Err(_) => return,
            },
        };
        let moved = matches!(wake, Wake::Applied);
        match wake {
            Wake::Tick if asked.is_none() => {
                let source = Arc::clone(&source);
                let question = async move { ask(source.head()).await };
                asked = Some((Instant::now(), Box::pin(question)));
            }
            Wake::Tick | Wake::Applied => {}
            Wake::Answer(answer) => {
                if let (Some((moment, _)), Ok(mark)) = (asked.take(), answer) {
                    marks.add(mark, moment);
                }
            }
        }
        let at = applied.borrow_and_update().clone();
        let reached = marks.reach(|mark| source.reached(&at, mark));
        oldest.send_if_modified(|known| {
            let now = marks.waiting.front().map(|(_, moment)| *moment);
            std::mem::replace(known, now) != now
        });
        // A busy stream moves a thousand times a second; that alone is no news.
        if reached || !moved {
            report.lag(marks.lag());
        }
    }
}

async fn backlog(source: Arc<dyn Source>, applied: watch::Receiver<Position>, report: Reporter) {
    let mut tick = every_second();
    loop {
        tick.tick().await;
        let at = applied.borrow().clone();
        let bytes = ask(source.backlog_bytes(&at)).await;
        report.backlog(bytes.ok().flatten());
    }
}

fn every_second() -> tokio::time::Interval {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Puts a question with a limit.
async fn ask<T>(question: impl Future<Output = Result<T>>) -> Result<T> {
    let answer = timeout(ANSWER_MAX, question)
        .await
        .unwrap_or_else(|_| Err(Error::transient("the source did not answer a probe")));
    if let Err(error) = &answer {
        debug!(error = %error.chain(), "a probe has no answer");
    }
    answer
}

/// Ends of the log that were seen, and when.
#[derive(Debug, Default)]
struct Marks {
    /// Not reached yet, oldest first.
    waiting: VecDeque<(Position, Instant)>,
    /// How long the last reached one took.
    took: Option<Duration>,
    /// When the source last answered.
    answered: Option<Instant>,
}

impl Marks {
    fn add(&mut self, mark: Position, moment: Instant) {
        self.answered = Some(Instant::now());
        if let (Some((_, first)), Some((_, last))) = (self.waiting.front(), self.waiting.back()) {
            let spacing = moment.duration_since(*first) / RESOLUTION;
            let close = moment.duration_since(*last) < spacing;
            if close || self.waiting.len() >= MARKS_MAX {
                return;
            }
        }
        self.waiting.push_back((mark, moment));
    }

    /// Drops the marks that are reached; says whether there were any. Where marks cannot be
    /// compared with what is applied, nothing is known.
    fn reach(&mut self, reached: impl Fn(&Position) -> Result<bool>) -> bool {
        let mut any = false;
        while let Some((mark, moment)) = self.waiting.front() {
            match reached(mark) {
                Ok(true) => {
                    self.took = Some(moment.elapsed());
                    self.waiting.pop_front();
                    any = true;
                }
                Ok(false) => break,
                Err(_) => {
                    *self = Marks::default();
                    return true;
                }
            }
        }
        any
    }

    fn lag(&self) -> Option<Duration> {
        self.answered
            .filter(|answered| answered.elapsed() <= ANSWER_MAX)?;
        let took = self.took?;
        let waits = self.waiting.front().map(|(_, moment)| moment.elapsed());
        Some(waits.map_or(took, |waits| waits.max(took)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(marks: &mut Marks, at: u32) -> bool {
        marks.reach(|mark| Ok(mark.as_str().parse::<u32>().unwrap() <= at))
    }

    fn position(at: u32) -> Position {
        Position::new(at.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_bounded_and_the_lag_is_true_within_a_hundredth() {
        let mut marks = Marks::default();
        let hours = 24 * 10;
        marks.took = Some(Duration::ZERO);
        let first = Instant::now();
        for n in 1..=3_600 * hours {
            marks.add(position(n), Instant::now());
            tokio::time::advance(EVERY).await;
        }
        assert!(marks.waiting.len() < MARKS_MAX, "{}", marks.waiting.len());
        assert_eq!(marks.lag(), Some(first.elapsed()));
        for hour in (1..hours).rev() {
            let truth = 3_600 * u64::from(hour);
            reach(&mut marks, 3_600 * (hours - hour));
            // What the reached ones took is more than what is left.
            marks.took = Some(Duration::ZERO);
            let lag = marks.lag().unwrap().as_secs();
            let wrong = first.elapsed().as_secs() / u64::from(RESOLUTION) + 1;
            assert!(lag <= truth && lag + wrong >= truth, "{lag}, not {truth}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_before_an_answer_and_long_after_the_last() {
        let mut marks = Marks::default();
        assert_eq!(marks.lag(), None);
        marks.add(position(1), Instant::now());
        assert_eq!(marks.lag(), None, "it may have begun anywhere");
        tokio::time::advance(Duration::from_millis(3)).await;
        assert!(reach(&mut marks, 1));
        assert_eq!(marks.lag(), Some(Duration::from_millis(3)));
        marks.add(position(2), Instant::now());
        assert_eq!(marks.lag(), Some(Duration::from_millis(3)), "a new mark");
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!(marks.lag(), Some(Duration::from_millis(5)));
        tokio::time::advance(ANSWER_MAX).await;
        assert_eq!(marks.lag(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_that_cannot_be_compared_say_nothing() {
        let mut marks = Marks::default();
        marks.add(position(1), Instant::now());
        marks.reach(|_| Err(Error::bug("another server")));
        assert_eq!(marks.lag(), None);
    }
}
