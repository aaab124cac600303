//! The faults: how each is brought about, how it is over, and what the task has to make of it.

use std::fmt;

use anyhow::{Context as _, Result};
use thalweg_core::Side::{self, Source, Target};
use thalweg_testkit::servers::System::{self, MariaDb, Postgres};
use thalweg_testkit::servers::send_signal;

use super::site::{Site, pause};
use super::{source, target};

/// When a fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Tables are being loaded.
    Load,
    /// All tables are Live.
    Stream,
    /// The same, and columns of a table of the source come and go.
    Ddl,
    /// The same, and rows go into quarantine.
    Quarantine,
    /// The same, and they are being verified.
    Verify,
}

impl Phase {
    pub(super) const ALL: [Phase; 5] = [
        Phase::Load,
        Phase::Stream,
        Phase::Ddl,
        Phase::Quarantine,
        Phase::Verify,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Load => "load",
            Phase::Stream => "stream",
            Phase::Ddl => "ddl",
            Phase::Quarantine => "quarantine",
            Phase::Verify => "verify",
        })
    }
}

/// How a task that has stopped is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It is run.
    Run,
    /// It is reset and run.
    Reset,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Again::Run => "run again, it goes on",
            Again::Reset => "reset and run, it loads anew",
        })
    }
}

/// What a task has to make of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ends {
    /// It goes on by itself.
    GoesOn,
    /// It says that it waits, with these words, and goes on by itself when it is mended.
    Waits(&'static str),
    /// The table is paused and says this, the others go on; it is as at the source when it is mended and resumed.
    Pauses(&'static str),
    /// It stops, says this, and goes on when it is mended and started again.
    Stops(&'static str, Again),
}

/// A fault.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// Only with this source.
    pub(super) source: Option<System>,
    /// Only with this target.
    pub(super) target: Option<System>,
    /// The phase in which it cannot occur, and why.
    pub(super) not: Option<(Phase, &'static str)>,
    /// It makes rows bad: where these go into quarantine the task goes on.
    pub(super) bad_rows: bool,
    /// Of which pairs and in which phases `make test` runs it.
    pub(super) gate: &'static [([System; 2], Phase)],
    pub(super) ends: Ends,
    pub(super) strike: fn(&Site) -> Result<()>,
    pub(super) mend: fn(&Site) -> Result<()>,
}

impl Fault {
    pub(super) fn has(&self, phase: Phase, [from, to]: [System; 2]) -> bool {
        self.source.is_none_or(|source| source == from)
            && self.target.is_none_or(|target| target == to)
            // What cannot be in a stream cannot be while something is done beside it.
            && self.not.is_none_or(|(not, _)| {
                not != phase && (not != Phase::Stream || phase == Phase::Load)
            })
    }
}

pub(super) const MP: [System; 2] = [MariaDb, Postgres];
pub(super) const PP: [System; 2] = [Postgres, Postgres];
pub(super) const PM: [System; 2] = [Postgres, MariaDb];
pub(super) const MM: [System; 2] = [MariaDb, MariaDb];

/// Any pair, any phase, not in the gate, goes on.
pub(super) const PLAIN: Fault = Fault {
    name: "",
    source: None,
    target: None,
    not: None,
    bad_rows: false,
    gate: &[],
    ends: Ends::GoesOn,
    strike: |_| Ok(()),
    mend: |_| Ok(()),
};

/// The network to one side.
const fn network(name: &'static str, strike: fn(&Site) -> Result<()>) -> Fault {
    Fault {
        name,
        strike,
        ..PLAIN
    }
}

fn refuses(site: &Site, side: Side) -> Result<()> {
    site.network(side).refuse(true);
    site.network(side).cut();
    pause(1_500);
    site.network(side).refuse(false);
    Ok(())
}

fn held(site: &Site, side: Side, ms: u64) -> Result<()> {
    site.network(side).hold(true);
    pause(ms);
    site.network(side).hold(false);
    Ok(())
}

fn slow(site: &Site, side: Side) -> Result<()> {
    site.network(side).slow(20_000);
    pause(2_500);
    site.network(side).slow(0);
    Ok(())
}

/// Each connection ends after some bytes, again and again.
fn torn(site: &Site, side: Side) -> Result<()> {
    for bytes in [2_000, 300, 7_001, 90, 20_011] {
        site.network(side).cut_after(bytes);
        pause(500);
    }
    site.network(side).cut_after(0);
    Ok(())
}

fn gone_for_long(site: &Site, side: Side) -> Result<()> {
    site.network(side).hold(true);
    Ok(())
}

fn back(site: &Site, side: Side) -> Result<()> {
    site.network(side).hold(false);
    Ok(())
}

fn killed(site: &Site, side: Side) -> Result<()> {
    site.place(side).server.kill()?;
    pause(300);
    site.place(side).server.restart()
}

fn frozen(site: &Site, side: Side) -> Result<()> {
    site.signal(side, "STOP")?;
    pause(3_000);
    site.signal(side, "CONT")
}

/// The password is another one, and sessions have to log in again.
fn password(site: &Site, side: Side, password: &str) -> Result<()> {
    site.sql(
        side,
        &format!("ALTER USER {{user}} IDENTIFIED BY '{password}'"),
        &format!("ALTER USER {{user}} PASSWORD '{password}'"),
    )?;
    site.end_sessions(side)
}

fn own_password(site: &Site, side: Side) -> Result<()> {
    let own = site.account(side).password.clone();
    password(site, side, &own)
}

/// How many connections the task may have.
fn connections(site: &Site, side: Side, limit: i32) -> Result<()> {
    let mariadb = match limit {
        0 => "ALTER USER {user} WITH MAX_USER_CONNECTIONS 1; ALTER USER {user} ACCOUNT UNLOCK",
        _ => "ALTER USER {user} WITH MAX_USER_CONNECTIONS 0",
    };
    let postgres = format!("ALTER USER {{user}} CONNECTION LIMIT {limit}");
    site.sql(side, mariadb, &postgres)?;
    match limit {
        0 => site.end_sessions(side),
        _ => Ok(()),
    }
}

const TWO_ALL: &[([System; 2], Phase)] = &[
    (PM, Phase::Load),
    (MP, Phase::Stream),
    (MP, Phase::Ddl),
    (MM, Phase::Quarantine),
    (MM, Phase::Verify),
];

/// All of them.
pub(super) fn faults() -> impl Iterator<Item = &'static Fault> + Clone {
    [PLACES, target::FAULTS, source::FAULTS]
        .into_iter()
        .flatten()
}

/// Of the network, the processes and the accounts.
const PLACES: &[Fault] = &[
    Fault {
        gate: &[(PP, Phase::Stream), (MM, Phase::Load)],
        ..network("connections to the source are cut", |site| {
            site.network(Source).cut();
            Ok(())
        })
    },
    Fault {
        gate: &[(MP, Phase::Load), (PM, Phase::Stream)],
        ..network("connections to the target are cut", |site| {
            site.network(Target).cut();
            Ok(())
        })
    },
    network("the source refuses connections for a while", |site| {
        refuses(site, Source)
    }),
    network("the target refuses connections for a while", |site| {
        refuses(site, Target)
    }),
    network("nothing passes to and from the source for 3 s", |site| {
        held(site, Source, 3_000)
    }),
    network("nothing passes to and from the target for 3 s", |site| {
        held(site, Target, 3_000)
    }),
    network("the network to the source is very slow", |site| {
        slow(site, Source)
    }),
    network("the network to the target is very slow", |site| {
        slow(site, Target)
    }),
    Fault {
        gate: &[(MP, Phase::Stream), (PP, Phase::Load)],
        ..network("connections to the source end within messages", |site| {
            torn(site, Source)
        })
    },
    Fault {
        gate: &[(PM, Phase::Load), (MM, Phase::Stream)],
        ..network("connections to the target end within messages", |site| {
            torn(site, Target)
        })
    },
    Fault {
        ends: Ends::Waits(""),
        mend: |site| back(site, Source),
        ..network(
            "the network to the source is gone, and nobody is told",
            |site| gone_for_long(site, Source),
        )
    },
    Fault {
        gate: &[(MP, Phase::Stream)],
        ends: Ends::Waits("answer"),
        not: Some((
            Phase::Load,
            "what is met first differs: rows that are sent, or a new connection",
        )),
        mend: |site| back(site, Target),
        ..network(
            "the network to the target is gone, and nobody is told",
            |site| gone_for_long(site, Target),
        )
    },
    // Processes.
    Fault {
        name: "the source is killed and comes back",
        gate: &[(MM, Phase::Stream), (PP, Phase::Load)],
        strike: |site| killed(site, Source),
        ..PLAIN
    },
    Fault {
        name: "the target is killed and comes back",
        gate: TWO_ALL,
        strike: |site| killed(site, Target),
        ..PLAIN
    },
    Fault {
        name: "the source is restarted",
        strike: |site| site.place(Source).server.restart(),
        ..PLAIN
    },
    Fault {
        name: "the target is restarted",
        strike: |site| site.place(Target).server.restart(),
        ..PLAIN
    },
    Fault {
        name: "the source is frozen for 3 s",
        strike: |site| frozen(site, Source),
        ..PLAIN
    },
    Fault {
        name: "the target is frozen for 3 s",
        strike: |site| frozen(site, Target),
        ..PLAIN
    },
    Fault {
        name: "somebody ends all sessions at the source",
        strike: |site| site.end_sessions(Source),
        ..PLAIN
    },
    Fault {
        name: "somebody ends all sessions at the target",
        strike: |site| site.end_sessions(Target),
        ..PLAIN
    },
    Fault {
        name: "thalweg is killed",
        gate: &[(PM, Phase::Load), (MM, Phase::Load)],
        strike: |site| {
            site.lab.thalweg.kill();
            site.lab.thalweg.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg is killed three times at its start",
        strike: |site| {
            for ms in [30, 120, 350] {
                let life = std::time::Duration::from_millis(ms);
                site.lab.thalweg.restart_for(life)?;
            }
            site.lab.thalweg.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg is ended and started",
        strike: |site| {
            site.lab.thalweg.terminate()?;
            site.lab.thalweg.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg and the source are killed together",
        strike: |site| {
            site.lab.thalweg.kill();
            killed(site, Source)?;
            site.lab.thalweg.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg and the target are killed together",
        gate: &[(PP, Phase::Stream), (MM, Phase::Stream)],
        strike: |site| {
            site.lab.thalweg.kill();
            killed(site, Target)?;
            site.lab.thalweg.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg starts while the source is down",
        strike: |site| {
            site.lab.thalweg.kill();
            site.place(Source).server.kill()?;
            site.lab.thalweg.restart()?;
            pause(800);
            site.place(Source).server.restart()
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg starts while the target is down",
        strike: |site| {
            site.lab.thalweg.kill();
            site.place(Target).server.kill()?;
            site.lab.thalweg.restart()?;
            pause(800);
            site.place(Target).server.restart()
        },
        ..PLAIN
    },
    // Accounts.
    Fault {
        name: "the password at the source is changed",
        gate: &[(PM, Phase::Stream)],
        ends: Ends::Stops("password", Again::Run),
        strike: |site| password(site, Source, "another"),
        mend: |site| own_password(site, Source),
        ..PLAIN
    },
    Fault {
        name: "the password at the target is changed",
        gate: &[(MP, Phase::Stream)],
        ends: Ends::Stops("password", Again::Run),
        strike: |site| password(site, Target, "another"),
        mend: |site| own_password(site, Target),
        ..PLAIN
    },
    Fault {
        name: "the source takes no more connections of the user",
        ends: Ends::Waits("connections"),
        source: Some(Postgres),
        strike: |site| connections(site, Source, 0),
        mend: |site| connections(site, Source, -1),
        ..PLAIN
    },
    Fault {
        name: "the target takes no more connections of the user",
        ends: Ends::Waits("connections"),
        target: Some(Postgres),
        strike: |site| connections(site, Target, 0),
        mend: |site| connections(site, Target, -1),
        ..PLAIN
    },
    Fault {
        name: "the right to replicate is taken away",
        ends: Ends::Stops("REPLICATION", Again::Run),
        strike: |site| {
            site.sql(
                Source,
                "REVOKE REPLICATION SLAVE ON *.* FROM {user}",
                "ALTER USER {user} NOREPLICATION",
            )?;
            site.end_sessions(Source)
        },
        mend: |site| {
            site.sql(
                Source,
                "GRANT REPLICATION SLAVE ON *.* TO {user}",
                "ALTER USER {user} REPLICATION",
            )?;
            Ok(())
        },
        not: Some((
            Phase::Load,
            "a load reads as any query does; the stream after it meets it",
        )),
        ..PLAIN
    },
    Fault {
        name: "the right to write a table is taken away",
        ends: Ends::Stops("item", Again::Run),
        strike: |site| {
            let mariadb = "REVOKE INSERT, UPDATE, DELETE ON warehouse.* FROM {user}";
            site.sql(Target, mariadb, "ALTER TABLE item OWNER TO postgres")?;
            site.end_sessions(Target)
        },
        mend: |site| {
            let mariadb = "GRANT INSERT, UPDATE, DELETE ON warehouse.* TO {user}";
            site.sql(Target, mariadb, "ALTER TABLE item OWNER TO {user}")?;
            Ok(())
        },
        not: Some((
            Phase::Load,
            "the checks of a start find it before anything is read",
        )),
        ..PLAIN
    },
    Fault {
        name: "both networks are cut at once, three times",
        strike: |site| {
            for _ in 0..3 {
                site.network(Source).cut();
                site.network(Target).cut();
                pause(400);
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg is frozen for 3 s",
        strike: |site| {
            let pid = site.lab.thalweg.pid().context("it does not run")?;
            send_signal("STOP", pid)?;
            pause(3_000);
            send_signal("CONT", pid)
        },
        ..PLAIN
    },
    Fault {
        name: "thalweg is frozen while both networks are cut",
        strike: |site| {
            let pid = site.lab.thalweg.pid().context("it does not run")?;
            send_signal("STOP", pid)?;
            site.network(Source).cut();
            site.network(Target).cut();
            pause(500);
            send_signal("CONT", pid)
        },
        ..PLAIN
    },
    Fault {
        name: "somebody stops and starts the task five times",
        strike: |site| {
            for ms in [0, 10, 50, 150, 400] {
                site.lab.client.stop_task(site.task)?;
                site.lab.client.run_task(site.task)?;
                pause(ms);
            }
            Ok(())
        },
        ..PLAIN
    },
    Fault {
        name: "the target is killed as soon as it is back",
        strike: |site| {
            killed(site, Target)?;
            pause(100);
            killed(site, Target)
        },
        ..PLAIN
    },
];
