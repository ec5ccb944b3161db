//! A port that can be closed and opened: a target that is down for a while, without touching the server itself.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Passes bytes on to another address while it is open.
pub struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    open: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open gate to `host:port`.
    pub fn to(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            open: AtomicBool::new(true),
            streams: Mutex::default(),
        });
        let (target, shared) = (target.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.open.load(Ordering::SeqCst) {
                    let _ = pass(&stream, &target, &shared);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// `host:port` of the gate.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections and every new one.
    pub fn close(&self) {
        self.state.open.store(false, Ordering::SeqCst);
        for stream in self
            .state
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections pass again.
    pub fn open(&self) {
        self.state.open.store(true, Ordering::SeqCst);
    }
}

fn pass(client: &TcpStream, target: &str, state: &State) -> std::io::Result<()> {
    let server = TcpStream::connect(target)?;
    let mut streams = state.streams.lock().unwrap_or_else(PoisonError::into_inner);
    streams.extend([client.try_clone()?, server.try_clone()?]);
    for (from, to) in [
        (client.try_clone()?, server.try_clone()?),
        (server, client.try_clone()?),
    ] {
        std::thread::spawn(move || copy(from, to));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
