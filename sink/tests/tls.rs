//! TLS to the target, against a PostgreSQL of the test's own with a certificate authority. Needs the server's programs
//! (`PGBIN`, or the newest in /usr/lib/postgresql) and `openssl`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use syncline_runtime::Outcome;
use syncline_schemas::pipeline::Secret;
use syncline_sink::postgres::{PostgresTarget, Settings};

/// TLS for everybody but one role, which may only come without.
const HBA: &str = "\
local     all all                  trust
hostnossl all plain   127.0.0.1/32 trust
hostssl   all certed  127.0.0.1/32 cert
hostssl   all all     127.0.0.1/32 scram-sha-256
";

struct Server {
    directory: tempfile::TempDir,
    port: u16,
}

fn program(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("PGBIN") {
        return Path::new(&directory).join(name);
    }
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = found.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.map_or_else(|| PathBuf::from(name), |version| version.path().join("bin").join(name))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout.trim_ascii() == b"0"
}

/// PostgreSQL refuses to run as root.
fn as_postgres(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program(name));
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

/// An authority, a server for `localhost`, a client for the role `certed`, and a stranger's authority.
fn certificates(directory: &Path) {
    let openssl = |arguments: String| {
        run(Command::new("openssl").args(arguments.replace("{dir}", &directory.display().to_string()).split(' ')));
    };
    for name in ["ca", "stranger"] {
        openssl(format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {{dir}}/{name}.key -out {{dir}}/{name}.pem"
        ));
    }
    for (name, subject) in [("server", "localhost"), ("certed", "certed")] {
        fs::write(directory.join("extensions"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
        openssl(format!(
            "req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {{dir}}/{name}.key -out {{dir}}/{name}.csr"
        ));
        openssl(format!(
            "x509 -req -days 2 -in {{dir}}/{name}.csr -CA {{dir}}/ca.pem -CAkey {{dir}}/ca.key -CAcreateserial \
             -extfile {{dir}}/extensions -out {{dir}}/{name}.pem"
        ));
    }
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, data) = (directory.path(), directory.path().join("data"));
        certificates(root);
        run(Command::new("chmod").arg("600").arg(root.join("server.key")));
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres:"]).arg(root));
        }
        run(as_postgres("initdb")
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "-D"])
            .arg(&data));
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{0}'\nfsync = off\nssl = on\n\
             ssl_ca_file = '{0}/ca.pem'\nssl_cert_file = '{0}/server.pem'\nssl_key_file = '{0}/server.key'\n",
            root.display()
        );
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let log = root.join("log");
        run(as_postgres("pg_ctl")
            .args(["-s", "-w", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .arg("start"));
        let server = Self { directory, port };
        let roles = "CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'right'; CREATE ROLE plain LOGIN SUPERUSER; \
                     CREATE ROLE certed LOGIN SUPERUSER";
        run(as_postgres("psql")
            .args(["-q", "-U", "postgres", "-p", &port.to_string(), "-h"])
            .arg(server.directory.path())
            .args(["-c", roles]));
        server
    }

    fn connect(&self, options: &str) -> Outcome<()> {
        let directory = self.directory.path().display().to_string();
        let host = if options.contains("host") {
            ""
        } else {
            "host=localhost hostaddr=127.0.0.1"
        };
        let dsn = format!(
            "{host} port={} dbname=postgres {}",
            self.port,
            options.replace("{dir}", &directory)
        );
        PostgresTarget::new(Settings {
            pipeline: "p".to_owned(),
            target: "t".to_owned(),
            dsn: Secret::new(dsn),
            links: Vec::new(),
        })?
        .check()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to tell if it is gone already.
        let _ = as_postgres("pg_ctl")
            .args(["-s", "-m", "immediate", "-D"])
            .arg(self.directory.path().join("data"))
            .arg("stop")
            .current_dir("/")
            .status();
    }
}

#[test]
fn sslmodes_are_libpqs() {
    let server = Server::start();
    let passes = [
        "user=scram password=right",
        "user=scram password=right sslmode=require",
        "user=scram password=right sslmode=require channel_binding=require",
        "host=other.name hostaddr=127.0.0.1 user=scram password=right sslmode=require",
        "host=other.name hostaddr=127.0.0.1 user=scram password=right sslmode=verify-ca sslrootcert={dir}/ca.pem",
        "user=scram password=right sslmode=verify-full sslrootcert={dir}/ca.pem",
        "user=certed sslmode=verify-full sslrootcert={dir}/ca.pem sslcert={dir}/certed.pem sslkey={dir}/certed.key",
        "user=plain sslmode=disable",
        "host={dir} user=postgres sslmode=verify-full",
    ];
    for options in passes {
        server
            .connect(options)
            .unwrap_or_else(|failure| panic!("{options}: {failure}"));
    }
    let refused = [
        "user=scram password=wrong-secret sslmode=require",
        "user=scram password=right sslmode=disable",
        "user=plain sslmode=require",
        "user=certed sslmode=verify-full sslrootcert={dir}/ca.pem",
        "user=scram password=right sslmode=verify-full",
        "user=scram password=right sslmode=verify-full sslrootcert={dir}/stranger.pem",
        "user=scram password=right sslmode=verify-ca sslrootcert={dir}/stranger.pem",
        "user=scram password=right sslmode=require sslrootcert={dir}/stranger.pem",
        "host=other.name hostaddr=127.0.0.1 user=scram password=right sslmode=verify-full sslrootcert={dir}/ca.pem",
    ];
    for options in refused {
        let failure = server.connect(options).expect_err(options);
        assert!(!failure.to_string().contains("wrong-secret"), "{failure}");
    }
}
