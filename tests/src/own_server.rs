//! A PostgreSQL of the test's own, for settings that a shared server must not have and for faults that it must not suffer:
//! stopped, killed, failed over to a standby.
//!
//! It is the one of `deploy/stack.sh`, in a directory of its own on a free port, and gone at the end. `PGBIN` of the
//! environment says which version, or the test does ([`OwnServer::of_version`]).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::postgres::Db;
use crate::stack::Stack;

const END_MAX_S: u64 = 30;
const STANDBY_MAX_S: u64 = 60;

/// A running server.
pub struct OwnServer {
    directory: tempfile::TempDir,
    port: u16,
    /// Where its programs are, if they are not the machine's own.
    programs: Option<PathBuf>,
    /// What makes its clock wrong, and by how much.
    clock: Option<(PathBuf, String)>,
}

impl OwnServer {
    /// Makes and starts one with these settings (`name = value`).
    pub fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::make(None, None, settings)
    }

    /// The same, with a clock that is off by so much (`+365d`, by libfaketime).
    pub fn with_clock(off: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::make(None, Some((faketime()?, off.to_owned())), settings)
    }

    /// The same, of this major version (`deploy/postgres.sh`).
    pub fn of_version(major: u32, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::make(Some(major), None, settings)
    }

    fn make(major: Option<u32>, clock: Option<(PathBuf, String)>, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut server = Self::placed()?;
        server.clock = clock;
        if let Some(major) = major {
            let directory = server.directory.path().join("programs");
            let mut command = Command::new(deploy("postgres.sh"));
            let path = output(command.arg(major.to_string()).arg(directory))?;
            server.programs = Some(PathBuf::from(path.trim()));
        }
        server.up()?;
        server.set(settings)?;
        server.down()?;
        server.up()?;
        Ok(server)
    }

    fn placed() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("syncline-server-").tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // The server's own user has to pass through.
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open)?;
        Ok(Self {
            directory,
            port,
            programs: None,
            clock: None,
        })
    }

    /// A standby that streams from this server through the physical slot `slot`, which is made; with further settings of
    /// its own. The copy is taken cold: this server restarts.
    pub fn standby(&self, slot: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut standby = Self::placed()?;
        standby.programs.clone_from(&self.programs);
        self.down()?;
        output(Command::new("cp").arg("-a").args([self.stack(), standby.stack()]))?;
        self.up()?;
        let make = format!("SELECT pg_create_physical_replication_slot('{slot}', true)");
        self.db("postgres")?.exec(&make)?;
        let from = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
        let own = [("primary_conninfo", from.as_str()), ("primary_slot_name", slot)];
        let file = standby.data().join("postgresql.auto.conf");
        let mut file = std::fs::File::options().append(true).open(file)?;
        for (name, value) in own.iter().chain(settings) {
            writeln!(file, "{name} = '{value}'")?;
        }
        std::fs::write(standby.data().join("standby.signal"), "")?;
        standby.up()?;
        Ok(standby)
    }

    /// The standby becomes the primary.
    pub fn promote(&self) -> anyhow::Result<()> {
        self.db("postgres")?.exec("SELECT pg_promote()")
    }

    /// Waits until the standby has all that is written on this server now.
    pub fn is_followed_by(&self, standby: &OwnServer) -> anyhow::Result<()> {
        let end = self.db("postgres")?.lsn()?;
        let replayed = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint";
        crate::until("the standby to follow", STANDBY_MAX_S, || {
            Ok(u64::try_from(standby.db("postgres")?.number(replayed)?)? >= end)
        })
    }

    /// A copy of all its files, taken while it is stopped.
    pub fn copy(&self) -> anyhow::Result<PathBuf> {
        let copy = self.directory.path().join("copy");
        self.down()?;
        output(Command::new("cp").arg("-a").args([&self.data(), &copy]))?;
        self.up()?;
        Ok(copy)
    }

    /// What was copied takes the place of what is there.
    pub fn restore(&self, copy: &Path) -> anyhow::Result<()> {
        self.down()?;
        std::fs::remove_dir_all(self.data())?;
        std::fs::rename(copy, self.data())?;
        self.up()
    }

    /// Sets what takes effect with the next start, or [`OwnServer::reload`].
    pub fn set(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let db = self.db("postgres")?;
        settings
            .iter()
            .try_for_each(|(name, value)| db.exec(&format!("ALTER SYSTEM SET {name} = '{value}'")))
    }

    /// Takes the settings over.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.db("postgres")?.exec("SELECT pg_reload_conf()")
    }

    /// Starts it again.
    pub fn up(&self) -> anyhow::Result<()> {
        self.script("start")
    }

    /// Stops it in order (`fast`): sessions are ended, and what the log holds is sent to who reads it.
    pub fn down(&self) -> anyhow::Result<()> {
        self.script("stop")
    }

    /// SIGKILL to all of it.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.script("kill")
    }

    /// Stops it without a checkpoint (`immediate`).
    pub fn abort(&self) -> anyhow::Result<()> {
        let file = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&file)?;
        let pid = text.lines().next().context("the process id of the server")?;
        output(Command::new("kill").args(["-QUIT", pid]))?;
        crate::until("the server to end", END_MAX_S, || Ok(!file.exists()))
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn url(&self) -> String {
        format!("postgres://postgres@{}", self.address())
    }

    /// The DSN of a database.
    pub fn dsn(&self, database: &str) -> String {
        format!("{}/{database}", self.url())
    }

    /// The test's stack, with this server for its apps.
    pub fn stack_with_it(&self) -> anyhow::Result<Stack> {
        Ok(Stack {
            postgres: self.url(),
            ..Stack::from_env()?
        })
    }

    /// A connection to a database.
    pub fn db(&self, database: &str) -> anyhow::Result<Db> {
        Db::connect(&self.dsn(database))
    }

    /// What the server has written.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.stack().join("postgres.log"))?).into_owned())
    }

    fn stack(&self) -> PathBuf {
        self.directory.path().join("stack")
    }

    fn data(&self) -> PathBuf {
        self.stack().join("postgres")
    }

    fn script(&self, what: &str) -> anyhow::Result<()> {
        let mut command = Command::new(deploy("stack.sh"));
        match what {
            "destroy" => command.arg(what),
            _ => command.args([what, "postgres"]),
        };
        if let Some(programs) = &self.programs {
            command.env("PGBIN", programs);
        }
        if let Some((library, off)) = &self.clock {
            command.env("LD_PRELOAD", library).env("FAKETIME", off);
            // Timeouts are measured by the other clock.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
            .env("SYNCLINE_STACK_DIR", self.stack())
            .env("PG_PORT", self.port.to_string());
        output(&mut command).map(|_| ())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A server that does not go is seen by whoever looks for servers; the test has said what it had to say.
        let _ = self.script("destroy");
    }
}

fn faketime() -> anyhow::Result<PathBuf> {
    let places = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let mut libraries = places.map(|place| place.path().join("faketime/libfaketime.so.1"));
    let found = libraries.find(|library| library.is_file());
    found.context("no libfaketime; install it with: deploy/install.sh --tests")
}

pub(crate) fn deploy(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(script)
}

pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
