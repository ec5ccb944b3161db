//! A PostgreSQL of the test's own, for settings that a shared server must not have and for faults that it must not suffer.
//!
//! It is the one of `deploy/stack.sh`, in a directory of its own on a free port, and gone at the end. `PGBIN` of the
//! environment says which version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::postgres::Db;

/// A running server.
pub struct OwnServer {
    directory: tempfile::TempDir,
    port: u16,
}

impl OwnServer {
    /// Makes and starts one with these settings (`name = value`).
    pub fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("syncline-server-").tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { directory, port };
        // The server's own user has to pass through.
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(server.directory.path(), open)?;
        server.script("start")?;
        let db = server.db("postgres")?;
        for (name, value) in settings {
            db.exec(&format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        }
        drop(db);
        server.script("stop")?;
        server.script("start")?;
        Ok(server)
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
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/stack.sh");
        let mut command = Command::new(script);
        match what {
            "destroy" => command.arg(what),
            _ => command.args([what, "postgres"]),
        };
        command
            .env("SYNCLINE_STACK_DIR", self.directory.path().join("stack"))
            .env("PG_PORT", self.port.to_string());
        let output = command.output().context("cannot run deploy/stack.sh")?;
        if !output.status.success() {
            bail!("deploy/stack.sh {what}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A server that does not go is seen by whoever looks for servers; the test has said what it had to say.
        let _ = self.script("destroy");
    }
}
