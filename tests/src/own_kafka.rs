//! A Kafka of the test's own, for settings that a shared broker must not have, and of three brokers, so that leaders and
//! coordinators have somewhere to move to. The brokers are those of `deploy/stack.sh`, each in a directory of its own on free
//! ports, and gone at the end; the registry stays the shared one.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context as _;

use crate::kafka::Topics;
use crate::own_server::{deploy, output};
use crate::stack::Stack;

/// An id as Kafka wants it: 16 bytes in base64.
const CLUSTER: &str = "c3luY2xpbmUtdGVzdHMxMg";
const HEAP: &str = "400m";
const LOWEST_PORT: u16 = 25_500;
const PAIRS: u16 = 3_500;

/// Running brokers.
pub struct OwnKafka {
    directory: tempfile::TempDir,
    brokers: Vec<Broker>,
}

struct Broker {
    port: u16,
    settings: String,
    /// Whether it is one of several.
    joined: bool,
}

impl OwnKafka {
    /// One broker with these settings beyond those of the stack.
    pub fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::make(vec![Broker {
            port: free_ports()?,
            settings: lines(settings),
            joined: false,
        }])
    }

    /// Three brokers, each of them a controller too.
    pub fn of_three() -> anyhow::Result<Self> {
        let ports = [free_ports()?, free_ports()?, free_ports()?];
        let voter = |(number, port): (usize, &u16)| format!("{}@127.0.0.1:{}", number + 1, port + 1);
        let voters: Vec<String> = ports.iter().enumerate().map(voter).collect();
        let broker = |(number, port): (usize, &u16)| Broker {
            port: *port,
            settings: lines(&[
                ("node.id", &(number + 1).to_string()),
                ("controller.quorum.voters", &voters.join(",")),
                ("offsets.topic.replication.factor", "3"),
                ("transaction.state.log.replication.factor", "3"),
                ("transaction.state.log.min.isr", "2"),
            ]),
            joined: true,
        };
        Self::make(ports.iter().enumerate().map(broker).collect())
    }

    fn make(brokers: Vec<Broker>) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("syncline-kafka-").tempdir()?;
        let kafka = Self { directory, brokers };
        // A quorum forms of those that are there, so all have to come at once.
        let started = &kafka;
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..kafka.brokers.len())
                .map(|number| scope.spawn(move || started.up(number)))
                .collect();
            all.into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })?;
        Ok(kafka)
    }

    /// Starts a broker.
    pub fn up(&self, broker: usize) -> anyhow::Result<()> {
        self.script(broker, "start")
    }

    /// Stops a broker in order: it gives its leaderships away first.
    pub fn down(&self, broker: usize) -> anyhow::Result<()> {
        self.script(broker, "stop")
    }

    /// SIGKILL.
    pub fn kill(&self, broker: usize) -> anyhow::Result<()> {
        self.script(broker, "kill")
    }

    /// The stack with this Kafka in it.
    pub fn stack(&self) -> anyhow::Result<Stack> {
        let addresses: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", broker.port))
            .collect();
        Ok(Stack {
            kafka: addresses.join(","),
            ..Stack::from_env()?
        })
    }

    /// Its topics.
    pub fn topics(&self) -> anyhow::Result<Topics> {
        Ok(Topics::new(&self.stack()?))
    }

    fn script(&self, number: usize, what: &str) -> anyhow::Result<()> {
        let broker = self.brokers.get(number).context("no such broker")?;
        let mut command = Command::new(deploy("stack.sh"));
        match what {
            "destroy" => command.arg(what),
            _ => command.args([what, "kafka"]),
        };
        command
            .env(
                "SYNCLINE_STACK_DIR",
                self.directory.path().join(format!("broker-{number}")),
            )
            .env("KAFKA_PORT", broker.port.to_string())
            .env("KAFKA_SETTINGS", &broker.settings)
            .env("KAFKA_HEAP", HEAP);
        if broker.joined {
            command.env("KAFKA_CLUSTER", CLUSTER);
        }
        output(&mut command).map(|_| ())
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        for number in 0..self.brokers.len() {
            // A broker that does not go is seen by whoever looks for it; the test has said what it had to say.
            let _ = self.script(number, "destroy");
        }
    }
}

fn lines(settings: &[(&str, &str)]) -> String {
    let lines: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.join("\n")
}

/// A free port with a free neighbour, which the controller takes; below those that the kernel gives to clients, who would
/// have taken it when the broker comes.
fn free_ports() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(PAIRS))?;
    for _ in 0..PAIRS {
        let pair = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PAIRS;
        let port = LOWEST_PORT + 2 * pair;
        if [port, port + 1]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        {
            return Ok(port);
        }
    }
    anyhow::bail!("no two free ports side by side")
}
