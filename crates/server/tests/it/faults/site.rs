//! Where a fault happens: both servers, the networks to them, and who the task is there.

use std::time::Duration;

use anyhow::{Result, ensure};
use thalweg_core::Side;
use thalweg_testkit::proxy::Proxy;
use thalweg_testkit::servers::{Account, Place, System, send_signal};

use crate::lab::Lab;

/// What a fault can reach.
pub(super) struct Site<'a> {
    pub(super) lab: &'a Lab,
    pub(super) proxies: &'a [Proxy; 2],
    pub(super) task: &'a str,
}

impl Site<'_> {
    pub(super) fn place(&self, side: Side) -> &Place {
        match side {
            Side::Source => &self.lab.source,
            Side::Target => &self.lab.target,
        }
    }

    pub(super) fn network(&self, side: Side) -> &Proxy {
        let [source, target] = self.proxies;
        match side {
            Side::Source => source,
            Side::Target => target,
        }
    }

    pub(super) fn account(&self, side: Side) -> &Account {
        let [source, target] = &self.lab.accounts;
        match side {
            Side::Source => source,
            Side::Target => target,
        }
    }

    /// Runs the statements that the server of a side understands, `{user}` being the task's account there.
    pub(super) fn sql(&self, side: Side, mariadb: &str, postgres: &str) -> Result<String> {
        let place = self.place(side);
        let user = &self.account(side).user;
        match place.system() {
            System::MariaDb => place.sql(&mariadb.replace("{user}", &format!("{user}@'%'"))),
            System::Postgres => place.sql(&postgres.replace("{user}", user)),
        }
    }

    /// Ends all sessions of the task.
    pub(super) fn end_sessions(&self, side: Side) -> Result<()> {
        let place = self.place(side);
        let user = &self.account(side).user;
        if place.system() == System::Postgres {
            let end = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'"
            );
            return place.sql(&end).map(drop);
        }
        let which = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'");
        for id in place.sql(&which)?.lines() {
            // Some have ended by now.
            place.sql(&format!("KILL {id}")).ok();
        }
        Ok(())
    }

    /// Sends a signal to a server and all its workers.
    pub(super) fn signal(&self, side: Side, name: &str) -> Result<()> {
        let pid = self.place(side).server.pid();
        let pid = pid.ok_or_else(|| anyhow::anyhow!("it does not run"))?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            // One that has ended needs no signal.
            send_signal(name, child.parse()?).ok();
        }
        send_signal(name, pid)
    }

    /// Tries until it works: what is in the way goes away by itself.
    pub(super) fn insist(&self, mut what: impl FnMut() -> Result<()>) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..200 {
            last = what();
            if last.is_ok() {
                break;
            }
            pause(50);
        }
        ensure!(last.is_ok(), "{last:?}");
        Ok(())
    }
}

/// Waits so many milliseconds: how long a fault lasts.
pub(super) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
