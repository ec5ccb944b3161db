//! Where a database is and how to get in: a connection string in either form that libpq knows.
//!
//! `postgres://user:secret@host:5432/db?sslmode=verify-full` and `host=/run/postgresql user=u dbname=d` mean what they
//! mean to libpq. Options that exist there and change nothing for us are accepted; any other word is an error, since a
//! misspelt `sslmode` must not pass in silence. Nothing is taken from the environment or from `~/.pgpass`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use syncline_runtime::failure::{Failure, Outcome};

const PORT: u16 = 5432;
const CONNECT_TIMEOUT_S: u64 = 10;

/// Options of libpq that make no difference here.
const ACCEPTED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "passfile",
    "requirepeer",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// A checked connection string.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// Servers, tried in this order.
    pub hosts: Vec<Host>,
    /// Role.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<SecretString>,
    /// Database.
    pub dbname: String,
    /// How much TLS.
    pub sslmode: SslMode,
    /// PEM file of the authorities to trust; the system's if `None` (or `system`).
    pub sslrootcert: Option<PathBuf>,
    /// PEM file of our own certificate.
    pub sslcert: Option<PathBuf>,
    /// PEM file of its key.
    pub sslkey: Option<PathBuf>,
    /// Whether SCRAM must be bound to the TLS channel.
    pub channel_binding: Binding,
    /// Further command-line options for the session (`-c name=value`).
    pub options: Option<String>,
    /// Name shown in `pg_stat_activity`.
    pub application_name: Option<String>,
    /// Longest wait for a connection to one server.
    pub connect_timeout: Duration,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// How to reach it.
    pub address: Address,
    /// Port; of a Unix socket: the number in its name.
    pub port: u16,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address. `hostaddr`, if given, is where to connect; the name is what the certificate must say.
    Tcp {
        /// The name.
        name: String,
        /// Where to connect instead of looking the name up.
        hostaddr: Option<String>,
    },
    /// Directory of the Unix socket.
    Unix(PathBuf),
}

/// How much TLS, as libpq understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// None.
    Disable,
    /// Only if the server refuses to go without.
    Allow,
    /// If the server offers it.
    Prefer,
    /// Always; the certificate is not checked (unless `sslrootcert` is given).
    Require,
    /// Always; the certificate must come from a trusted authority.
    VerifyCa,
    /// Always; it must also name the host.
    VerifyFull,
}

/// Whether SCRAM is bound to the TLS channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// If both sides can.
    Prefer,
    /// Or no login.
    Require,
}

impl Dsn {
    /// Reads a connection string. Errors never repeat it, for it holds the password.
    pub fn parse(text: &str) -> Outcome<Self> {
        let scheme = ["postgresql://", "postgres://"]
            .into_iter()
            .find_map(|scheme| text.trim().strip_prefix(scheme));
        let words = match scheme {
            Some(rest) => url_words(rest),
            None => key_value_words(text),
        };
        words.and_then(Self::from_words).map_err(|problem| {
            Failure::definite(
                "BAD_CONNECTION_STRING",
                format!("the connection string of the source: {problem}"),
            )
        })
    }

    /// No server at all: to be replaced before anything is connected.
    pub fn nowhere() -> Self {
        Self {
            hosts: Vec::new(),
            user: String::new(),
            password: None,
            dbname: String::new(),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            channel_binding: Binding::Prefer,
            options: None,
            application_name: None,
            connect_timeout: Duration::from_secs(CONNECT_TIMEOUT_S),
        }
    }

    /// The same from libpq's words. Errors repeat no value that may be a secret.
    pub fn from_words(mut words: Words) -> Result<Self, String> {
        let user = words.remove("user").ok_or("no user is named")?;
        let dsn = Self {
            hosts: hosts(&mut words)?,
            dbname: words.remove("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: words.remove("password").map(SecretString::from),
            sslmode: words
                .remove("sslmode")
                .map_or(Ok(SslMode::Prefer), |word| sslmode(&word))?,
            sslrootcert: words
                .remove("sslrootcert")
                .filter(|file| file != "system")
                .map(PathBuf::from),
            sslcert: words.remove("sslcert").map(PathBuf::from),
            sslkey: words.remove("sslkey").map(PathBuf::from),
            channel_binding: words
                .remove("channel_binding")
                .map_or(Ok(Binding::Prefer), |word| binding(&word))?,
            options: words.remove("options"),
            application_name: words.remove("application_name"),
            connect_timeout: connect_timeout(words.remove("connect_timeout"))?,
        };
        match words.keys().find(|word| !ACCEPTED.contains(&word.as_str())) {
            Some(unknown) => Err(format!("unknown option {unknown:?}")),
            None => Ok(dsn),
        }
    }
}

/// libpq's words and their values.
pub type Words = BTreeMap<String, String>;

fn sslmode(word: &str) -> Result<SslMode, String> {
    Ok(match word {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err("sslmode is one of disable, allow, prefer, require, verify-ca, verify-full".to_owned()),
    })
}

fn binding(word: &str) -> Result<Binding, String> {
    Ok(match word {
        "disable" => Binding::Disable,
        "prefer" => Binding::Prefer,
        "require" => Binding::Require,
        _ => return Err("channel_binding is one of disable, prefer, require".to_owned()),
    })
}

/// Seconds; 0 means for ever to libpq, which is no bound, so that it means the default here.
fn connect_timeout(word: Option<String>) -> Result<Duration, String> {
    let seconds = match word {
        None => CONNECT_TIMEOUT_S,
        Some(word) => word.parse().map_err(|_| "connect_timeout is a number of seconds")?,
    };
    Ok(Duration::from_secs(if seconds == 0 {
        CONNECT_TIMEOUT_S
    } else {
        seconds
    }))
}

fn hosts(words: &mut Words) -> Result<Vec<Host>, String> {
    let list = |word: Option<String>| -> Vec<String> {
        word.map(|word| word.split(',').map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let names = list(words.remove("host"));
    let addresses = list(words.remove("hostaddr"));
    let ports = list(words.remove("port"));
    let count = names.len().max(addresses.len()).max(1);
    if ![0, 1, count].contains(&ports.len()) {
        return Err(format!("{count} hosts but {} ports", ports.len()));
    }
    (0..count)
        .map(|index| {
            let port = ports.get(index).or_else(|| ports.first()).map_or("", String::as_str);
            let name = names.get(index).map_or("", String::as_str);
            Ok(Host {
                address: address(name, addresses.get(index)),
                port: port_number(port)?,
            })
        })
        .collect()
}

fn address(name: &str, hostaddr: Option<&String>) -> Address {
    let hostaddr = hostaddr.filter(|address| !address.is_empty()).cloned();
    if name.starts_with('/') {
        return Address::Unix(PathBuf::from(name));
    }
    let name = match (name, &hostaddr) {
        ("", Some(address)) => address.clone(),
        ("", None) => "localhost".to_owned(),
        (name, _) => name.to_owned(),
    };
    Address::Tcp { name, hostaddr }
}

fn port_number(word: &str) -> Result<u16, String> {
    match word {
        "" => Ok(PORT),
        word => word
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| format!("{word:?} is no port")),
    }
}

/// `user:password@host:port,host:port/dbname?word=value&..`, after the scheme.
fn url_words(rest: &str) -> Result<Words, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, servers) = match authority.rsplit_once('@') {
        Some((login, servers)) => (login, servers),
        None => ("", authority),
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut words = Words::new();
    for (word, value) in [("user", user), ("password", password), ("dbname", dbname)] {
        if !value.is_empty() {
            words.insert(word.to_owned(), percent_decode(value)?);
        }
    }
    url_servers(servers, &mut words)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').ok_or("an option has no value")?;
        words.insert(percent_decode(word)?, percent_decode(value)?);
    }
    Ok(words)
}

fn url_servers(servers: &str, words: &mut Words) -> Result<(), String> {
    if servers.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for server in servers.split(',') {
        let (name, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (name, after) = rest.split_once(']').ok_or("an IPv6 address is not closed")?;
                (name, after.strip_prefix(':').unwrap_or(""))
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        names.push(percent_decode(name)?);
        ports.push(port.to_owned());
    }
    words.insert("host".to_owned(), names.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        words.insert("port".to_owned(), ports.join(","));
    }
    Ok(())
}

fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|&byte| byte != 0);
        bytes.push(byte.ok_or("a % is not followed by two hexadecimal digits")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "an escape is not UTF-8".to_owned())
}

/// `word = value word='value with \' and \\'`.
fn key_value_words(text: &str) -> Result<Words, String> {
    let mut words = Words::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = rest.split_once('=').ok_or("a word is not followed by =")?;
        let word = word.trim_end();
        if word.is_empty() || word.contains(char::is_whitespace) {
            return Err("a word is not followed by =".to_owned());
        }
        let (value, after) = value(after.trim_start())?;
        // To libpq an empty value is one that is not given.
        if !value.is_empty() {
            words.insert(word.to_owned(), value);
        }
        rest = after.trim_start();
    }
    Ok(words)
}

fn value(text: &str) -> Result<(String, &str), String> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            space if !quoted && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        Err("a quoted value is not closed".to_owned())
    } else {
        Ok((value, ""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn tcp(name: &str, port: u16) -> Host {
        Host {
            address: Address::Tcp {
                name: name.to_owned(),
                hostaddr: None,
            },
            port,
        }
    }

    #[test]
    fn a_url_with_everything() {
        let dsn = Dsn::parse(
            "postgres://ada:s%40c%2Fret@db.example:6432/shop?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(dsn.hosts, [tcp("db.example", 6432)]);
        assert_eq!((dsn.user.as_str(), dsn.dbname.as_str()), ("ada", "shop"));
        assert_eq!(dsn.password.unwrap().expose_secret(), "s@c/ret");
        assert_eq!(dsn.sslmode, SslMode::VerifyFull);
        assert_eq!(dsn.sslrootcert, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(dsn.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn defaults_are_libpqs() {
        let dsn = Dsn::parse("postgresql://ada@").unwrap();
        assert_eq!(dsn.hosts, [tcp("localhost", 5432)]);
        assert_eq!((dsn.dbname.as_str(), dsn.sslmode), ("ada", SslMode::Prefer));
        assert_eq!(dsn.channel_binding, Binding::Prefer);
    }

    #[test]
    fn a_unix_socket_in_both_forms() {
        let unix = [Host {
            address: Address::Unix(PathBuf::from("/run/pg")),
            port: 5433,
        }];
        assert_eq!(Dsn::parse("host=/run/pg port=5433 user=u").unwrap().hosts, unix);
        assert_eq!(Dsn::parse("postgres://u@%2Frun%2Fpg:5433/d").unwrap().hosts, unix);
        assert_eq!(
            Dsn::parse("postgres://u@/d?host=/run/pg&port=5433").unwrap().hosts,
            unix
        );
    }

    #[test]
    fn several_hosts_and_ipv6() {
        let dsn = Dsn::parse("postgres://u@a:1,[::1]:2,c:3/d").unwrap();
        assert_eq!(dsn.hosts, [tcp("a", 1), tcp("::1", 2), tcp("c", 3)]);
        assert_eq!(
            Dsn::parse("host=a,b port=7 user=u").unwrap().hosts,
            [tcp("a", 7), tcp("b", 7)]
        );
    }

    #[test]
    fn quoted_values() {
        let dsn = Dsn::parse(r"user = 'a b' password='it''s' ").err();
        assert!(dsn.is_some(), "two quotes in a row end the value, as they do to libpq");
        let dsn = Dsn::parse(r"user = 'a b' password='it\'s \\' dbname=d\ e").unwrap();
        assert_eq!((dsn.user.as_str(), dsn.dbname.as_str()), ("a b", "d e"));
        assert_eq!(dsn.password.unwrap().expose_secret(), r"it's \");
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let cases = [
            ("host=a", "no user"),
            ("user=u sslmod=require", "\"sslmod\""),
            ("user=u sslmode=full", "verify-full"),
            ("user=u port=70000", "no port"),
            ("user=u password='topsecret", "not closed"),
            ("postgres://u:topsecret%zz@h/d", "hexadecimal"),
            ("postgres://u:topsecret@h/d?sslmode", "no value"),
            ("topsecret", "="),
        ];
        for (text, expected) in cases {
            let message = Dsn::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("topsecret"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Dsn::parse(&text);
            let _ = Dsn::parse(&format!("postgres://{text}"));
        }

        #[test]
        fn a_quoted_password_is_read_back(password in "[^\0]{1,20}") {
            let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
            let dsn = Dsn::parse(&format!("user=u password='{quoted}'")).unwrap();
            prop_assert_eq!(dsn.password.unwrap().expose_secret().to_owned(), password);
        }
    }
}
