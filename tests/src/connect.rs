//! A real Debezium: a Kafka Connect worker (`deploy/debezium.sh`) and its connectors, by its REST interface.
//!
//! A worker takes six seconds to start, so the tests of a file share one; each has connectors of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, bail};
use serde_json::Value as Json;

use crate::http;
use crate::kafka::Topics;
use crate::stack::Stack;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/debezium.sh");
const STATE_MAX_S: u64 = 180;

/// Where a worker keeps the positions of its connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// In a topic; and its connectors in another: a restarted worker goes on with them.
    InTopic,
    /// In a file, as a standalone worker does; a restarted one has forgotten its connectors.
    InFile,
}

/// A Kafka Connect worker. It ends, and its topics go, when this is dropped.
pub struct Worker {
    directory: tempfile::TempDir,
    group: String,
    keeps: Keeps,
    url: Mutex<String>,
    stack: Stack,
    environment: Vec<(String, String)>,
}

impl Worker {
    /// The one that the tests of this process share.
    pub fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Worker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = shared.upgrade() {
            return Ok(worker);
        }
        let worker = Arc::new(Self::start(Keeps::InTopic)?);
        *shared = Arc::downgrade(&worker);
        Ok(worker)
    }

    /// One of its own, for a test that kills it.
    pub fn start(keeps: Keeps) -> anyhow::Result<Self> {
        Self::start_with(keeps, &[])
    }

    /// The same, with further settings of `deploy/debezium.sh`.
    pub fn start_with(keeps: Keeps, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("syncline-connect-").tempdir()?;
        let worker = Self {
            group: directory
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            directory,
            keeps,
            url: Mutex::default(),
            stack: Stack::from_env()?,
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        worker.resume()?;
        Ok(worker)
    }

    /// Starts it again after [`Worker::kill`] or [`Worker::stop`].
    pub fn resume(&self) -> anyhow::Result<()> {
        let url = self.script("start")?.trim().to_owned();
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
        Ok(())
    }

    /// SIGTERM: its connectors end in order.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.script("stop").map(|_| ())
    }

    /// SIGKILL, for all of its connectors at once.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.script("kill").map(|_| ())
    }

    fn script(&self, verb: &str) -> anyhow::Result<String> {
        let mut command = Command::new(SCRIPT);
        command.arg(verb).arg(self.directory.path());
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("BOOTSTRAP", &self.stack.kafka)
            .env("REGISTRY", &self.stack.registry)
            .env("CONNECT_GROUP", &self.group)
            .env(
                "CONNECT_MODE",
                match self.keeps {
                    Keeps::InTopic => "distributed",
                    Keeps::InFile => "standalone",
                },
            );
        let output = command.output().with_context(|| format!("cannot run {SCRIPT}"))?;
        if !output.status.success() {
            bail!("{SCRIPT} {verb}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Where it keeps the positions of its source connectors.
    pub fn keeps(&self) -> Keeps {
        self.keeps
    }

    /// The topic in which they are.
    pub fn offset_topic(&self) -> String {
        format!("{}.offsets", self.group)
    }

    /// The file in which they are.
    pub fn offset_file(&self) -> PathBuf {
        self.directory.path().join("offsets.dat")
    }

    /// Its configuration.
    pub fn properties(&self) -> PathBuf {
        self.directory.path().join("worker.properties")
    }

    /// The worker's log.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("connect.log")
    }

    fn call(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Json> {
        let url = self.url.lock().unwrap_or_else(PoisonError::into_inner).clone();
        http::done(&url, method, path, "application/json", body)
    }

    /// Makes a connector and waits until its task runs.
    pub fn create(self: &Arc<Self>, name: &str, config: &Json) -> anyhow::Result<Connector> {
        let connector = self.make(name, &serde_json::json!({ "name": name, "config": config }))?;
        connector.await_state("RUNNING", 1)?;
        Ok(connector)
    }

    fn make(self: &Arc<Self>, name: &str, body: &Json) -> anyhow::Result<Connector> {
        let connector = Connector {
            worker: Arc::clone(self),
            name: name.to_owned(),
        };
        self.post(name, body)?;
        Ok(connector)
    }

    fn post(&self, name: &str, body: &Json) -> anyhow::Result<()> {
        let body = body.to_string();
        // While the group is forming, it is refused with 409.
        crate::until(&format!("connector {name} to be made"), STATE_MAX_S, || {
            match self.call("POST", "/connectors", Some(&body)) {
                Err(error) if error.to_string().contains("answered with 409") => Ok(false),
                other => other.map(|_| true),
            }
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("SYNCLINE_TEST_KEEP").is_some() {
            self.directory.disable_cleanup(true);
            println!("the worker's log is {}", self.log().display());
        }
        let topics = Topics::new(&self.stack);
        let ended = self.stop().and_then(|()| topics.delete(&topics.names(&[&self.group])?));
        if let Err(error) = ended {
            println!("{}: could not clean up: {error:#}", self.group);
        }
    }
}

/// A connector of a worker. It is removed when this is dropped.
pub struct Connector {
    worker: Arc<Worker>,
    name: String,
}

impl Connector {
    fn call(&self, method: &str, what: &str) -> anyhow::Result<Json> {
        self.worker
            .call(method, &format!("/connectors/{}{what}", self.name), None)
    }

    /// Makes it again, so that it does nothing yet, at a worker that has forgotten it.
    pub fn make_again_stopped(&self, config: &Json) -> anyhow::Result<()> {
        let body = serde_json::json!({ "name": self.name, "config": config, "initial_state": "STOPPED" });
        self.worker.post(&self.name, &body)?;
        self.await_state("STOPPED", 0)
    }

    /// Ends its task in order; its position stays.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.call("PUT", "/stop")?;
        self.await_state("STOPPED", 0)
    }

    /// Goes on after [`Connector::stop`].
    pub fn resume(&self) -> anyhow::Result<()> {
        self.call("PUT", "/resume")?;
        self.await_state("RUNNING", 1)
    }

    /// All of its settings as the worker understands them, those included that nobody has said.
    pub fn settings(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let said = self.call("GET", "/config")?;
        let class = said["connector.class"].as_str().context("a connector has a class")?;
        let path = format!("/connector-plugins/{class}/config/validate");
        let checked = self.worker.call("PUT", &path, Some(&said.to_string()))?;
        let known = checked["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = known.iter().filter_map(|known| {
            let (name, value) = (&known["value"]["name"], &known["value"]["value"]);
            Some((name.as_str()?.to_owned(), value.as_str()?.to_owned()))
        });
        // What is said for the clients in it is not the connector's to know.
        let said = said.as_object().into_iter().flatten();
        let said = said.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Ok(said.chain(known).collect())
    }

    /// Its positions, as `GET /connectors/NAME/offsets` exports them.
    pub fn offsets(&self) -> anyhow::Result<Json> {
        self.call("GET", "/offsets")
    }

    /// Replaces its positions; it must be stopped.
    pub fn alter_offsets(&self, offsets: &Json) -> anyhow::Result<()> {
        let path = format!("/connectors/{}/offsets", self.name);
        self.worker.call("PATCH", &path, Some(&offsets.to_string())).map(|_| ())
    }

    /// Fails, with the reason, when its task has failed.
    pub fn check(&self) -> anyhow::Result<()> {
        self.is_in("RUNNING", 1).map(|_| ())
    }

    fn is_in(&self, state: &str, tasks: usize) -> anyhow::Result<bool> {
        let status = self.call("GET", "/status")?;
        let all = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        for part in all.iter().chain([&status["connector"]]) {
            // One that is to stop may have failed before.
            if part["state"] == "FAILED" && state != "STOPPED" {
                let trace = part["trace"].as_str().unwrap_or_default();
                bail!("{}: Debezium failed: {}", self.name, causes(trace));
            }
        }
        let as_wanted = |part: &Json| part["state"] == state;
        Ok(as_wanted(&status["connector"]) && all.len() == tasks && all.iter().all(as_wanted))
    }

    fn await_state(&self, state: &str, tasks: usize) -> anyhow::Result<()> {
        crate::until(&format!("{} to be {state}", self.name), STATE_MAX_S, || {
            // A connector that was made a moment ago is not known everywhere yet.
            match self.is_in(state, tasks) {
                Err(error) if error.to_string().contains("answered with 404") => Ok(false),
                other => other,
            }
        })
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let _ = self.call("DELETE", "");
    }
}

/// A stack trace without the frames.
fn causes(trace: &str) -> String {
    let lines = trace.lines().filter(|line| !line.trim_start().starts_with("at "));
    lines.take(6).collect::<Vec<_>>().join(" | ")
}

/// The fixtures of the tests that compare.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}
