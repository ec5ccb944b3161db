//! One connection: two directions, each read, looked at, and passed on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{self, Conversation};
use super::{Fault, Kind, Shared, Side, lock};

const READ_BYTES: usize = 64 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cut,
    Reset,
    /// One side ended, or broke.
    ByItself,
}

#[derive(Default)]
struct Link {
    conversation: Mutex<Conversation>,
    silent: AtomicBool,
}

pub(super) async fn run(client: TcpStream, server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let link = Link::default();
    let mut up = Pump::new(Side::Client, client_in, server_out, &link, shared);
    let mut down = Pump::new(Side::Server, server_in, client_out, &link, shared);
    let end = {
        let both = async { tokio::try_join!(up.run(), down.run()) };
        tokio::select! {
            ended = both => ended.err().unwrap_or(End::ByItself),
            end = ordered(shared, &link) => end,
        }
    };
    if end == End::Reset {
        let _ = (
            up.output.as_ref().set_zero_linger(),
            down.output.as_ref().set_zero_linger(),
        );
    }
}

/// Waits for the order to end all connections; passes on the order to be silent.
async fn ordered(shared: &Shared, link: &Link) -> End {
    let mut orders = shared.order.subscribe();
    let before = orders.borrow_and_update().endings;
    loop {
        if orders.changed().await.is_err() {
            return End::Cut;
        }
        let order = *orders.borrow_and_update();
        if order.endings > before {
            return if order.by_reset { End::Reset } else { End::Cut };
        }
        if order.silent {
            link.silent.store(true, Ordering::SeqCst);
        }
    }
}

/// One direction.
struct Pump<'a> {
    from: Side,
    input: OwnedReadHalf,
    output: OwnedWriteHalf,
    link: &'a Link,
    shared: &'a Shared,
    /// Read and not yet passed on.
    waiting: Vec<u8>,
}

impl<'a> Pump<'a> {
    fn new(from: Side, input: OwnedReadHalf, output: OwnedWriteHalf, link: &'a Link, shared: &'a Shared) -> Self {
        Self {
            from,
            input,
            output,
            link,
            shared,
            waiting: Vec::new(),
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.input.read(&mut buffer).await.map_err(|_| End::ByItself)?;
            if self.is_silent() {
                // Who ends a half-open connection ends it for himself: the other side never hears of it.
                if read == 0 {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if read == 0 {
                let _ = self.output.shutdown().await;
                return Ok(());
            }
            self.waiting.extend_from_slice(&buffer[..read]);
            self.pass_whole().await?;
        }
    }

    fn is_silent(&self) -> bool {
        self.link.silent.load(Ordering::SeqCst)
    }

    /// Passes on all messages that are whole.
    async fn pass_whole(&mut self) -> Result<(), End> {
        let (mut done, mut ready) = (0, Vec::new());
        loop {
            let first = frame::first(
                self.shared.protocol,
                self.from,
                &self.waiting[done..],
                &mut lock(&self.link.conversation),
            );
            let Some((length, kinds)) = first else { break };
            let mut message = self.waiting[done..done + length].to_vec();
            done += length;
            frame::redirect(&mut message, &kinds, &lock(&self.shared.ports));
            self.strike(&mut ready, &message, &kinds).await?;
            if self.is_silent() {
                return Ok(());
            }
            ready.extend(message);
        }
        self.waiting.drain(..done);
        self.deliver(&ready).await
    }

    /// Lets the traps have the message; what came before it is delivered first.
    async fn strike(&mut self, ready: &mut Vec<u8>, message: &[u8], kinds: &[Kind]) -> Result<(), End> {
        let traps = lock(&self.shared.traps).clone();
        for trap in traps {
            let Some(passes) = trap.catches(self.from, kinds, message.len()) else {
                continue;
            };
            self.deliver(&std::mem::take(ready)).await?;
            match trap.fault {
                Fault::Hold => {
                    self.shared.wait_released(&trap).await;
                    continue;
                }
                _ => self.deliver(&message[..passes]).await?,
            }
            match trap.fault {
                Fault::Cut => return Err(End::Cut),
                Fault::Reset => return Err(End::Reset),
                _ => self.link.silent.store(true, Ordering::SeqCst),
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Ok(());
        }
        let delay = self.shared.delay(bytes.len());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let slice = lock(&self.shared.line).slice_bytes.unwrap_or(bytes.len()).max(1);
        for piece in bytes.chunks(slice) {
            self.output.write_all(piece).await.map_err(|_| End::ByItself)?;
            if slice < bytes.len() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
