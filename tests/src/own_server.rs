//! A PostgreSQL of the test's own, for settings that a shared server must not have and for faults that it must not suffer.
//!
//! It is the one of `deploy/stack.sh`, in a directory of its own on a free port, and gone at the end. `PGBIN` of the
//! environment says which version, unless the test does.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::postgres::Db;

/// A running server.
pub struct OwnServer {
    directory: tempfile::TempDir,
    port: u16,
    /// The programs, if they are not those that the environment names.
    programs: Option<PathBuf>,
}

impl OwnServer {
    /// Makes and starts one with these settings (`name = value`).
    pub fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::new()?.with(settings)
    }

    /// The same of a major version that `deploy/postgres.sh` has.
    pub fn of_version(major: u32, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut server = Self::new()?;
        let mut command = Command::new(deployed("postgres.sh"));
        command
            .arg(major.to_string())
            .arg(server.directory.path().join("programs"));
        server.programs = Some(output(command)?.trim().into());
        server.with(settings)
    }

    fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("syncline-server-").tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // The server's own user has to pass through.
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open)?;
        Ok(Self {
            directory,
            port,
            programs: None,
        })
    }

    fn with(self, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        self.script("start")?;
        let db = self.db("postgres")?;
        for (name, value) in settings {
            db.exec(&format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        }
        drop(db);
        self.script("stop")?;
        self.script("start")?;
        Ok(self)
    }

    /// The DSN of a database.
    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection to a database.
    pub fn db(&self, database: &str) -> anyhow::Result<Db> {
        Db::connect(&self.dsn(database))
    }

    fn script(&self, what: &str) -> anyhow::Result<()> {
        let mut command = Command::new(deployed("stack.sh"));
        match what {
            "destroy" => command.arg(what),
            _ => command.args([what, "postgres"]),
        };
        command
            .env("SYNCLINE_STACK_DIR", self.directory.path().join("stack"))
            .env("PG_PORT", self.port.to_string());
        if let Some(programs) = &self.programs {
            command.env("PGBIN", programs);
        }
        output(command).map(|_| ())
    }
}

fn deployed(script: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(script)
}

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A server that does not go is seen by whoever looks for servers; the test has said what it had to say.
        let _ = self.script("destroy");
    }
}
