//! The connection string, with the TLS settings as libpq understands them.
//!
//! `tokio-postgres` knows `disable`, `prefer` and `require`. What libpq adds, `verify-ca`, `verify-full` and the files with
//! certificates, is taken out of the string here and put into the TLS configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use syncline_runtime::{Failure, Outcome};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Settings that are read here and are unknown to `tokio-postgres`.
const OURS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// A connection string, read.
#[derive(Clone)]
pub struct Dsn {
    /// Everything but TLS.
    pub config: Config,
    /// TLS.
    pub tls: Tls,
}

/// How far the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verify {
    Nothing,
    Authority,
    Full,
}

/// TLS settings.
#[derive(Clone, Debug)]
pub struct Tls {
    verify: Verify,
    root_file: Option<String>,
    client_files: Option<(String, String)>,
}

impl Dsn {
    /// Reads a connection string, `postgres://..` or `host=.. user=..`. No message repeats it: it may hold a password.
    pub fn parse(text: &str) -> Outcome<Self> {
        let (rest, ours) = if text.contains("://") {
            split_url(text)
        } else {
            split_words(text)
        };
        let wrong = |why: String| Failure::definite("DSN_INVALID", format!("connection string: {why}"));
        let mut config: Config = rest.parse().map_err(|_| wrong("cannot be read".to_owned()))?;
        let mode = ours.get("sslmode").map_or("prefer", String::as_str);
        let (ssl_mode, verify) = mode_of(mode).ok_or_else(|| wrong(format!("unknown sslmode {mode}")))?;
        // libpq: nobody listens on a socket of this machine, and it has no name that a certificate could hold.
        let local = |host: &Host| matches!(host, Host::Unix(_));
        let all_local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(local);
        config.ssl_mode(if all_local { SslMode::Disable } else { ssl_mode });
        let root_file = ours.get("sslrootcert").filter(|file| *file != "system").cloned();
        // libpq: with a root certificate at hand, `require` looks at the authority as well.
        let verify = if mode == "require" && root_file.is_some() {
            Verify::Authority
        } else {
            verify
        };
        let client_files = ours.get("sslcert").cloned().zip(ours.get("sslkey").cloned());
        Ok(Self {
            config,
            tls: Tls {
                verify,
                root_file,
                client_files,
            },
        })
    }
}

fn mode_of(mode: &str) -> Option<(SslMode, Verify)> {
    Some(match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Authority),
        "verify-full" => (SslMode::Require, Verify::Full),
        _ => return None,
    })
}

fn split_url(text: &str) -> (String, BTreeMap<String, String>) {
    let Some((base, query)) = text.split_once('?') else {
        return (text.to_owned(), BTreeMap::new());
    };
    let (ours, others) = divide(query.split('&'));
    let ours = ours
        .into_iter()
        .map(|(name, value)| (name, percent_decoded(&value)))
        .collect();
    let rest = if others.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", others.join("&"))
    };
    (rest, ours)
}

/// `name = value` settings; a value may be quoted and then hold blanks and escaped quotes.
fn split_words(text: &str) -> (String, BTreeMap<String, String>) {
    let (mut ours, mut others) = (BTreeMap::new(), Vec::new());
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = word(after.trim_start());
        let name = name.trim();
        if OURS.contains(&name) {
            ours.insert(name.to_owned(), value);
        } else {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
            others.push(format!("{name}='{escaped}'"));
        }
        rest = after.trim_start();
    }
    // What is left is no setting, and for `tokio-postgres` to refuse.
    others.push(rest.to_owned());
    (others.join(" ").trim().to_owned(), ours)
}

/// The value at the start of `text`, unquoted, and what follows it.
fn word(text: &str) -> (String, &str) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return (value, &text[at + 1..]),
            blank if !quoted && blank.is_whitespace() => return (value, &text[at..]),
            other => value.push(other),
        }
    }
    (value, "")
}

fn divide<'a>(settings: impl Iterator<Item = &'a str>) -> (BTreeMap<String, String>, Vec<&'a str>) {
    let (mut ours, mut others) = (BTreeMap::new(), Vec::new());
    for setting in settings {
        match setting.split_once('=') {
            Some((name, value)) if OURS.contains(&name) => {
                ours.insert(name.to_owned(), value.to_owned());
            }
            _ => others.push(setting),
        }
    }
    (ours, others)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Tls {
    /// What makes TLS connections of these settings.
    pub fn connector(&self) -> Outcome<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        let config = match &self.client_files {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(format!("sslkey: {error}")))?;
                let chain = certificates(certificate, "sslcert")?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| wrong(error.to_string()))?
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Outcome<Arc<dyn ServerCertVerifier>> {
        if self.verify == Verify::Nothing {
            return Ok(Arc::new(Lenient { inner: None, provider }));
        }
        let roots = Arc::new(self.roots()?);
        let strict = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(match self.verify {
            Verify::Full => strict,
            _ => Arc::new(Lenient {
                inner: Some(strict),
                provider,
            }),
        })
    }

    fn roots(&self) -> Outcome<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let found = match &self.root_file {
            Some(file) => certificates(file, "sslrootcert")?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            Err(wrong("no root certificate found".to_owned()))
        } else {
            Ok(roots)
        }
    }
}

fn certificates(file: &str, setting: &str) -> Outcome<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| wrong(format!("{setting}: {error}")))
}

fn wrong(why: String) -> Failure {
    Failure::definite("TLS_INVALID", format!("TLS settings of the connection string: {why}"))
}

/// For `require` (the certificate is not looked at) and `verify-ca` (its name is not looked at).
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(text: &str) -> (SslMode, Verify) {
        let dsn = Dsn::parse(text).unwrap();
        (dsn.config.get_ssl_mode(), dsn.tls.verify)
    }

    #[test]
    fn sslmode_is_read_as_libpq_reads_it() {
        assert_eq!(modes("postgres://u@h/db"), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(
            modes("postgres://u@h/db?sslmode=disable"),
            (SslMode::Disable, Verify::Nothing)
        );
        assert_eq!(
            modes("host=h user=u sslmode=require"),
            (SslMode::Require, Verify::Nothing)
        );
        assert_eq!(
            modes("postgres://u@h/db?sslmode=verify-ca"),
            (SslMode::Require, Verify::Authority)
        );
        assert_eq!(
            modes("host=h user=u sslmode='verify-full'"),
            (SslMode::Require, Verify::Full)
        );
        let require_with_root = "postgres://u@h/db?sslmode=require&sslrootcert=%2Fa%20b.pem&connect_timeout=3";
        assert_eq!(modes(require_with_root), (SslMode::Require, Verify::Authority));
        assert_eq!(
            Dsn::parse(require_with_root).unwrap().tls.root_file.as_deref(),
            Some("/a b.pem")
        );
    }

    #[test]
    fn quoted_settings_keep_blanks_and_quotes() {
        let dsn = Dsn::parse(r"host=h password='a b\'c\\d' sslmode = require user=u").unwrap();
        assert_eq!(dsn.config.get_password(), Some(&br"a b'c\d"[..]));
        assert_eq!(
            (dsn.config.get_user(), dsn.config.get_ssl_mode()),
            (Some("u"), SslMode::Require)
        );
        assert_eq!(modes("host=/run/pg sslmode=verify-full").0, SslMode::Disable);
        assert!(Dsn::parse("host=h what").is_err());
    }

    #[test]
    fn a_wrong_string_is_refused_without_repeating_it() {
        for text in ["postgres://u:hunter2@h/db?sslmode=maybe", "postgres://u:hunter2@h:x/db"] {
            let failure = Dsn::parse(text).err().unwrap();
            assert_eq!(failure.code, "DSN_INVALID");
            assert!(!failure.to_string().contains("hunter2"));
        }
    }
}
