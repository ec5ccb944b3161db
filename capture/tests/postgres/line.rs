//! The line between us and the server, broken: a proxy stands in it that can stop passing bytes on.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use syncline_capture::postgres::client::ReplicationClient;
use syncline_capture::postgres::dsn::{Address, Dsn, Host};
use syncline_capture::postgres::pgoutput::Message;
use syncline_capture::postgres::session::SessionSettings;
use syncline_capture::postgres::stream::{Stream, StreamSettings};
use syncline_capture::source::{Incoming, Source as _};
use syncline_runtime::failure::{Class, Failure};

use crate::database::{Database, PATIENCE, read_until};

/// What happens to the bytes that the server sends.
#[derive(Default)]
struct Line {
    /// Nothing passes any more, and nobody is told.
    frozen: AtomicBool,
    /// The most bytes that pass at once.
    slice: AtomicUsize,
    /// The line is cut after so many bytes more.
    cut_after: AtomicUsize,
}

/// A proxy before the server of `dsn`: where to connect instead.
fn proxy(dsn: &Dsn) -> (Dsn, Arc<Line>) {
    let Address::Tcp { name, .. } = &dsn.hosts[0].address else {
        panic!("PG_DSN must be TCP")
    };
    let server = (name.clone(), dsn.hosts[0].port);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let line = Arc::new(Line {
        slice: 65_536.into(),
        cut_after: usize::MAX.into(),
        ..Line::default()
    });
    let accepted = Arc::clone(&line);
    thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect(&server).unwrap();
            let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let open = Arc::new(Line {
                slice: 65_536.into(),
                cut_after: usize::MAX.into(),
                ..Line::default()
            });
            thread::spawn(move || pass(near_too, far_too, &open));
            let line = Arc::clone(&accepted);
            thread::spawn(move || pass(far, near, &line));
        }
    });
    let address = Address::Tcp {
        name: "127.0.0.1".to_owned(),
        hostaddr: None,
    };
    (
        Dsn {
            hosts: vec![Host { address, port }],
            ..dsn.clone()
        },
        line,
    )
}

fn pass(mut from: TcpStream, mut to: TcpStream, line: &Line) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        for bytes in buffer[..count].chunks(line.slice.load(Ordering::Relaxed)) {
            while line.frozen.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            let left = line.cut_after.load(Ordering::Relaxed);
            let passed = to.write_all(&bytes[..bytes.len().min(left)]);
            if left != usize::MAX {
                line.cut_after
                    .store(left.saturating_sub(bytes.len()), Ordering::Relaxed);
            }
            if passed.is_err() || left <= bytes.len() {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A stream through the proxy, of a table `t (id int PRIMARY KEY, v text)`.
fn stream_through_proxy(
    database: &Database,
    settings: StreamSettings,
    session: &SessionSettings,
) -> (Stream, Arc<Line>) {
    database
        .control()
        .execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "creating")
        .unwrap();
    let (_, client, created) = database.slot_for(&["t"]);
    drop(client);
    let (dsn, line) = proxy(&database.dsn());
    let client = ReplicationClient::connect(&dsn, session).unwrap();
    (
        client
            .start_stream(database.slot(), "pub", created.consistent_point, settings)
            .unwrap(),
        line,
    )
}

fn failure(stream: &mut Stream, within: Duration) -> Failure {
    let deadline = Instant::now() + within;
    loop {
        assert!(Instant::now() < deadline, "the stream goes on");
        if let Err(failure) = stream.next(Duration::from_millis(100)) {
            return failure;
        }
    }
}

#[test]
fn a_line_that_is_dead_is_noticed() {
    let database = Database::new("halfopen");
    let settings = StreamSettings {
        status_interval_ms: 200,
        read_timeout_ms: 1_500,
        ..StreamSettings::default()
    };
    let (mut stream, line) = stream_through_proxy(&database, settings, &SessionSettings::default());
    // A quiet line that lives stays up: it is asked, and answers.
    let quiet = Instant::now() + Duration::from_secs(4);
    while Instant::now() < quiet {
        stream.next(Duration::from_millis(100)).unwrap();
    }
    line.frozen.store(true, Ordering::Relaxed);
    let failure = failure(&mut stream, Duration::from_secs(10));
    assert_eq!((failure.class, failure.code), (Class::Transient, "SOURCE_SILENT"));
}

#[test]
fn a_line_of_single_bytes_carries_everything_and_one_cut_within_a_message_is_a_failure() {
    let database = Database::new("slices");
    let (mut stream, line) = stream_through_proxy(&database, StreamSettings::default(), &SessionSettings::default());
    line.slice.store(1, Ordering::Relaxed);
    let control = database.control();
    control
        .execute(
            "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 500) i",
            "writing",
        )
        .unwrap();
    let mut rows = 0;
    let until = control.current_lsn().unwrap();
    read_until(&mut stream, until, |message| {
        rows += u32::from(matches!(message, Message::Insert(_)))
    });
    assert_eq!(rows, 500);

    line.cut_after.store(10_001, Ordering::Relaxed);
    control
        .execute(
            "INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1001, 1100) i",
            "writing",
        )
        .unwrap();
    let failure = failure(&mut stream, PATIENCE);
    assert_eq!((failure.class, failure.code), (Class::Transient, "SOURCE_CONNECTION"));
}

#[test]
fn a_row_beyond_the_limit_stops_before_it_is_read() {
    let database = Database::new("toolarge");
    let session = SessionSettings {
        message_bytes_max: 1 << 20,
        ..SessionSettings::default()
    };
    let (mut stream, _) = stream_through_proxy(&database, StreamSettings::default(), &session);
    let sql = "INSERT INTO t VALUES (1, repeat('x', 1000)), (2, repeat('x', 2000000))";
    database.control().execute(sql, "writing").unwrap();
    let mut rows = 0;
    let deadline = Instant::now() + PATIENCE;
    let failure = loop {
        assert!(Instant::now() < deadline);
        match stream.next(Duration::from_millis(100)) {
            Ok(Some(Incoming::Log {
                message: Message::Insert(_),
                ..
            })) => rows += 1,
            Ok(_) => {}
            Err(failure) => break failure,
        }
    };
    assert_eq!(
        (failure.class, failure.code, rows),
        (Class::Definite, "MESSAGE_TOO_LARGE", 1)
    );
}
