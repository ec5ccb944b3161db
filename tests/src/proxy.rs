//! A TCP proxy that makes a network as bad as one likes: slow, cut, reset, half-open, or holding back one message.
//!
//! It stands between a process and PostgreSQL or Kafka and knows only as much of their protocols as it takes to tell where
//! a message begins and of which kind it is ([`frame`]), so that a fault strikes at a step and not at a moment of luck. A
//! Kafka client asks the first broker for the addresses of all and then goes there itself; so the proxy writes its own
//! port over the broker's in those answers. That lets any number of proxies stand before one broker that knows of none.
//!
//! A [`Trap`] waits for a message (or a number of bytes) and then strikes the connection it came on; [`Proxy::cut_all`]
//! and the like strike all that are there. What a test waits for is [`Trap::fired`]: a trap that never fired has tested
//! nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

mod connection;
mod frame;
mod trap;

pub use frame::Kind;
pub use trap::{Fault, Trap, When};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process under test.
    Client,
    /// PostgreSQL or Kafka.
    Server,
}

/// What the line is like for every connection, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Each read waits that long before it is passed on.
    pub latency_ms: u64,
    /// And up to that much longer.
    pub jitter_ms: u64,
    /// No faster than that; none: as fast as it goes.
    pub bytes_per_s: Option<u64>,
    /// In pieces of at most that many bytes; none: as they come.
    pub slice_bytes: Option<usize>,
}

/// What happens to connections as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    /// Rises each time all connections are to end.
    endings: u64,
    /// How they end.
    by_reset: bool,
    /// Nothing arrives any more and nobody is told.
    silent: bool,
    /// New connections are turned away.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Postgres,
    Kafka,
}

/// A proxy; it ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    protocol: Protocol,
    target: Mutex<SocketAddr>,
    /// Ports in the broker's answers, and what to write over them.
    ports: Mutex<Vec<(u16, u16)>>,
    line: Mutex<Line>,
    traps: Mutex<Vec<Arc<trap::State>>>,
    order: watch::Sender<Order>,
    released: Notify,
}

impl Proxy {
    /// Before PostgreSQL at `host:port` (without TLS, which would hide the messages).
    pub fn postgres(target: &str) -> anyhow::Result<Self> {
        Self::start(target, Protocol::Postgres)
    }

    /// Before the broker at `host:port`, which must advertise itself by that address.
    pub fn kafka(target: &str) -> anyhow::Result<Self> {
        Self::start(target, Protocol::Kafka)
    }

    fn start(target: &str, protocol: Protocol) -> anyhow::Result<Self> {
        let target: SocketAddr = target.parse()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            protocol,
            target: Mutex::new(target),
            ports: Mutex::new(vec![(target.port(), address.port())]),
            line: Mutex::default(),
            traps: Mutex::default(),
            order: watch::Sender::new(Order::default()),
            released: Notify::new(),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _runtime: runtime,
        })
    }

    /// `host:port` of the proxy.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// In the answers of this broker the other's port too is replaced: a cluster behind one proxy a broker.
    pub fn beside(&self, other: &Proxy) {
        let pair = (lock(&other.shared.target).port(), other.address.port());
        lock(&self.shared.ports).push(pair);
    }

    /// New connections go to the server at `host:port`: the address has moved, as it does in a failover.
    pub fn lead_to(&self, target: &str) -> anyhow::Result<()> {
        *lock(&self.shared.target) = target.parse()?;
        Ok(())
    }

    /// What the line is like from here on.
    pub fn line(&self, line: Line) {
        *lock(&self.shared.line) = line;
    }

    /// Sets a trap.
    pub fn trap(&self, when: When, fault: Fault) -> Trap {
        let state = Arc::new(trap::State::new(when, fault));
        lock(&self.shared.traps).push(Arc::clone(&state));
        Trap::new(state, Arc::clone(&self.shared))
    }

    /// Ends all connections as a process does that ends: in order.
    pub fn cut_all(&self) {
        self.end_all(false);
    }

    /// Ends all connections as a machine does that knows nothing of them.
    pub fn reset_all(&self) {
        self.end_all(true);
    }

    fn end_all(&self, by_reset: bool) {
        self.shared.order.send_modify(|order| {
            order.endings += 1;
            order.by_reset = by_reset;
        });
    }

    /// From here on nothing arrives, in either direction, and nobody is told: a broken link. Ended by [`Proxy::heal`].
    pub fn silence(&self) {
        self.shared.order.send_modify(|order| order.silent = true);
    }

    /// New connections are reset at once.
    pub fn close(&self) {
        self.shared.order.send_modify(|order| order.closed = true);
    }

    /// All is well for new connections. Those on which something was lost stay as they are: TCP would have given them up
    /// too, or would have sent again what a proxy no longer has.
    pub fn heal(&self) {
        lock(&self.shared.traps).clear();
        *lock(&self.shared.line) = Line::default();
        self.shared.order.send_modify(|order| {
            order.silent = false;
            order.closed = false;
        });
        self.shared.released.notify_waiters();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if shared.order.borrow().closed {
                let _ = client.set_zero_linger();
                return;
            }
            let fault = match shared.order.borrow().silent {
                true => Some(Fault::Silence),
                false => None,
            };
            match fault.or(shared.strike_connect().await) {
                Some(Fault::Silence) => wait_for_end(&client).await,
                Some(_) => _ = client.set_zero_linger(),
                None => {
                    let target = *lock(&shared.target);
                    if let Ok(server) = TcpStream::connect(target).await {
                        connection::run(client, server, &shared).await;
                    }
                }
            }
        });
    }
}

/// Reads what comes and answers nothing, until the other side gives up.
async fn wait_for_end(client: &TcpStream) {
    let mut buffer = [0; 4096];
    while client.readable().await.is_ok() {
        match client.try_read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

impl Shared {
    /// The fault that waits for who connects, if one does.
    async fn strike_connect(&self) -> Option<Fault> {
        let traps = lock(&self.traps).clone();
        let trap = traps.into_iter().find(|trap| trap.catches_connect())?;
        if trap.fault == Fault::Hold {
            self.wait_released(&trap).await;
            return None;
        }
        Some(trap.fault)
    }

    async fn wait_released(&self, trap: &trap::State) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if trap.is_released() || !lock(&self.traps).iter().any(|one| std::ptr::eq(&**one, trap)) {
                return;
            }
            released.await;
        }
    }

    /// How long to wait before so many bytes are passed on.
    fn delay(&self, bytes: usize) -> Duration {
        let line = *lock(&self.line);
        let jitter_ms = match line.jitter_ms {
            0 => 0,
            most => u64::from(nanos()) % (most + 1),
        };
        let transfer = line.bytes_per_s.map_or(0, |rate| bytes as u64 * 1000 / rate.max(1));
        Duration::from_millis(line.latency_ms + jitter_ms + transfer)
    }
}

/// Not a good source of chance, but jitter needs no better.
fn nanos() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
