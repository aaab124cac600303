//! Whether a system still answers while something at it takes long.
//!
//! A statement may take hours, or wait for a lock, and nothing comes on its connection meanwhile. Nothing comes
//! either when the machine is gone, or a device between drops the packets, or the server is frozen. TCP notices the
//! first two late and the last never: whatever acknowledges the packets need not be the server. So who
//! waits long asks the server something else, on a new connection. If that is answered, be it by a refusal,
//! the wait goes on; if it is not, twice in a row, the connection that was waited for is given up.

use std::future::pending;
use std::time::Duration;

use thalweg_core::ports::Inspect;
use thalweg_core::{Error, Result, Side};
use tokio::time::{Instant, sleep, timeout};

/// How long something may take before anybody asks; then it is asked as often.
const LONG: Duration = Duration::from_secs(10);
/// How long an answer may take. Twice this after [`LONG`] a connection is given up: within half a minute.
const ANSWER: Duration = Duration::from_secs(8);
/// An error that comes sooner than this has come from the server.
const REFUSAL: Duration = Duration::from_secs(1);

/// Waits for `what`, as long as the systems that have to do with it answer, or `progress` grows.
pub(crate) async fn while_answering<T>(
    what: impl Future<Output = Result<T>>,
    systems: &[(Side, &dyn Inspect)],
    progress: impl Fn() -> u64,
) -> Result<T> {
    let gone = async {
        match systems {
            [(side, system)] => lost(*system, *side, &progress).await,
            [(one, first), (other, second), ..] => tokio::select! {
                gone = lost(*first, *one, &progress) => gone,
                gone = lost(*second, *other, &progress) => gone,
            },
            [] => pending().await,
        }
    };
    tokio::select! {
        biased;
        done = what => done,
        gone = gone => Err(gone),
    }
}

/// Ends when the system does not answer.
pub(crate) async fn lost(system: &dyn Inspect, side: Side, progress: impl Fn() -> u64) -> Error {
    let mut before = progress();
    loop {
        sleep(LONG).await;
        let now = progress();
        if now != before {
            before = now;
            continue;
        }
        if !answers(system).await && !answers(system).await {
            return Error::transient(format!(
                "the {} does not answer: nothing has come on a connection for {} s, and nothing on a new one",
                match side {
                    Side::Source => "source",
                    Side::Target => "target",
                },
                LONG.as_secs()
            ))
            .with_hint("look whether the server runs and can be reached; the task goes on by itself")
            .at(side);
        }
    }
}

async fn answers(system: &dyn Inspect) -> bool {
    let since = Instant::now();
    match timeout(ANSWER, system.probe()).await {
        Ok(Ok(())) => true,
        Ok(Err(_)) => since.elapsed() < REFUSAL,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use thalweg_core::Kind;
    use thalweg_core::schema::{TableName, TableSchema};

    use super::*;

    /// A system whose answers take so long, and are refusals or not.
    struct Slow(Duration, bool);

    #[async_trait]
    impl Inspect for Slow {
        async fn probe(&self) -> Result<()> {
            sleep(self.0).await;
            match self.1 {
                true => Ok(()),
                false => Err(Error::transient("too many connections")),
            }
        }

        async fn tables(&self) -> Result<Vec<TableName>> {
            Ok(Vec::new())
        }

        async fn describe(&self, _tables: &[TableName]) -> Result<Vec<TableSchema>> {
            Ok(Vec::new())
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    /// How something ends that takes an hour, and after how many seconds.
    async fn waited(system: Slow, progress: impl Fn() -> u64) -> (Result<()>, u64) {
        let since = Instant::now();
        let what = async {
            sleep(HOUR).await;
            Ok(())
        };
        let done = while_answering(what, &[(Side::Target, &system)], progress).await;
        (done, since.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_waited_for_and_who_does_not_is_given_up() {
        let (done, _) = waited(Slow(Duration::from_secs(5), true), || 0).await;
        done.unwrap();
        let (done, _) = waited(Slow(Duration::from_millis(50), false), || 0).await;
        done.unwrap();
        for (answer, ok) in [(HOUR, true), (Duration::from_secs(5), false)] {
            let (done, after) = waited(Slow(answer, ok), || 0).await;
            let error = done.unwrap_err();
            assert_eq!(
                (error.kind(), error.side()),
                (Kind::Transient, Some(Side::Target))
            );
            assert!(after <= 30, "{after} s");
        }
        let count = AtomicU64::new(0);
        let moves = || count.fetch_add(1, Ordering::Relaxed);
        waited(Slow(HOUR, true), moves).await.0.unwrap();
    }
}
