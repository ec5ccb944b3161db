//! TLS to the server: what each `sslmode` checks, and the digest that SCRAM binds a login to.
//!
//! Two deviations from libpq, both to the safe side or for want of its files: `verify-ca` and `verify-full` without
//! `sslrootcert` trust the system's authorities (libpq looks for `~/.postgresql/root.crt`), and no certificate or key
//! is picked up that the connection string does not name. As there, `require` with `sslrootcert` checks as `verify-ca`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use syncline_runtime::failure::{Failure, Outcome};

use crate::postgres::dsn::{Dsn, SslMode};

/// The configuration that a connection string asks for.
pub fn client_config(dsn: &Dsn) -> Outcome<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::definite("TLS_SETTINGS", error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(dsn, provider)?);
    match client_certificate(dsn)? {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Failure::definite(
                "TLS_SETTINGS",
                format!("sslcert and sslkey do not fit each other: {error}"),
            )
        }),
    }
}

fn verifier(dsn: &Dsn, provider: Arc<CryptoProvider>) -> Outcome<Arc<dyn ServerCertVerifier>> {
    let check = match dsn.sslmode {
        SslMode::VerifyFull => Check::Name,
        SslMode::VerifyCa => Check::Authority,
        SslMode::Require if dsn.sslrootcert.is_some() => Check::Authority,
        _ => return Ok(Arc::new(Unchecked { provider })),
    };
    let roots = roots(dsn.sslrootcert.as_deref())?;
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Failure::definite("TLS_SETTINGS", format!("no authority to trust: {error}")))?;
    Ok(match check {
        Check::Name => webpki,
        Check::Authority => Arc::new(AnyName { webpki }),
    })
}

enum Check {
    Name,
    Authority,
}

fn roots(file: Option<&Path>) -> Outcome<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    for certificate in certificates(file, "sslrootcert")? {
        store
            .add(certificate)
            .map_err(|error| unreadable("sslrootcert", file, &error))?;
    }
    Ok(store)
}

type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(dsn: &Dsn) -> Outcome<Option<OwnCertificate>> {
    match (&dsn.sslcert, &dsn.sslkey) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => {
            let chain = certificates(chain, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, &error))?;
            Ok(Some((chain, key)))
        }
        _ => Err(Failure::definite(
            "TLS_SETTINGS",
            "sslcert and sslkey go together: one of them is missing",
        )),
    }
}

fn certificates(file: &Path, option: &str) -> Outcome<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(option, file, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(option, file, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unreadable(option: &str, file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::definite("TLS_SETTINGS", format!("{option} {}: {why}", file.display()))
}

/// `require` and below: the channel is encrypted, whoever is at the other end of it.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca`: the chain is checked to its authority, the name is not.
#[derive(Debug)]
struct AnyName {
    webpki: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::Error::InvalidCertificate;
        // The name is the last thing webpki checks: if that is what is wrong, the chain is right.
        match self
            .webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate's digest by the hash of its own signature (SHA-256 for the weak
/// ones). `None` if the signature has no such hash; then SCRAM goes unbound, as with libpq.
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let whole = der_content(certificate)?.0;
    let (_, after_body) = der_content(whole)?;
    let algorithm = der_content(after_body)?.0;
    let identifier = der_content(algorithm)?.0;
    match identifier {
        // md5, sha1 and sha256 WithRSAEncryption; ecdsa-with-SHA1 and -SHA256
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Some(Sha256::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            Some(Sha384::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// The content of the first DER element, and what follows the element.
fn der_content(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.get(1..)?.split_first()?;
    let (length, rest) = match length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            (
                digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)),
                rest,
            )
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SEQUENCE { SEQUENCE {}, SEQUENCE { OID }, .. }: the frame of a certificate.
    fn certificate(identifier: &[u8]) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let algorithm = element(0x30, &element(0x06, identifier));
        element(0x30, &[element(0x30, &[]), algorithm].concat())
    }

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
        let length = |identifier: &[u8]| server_end_point(&certificate(identifier)).map(|digest| digest.len());
        assert_eq!(length(&rsa(0x05)), Some(32));
        assert_eq!(length(&rsa(0x0b)), Some(32));
        assert_eq!(length(&rsa(0x0c)), Some(48));
        assert_eq!(length(&rsa(0x0d)), Some(64));
        assert_eq!(length(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]), Some(32));
        assert_eq!(length(&[0x2b, 0x65, 0x70]), None, "Ed25519 has no hash of its own");
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let dsn = Dsn::parse("user=u sslcert=/nowhere.pem").unwrap();
        assert!(client_config(&dsn).unwrap_err().to_string().contains("sslkey"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let dsn = Dsn::parse("user=u sslmode=verify-full sslrootcert=/nowhere/ca.pem").unwrap();
        assert!(client_config(&dsn).unwrap_err().to_string().contains("/nowhere/ca.pem"));
    }

    proptest! {
        #[test]
        fn no_certificate_is_too_strange(bytes: Vec<u8>) {
            let _ = server_end_point(&bytes);
        }
    }
}
