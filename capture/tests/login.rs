//! Logins of every kind: a PostgreSQL of the test's own, with TLS, a certificate authority and one rule a role.
//! Needs the server's programs (`PGBIN`, or the newest in /usr/lib/postgresql) and `openssl`.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use syncline_capture::postgres::client::ReplicationClient;
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_capture::postgres::session::SessionSettings;
use syncline_runtime::failure::Failure;

/// Who logs in how. A replication connection to a database is matched by the database, as any other.
const HBA: &str = "\
local   all  all                    trust
hostssl all  bound    127.0.0.1/32  scram-sha-256
hostssl all  cleartls 127.0.0.1/32  password
hostssl all  certed   127.0.0.1/32  cert
host    all  scram    127.0.0.1/32  scram-sha-256
host    all  old      127.0.0.1/32  md5
host    all  clear    127.0.0.1/32  password
hostnossl all plain   127.0.0.1/32  trust
hostssl all  onlytls  127.0.0.1/32  trust
";

const ROLES: &str = "\
SET password_encryption = 'scram-sha-256';
CREATE ROLE bound LOGIN REPLICATION PASSWORD 'b''ound'; CREATE ROLE scram LOGIN REPLICATION PASSWORD 'scram';
CREATE ROLE cleartls LOGIN REPLICATION PASSWORD 'cleartls'; CREATE ROLE clear LOGIN REPLICATION PASSWORD 'clear';
CREATE ROLE certed LOGIN REPLICATION; CREATE ROLE plain LOGIN REPLICATION; CREATE ROLE onlytls LOGIN REPLICATION;
SET password_encryption = 'md5'; CREATE ROLE old LOGIN REPLICATION PASSWORD 'old';";

struct Server {
    directory: PathBuf,
    port: u16,
}

/// One for all tests of this file; it ends with the test process, see [`Server::start`].
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

fn program(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("PGBIN") {
        return Path::new(&directory).join(name);
    }
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    versions.sort_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    versions
        .last()
        .map_or_else(|| PathBuf::from(name), |version| version.path().join("bin").join(name))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command
        .current_dir("/")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Server {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("syncline-login-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let data = directory.join("data");
        certificates(&directory);
        hand_over(&directory);
        run(as_postgres(&program("initdb"))
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "-D"])
            .arg(&data));
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{0}'\nwal_level = logical\nfsync = off\n\
             ssl = on\nssl_ca_file = '{0}/ca.pem'\nssl_cert_file = '{0}/server.pem'\nssl_key_file = '{0}/server.key'\n",
            directory.display()
        );
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let control = |action: &[&str]| {
            let mut command = as_postgres(&program("pg_ctl"));
            command.args(["-s", "-w", "-D"]).arg(&data).args(action);
            command
        };
        let log = directory.join("log").display().to_string();
        run(&mut control(&["-l", &log, "start"]));
        // It is stopped by a shell that reads the end of its input, and that is when this process is gone, however.
        let stop = control(&["-m", "immediate", "stop"]);
        let mut watcher = Command::new("sh");
        watcher
            .args(["-c", r#"cat >/dev/null; "$@"; rm -rf "$DIRECTORY""#, "sh"])
            .arg(stop.get_program())
            .args(stop.get_args());
        watcher
            .env("DIRECTORY", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::mem::forget(watcher.current_dir("/").spawn().unwrap());
        let server = Self { directory, port };
        server.wait_and_fill();
        server
    }

    fn wait_and_fill(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let dsn = Dsn::parse(&format!(
            "host={} port={} user=postgres",
            self.directory.display(),
            self.port
        ))
        .unwrap();
        let control = loop {
            match Control::connect(&dsn) {
                Ok(control) => break control,
                Err(failure) => assert!(Instant::now() < deadline, "{failure}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        control.execute(ROLES, "creating roles").unwrap();
    }

    fn dsn(&self, options: &str) -> Dsn {
        let options = options.replace("{dir}", &self.directory.display().to_string());
        let place = if options.contains("host=") {
            String::new()
        } else {
            "host=localhost hostaddr=127.0.0.1".to_owned()
        };
        Dsn::parse(&format!("{place} port={} dbname=postgres {options}", self.port)).unwrap()
    }
}

/// Both kinds of connection, which must agree.
fn log_in(options: &str) -> Result<(), Failure> {
    let dsn = server().dsn(options);
    let ours =
        ReplicationClient::connect(&dsn, &SessionSettings::default()).and_then(|mut client| client.identify_system());
    let sql = Control::connect(&dsn).and_then(|control| control.current_lsn());
    assert_eq!(
        ours.is_ok(),
        sql.is_ok(),
        "{options}: replication {ours:?}, sql {sql:?}"
    );
    ours.map(|_| ())
}

#[track_caller]
fn refused(options: &str, code: &str, said: &str) {
    let failure = log_in(options).unwrap_err();
    assert_eq!(failure.code, code, "{options}: {failure}");
    let text = format!("{failure}");
    assert!(text.contains(said), "{options}: {text}");
    assert!(!text.contains("wrong-secret"), "{text}");
}

/// A certificate authority, a server for `localhost`, and a client for the role `certed`; and a stranger's authority.
fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let arguments = arguments.replace("{dir}", &directory.display().to_string());
        run(Command::new("openssl").args(arguments.split(' ')));
    };
    for authority in ["ca", "stranger"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {{dir}}/{authority}.key -out {{dir}}/{authority}.pem"
        ));
    }
    for (name, subject) in [("server", "localhost"), ("certed", "certed")] {
        fs::write(directory.join("extensions"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {{dir}}/{name}.key -out {{dir}}/{name}.csr"
        ));
        openssl(&format!(
            "x509 -req -sha384 -days 2 -in {{dir}}/{name}.csr -CA {{dir}}/ca.pem -CAkey {{dir}}/ca.key -CAcreateserial \
             -extfile {{dir}}/extensions -out {{dir}}/{name}.pem"
        ));
    }
}

/// The files belong to whom the server runs as, and its key is for him alone.
fn hand_over(directory: &Path) {
    run(Command::new("chmod").arg("600").arg(directory.join("server.key")));
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() == b"0" {
        run(Command::new("chown").args(["-R", "postgres:"]).arg(directory));
    }
}

#[test]
fn scram_with_and_without_tls() {
    log_in("user=scram password=scram sslmode=disable").unwrap();
    log_in("user=scram password=scram sslmode=prefer").unwrap();
    log_in(r"user=bound password='b\'ound' sslmode=require channel_binding=require").unwrap();
    log_in(r"user=bound password='b\'ound' sslmode=require channel_binding=disable").unwrap();
    refused(
        "user=scram password=wrong-secret sslmode=disable",
        "SOURCE_LOGIN",
        "password authentication failed",
    );
    refused("user=scram sslmode=disable", "SOURCE_LOGIN", "password");
}

#[test]
fn a_password_in_the_clear_only_where_nobody_listens() {
    log_in("user=cleartls password=cleartls sslmode=require").unwrap();
    let dsn = server().dsn("user=clear password=clear sslmode=disable");
    let failure = ReplicationClient::connect(&dsn, &SessionSettings::default())
        .err()
        .unwrap();
    assert_eq!(failure.code, "SOURCE_LOGIN");
    assert!(failure.hint.unwrap().contains("TLS"));
}

#[test]
fn md5_trust_and_the_unix_socket() {
    log_in("user=old password=old sslmode=disable").unwrap();
    log_in("user=plain sslmode=disable").unwrap();
    log_in("host={dir} user=postgres sslmode=verify-full").unwrap();
    refused(
        "user=old password=old sslmode=disable channel_binding=require",
        "SOURCE_LOGIN",
        "",
    );
}

#[test]
fn sslmodes_are_libpqs() {
    log_in("user=onlytls sslmode=allow").unwrap();
    log_in("user=onlytls sslmode=prefer").unwrap();
    log_in("user=plain sslmode=prefer").unwrap();
    refused("user=onlytls sslmode=disable", "SOURCE_LOGIN", "no pg_hba.conf entry");
    refused("user=plain sslmode=require", "SOURCE_LOGIN", "no pg_hba.conf entry");
}

#[test]
fn the_servers_certificate_is_checked() {
    log_in("user=onlytls sslmode=verify-full sslrootcert={dir}/ca.pem").unwrap();
    log_in("host=other.name hostaddr=127.0.0.1 user=onlytls sslmode=verify-ca sslrootcert={dir}/ca.pem").unwrap();
    log_in("host=other.name hostaddr=127.0.0.1 user=onlytls sslmode=require").unwrap();
    for options in [
        "host=other.name hostaddr=127.0.0.1 user=onlytls sslmode=verify-full sslrootcert={dir}/ca.pem",
        "user=onlytls sslmode=verify-full sslrootcert={dir}/stranger.pem",
        "user=onlytls sslmode=verify-ca sslrootcert={dir}/stranger.pem",
        "user=onlytls sslmode=require sslrootcert={dir}/stranger.pem",
        "user=onlytls sslmode=verify-full",
    ] {
        refused(options, "TLS_FAILED", "certificate");
    }
}

#[test]
fn a_role_with_a_certificate_of_its_own() {
    let root = "sslmode=verify-full sslrootcert={dir}/ca.pem";
    log_in(&format!(
        "user=certed {root} sslcert={{dir}}/certed.pem sslkey={{dir}}/certed.key"
    ))
    .unwrap();
    assert!(log_in(&format!("user=certed {root}")).is_err());
}

#[test]
fn a_server_without_tls_is_refused_if_tls_is_demanded() {
    // A server that answers N, as one without certificates does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 8]).unwrap();
        socket.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        rest
    });
    let dsn = Dsn::parse(&format!(
        "host=127.0.0.1 port={port} user=u password=wrong-secret sslmode=require"
    ))
    .unwrap();
    let failure = ReplicationClient::connect(&dsn, &SessionSettings::default())
        .err()
        .unwrap();
    assert_eq!(failure.code, "TLS_REFUSED");
    assert_eq!(answering.join().unwrap(), b"", "nothing is said in the clear");
}
