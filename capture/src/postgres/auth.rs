//! Login: how a password is shown to a server, and when it is not.
//!
//! In the clear only inside TLS or to a Unix socket, whatever the server asks. SCRAM is bound to the TLS channel when
//! both sides can (`SCRAM-SHA-256-PLUS`), so that nobody in between can pass a login on.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret as _;
use syncline_runtime::failure::{Failure, Outcome};

use crate::postgres::dsn::{Binding, Dsn};
use crate::postgres::session::Session;

/// What is known of the channel that the login goes through.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// Nobody can listen: TLS, or a Unix socket.
    pub private: bool,
    /// Digest of the server's certificate, if it has one to bind to.
    pub end_point: Option<Vec<u8>>,
}

/// Logs in. Returns when the server has said that all is well.
pub async fn log_in(session: &mut Session, dsn: &Dsn, channel: &Channel) -> Outcome<()> {
    match session.read("logging in").await? {
        Message::AuthenticationOk => return unbound(dsn),
        Message::AuthenticationCleartextPassword => {
            unbound(dsn)?;
            if !channel.private {
                return Err(
                    Failure::definite("SOURCE_LOGIN", "the server asks for the password in the clear")
                        .hint("use TLS (sslmode=verify-full), or scram-sha-256 in pg_hba.conf"),
                );
            }
            let password = password(dsn)?.to_owned();
            send_password(session, password.as_bytes()).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            unbound(dsn)?;
            let hash = md5_hash(dsn.user.as_bytes(), password(dsn)?.as_bytes(), body.salt());
            send_password(session, hash.as_bytes()).await?;
        }
        Message::AuthenticationSasl(body) => scram(session, dsn, channel, &body).await?,
        _ => {
            return Err(Failure::definite(
                "SOURCE_LOGIN",
                "the server asks for a kind of login that is not supported",
            )
            .hint("supported are trust, password, md5, scram-sha-256 and cert"));
        }
    }
    match session.read("logging in").await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(unexpected()),
    }
}

/// Any login but SCRAM-SHA-256-PLUS: allowed unless the binding is required.
fn unbound(dsn: &Dsn) -> Outcome<()> {
    match dsn.channel_binding {
        Binding::Require => Err(Failure::definite(
            "SOURCE_LOGIN",
            "channel_binding is required, but the server did not offer it",
        )),
        Binding::Disable | Binding::Prefer => Ok(()),
    }
}

fn password(dsn: &Dsn) -> Outcome<&str> {
    let missing = || Failure::definite("SOURCE_LOGIN", "the server asks for a password and none is configured");
    dsn.password
        .as_ref()
        .map(|password| password.expose_secret())
        .ok_or_else(missing)
}

async fn send_password(session: &mut Session, password: &[u8]) -> Outcome<()> {
    frontend::password_message(password, &mut session.wire.output).map_err(|error| bad_answer(&error))?;
    session.wire.flush().await
}

async fn scram(session: &mut Session, dsn: &Dsn, channel: &Channel, body: &AuthenticationSaslBody) -> Outcome<()> {
    let (mechanism, binding) = mechanism(body, dsn, channel)?;
    let mut scram = ScramSha256::new(password(dsn)?.as_bytes(), binding);
    frontend::sasl_initial_response(mechanism, scram.message(), &mut session.wire.output)
        .map_err(|error| bad_answer(&error))?;
    session.wire.flush().await?;

    let Message::AuthenticationSaslContinue(body) = session.read("logging in").await? else {
        return Err(unexpected());
    };
    scram.update(body.data()).map_err(|error| bad_answer(&error))?;
    frontend::sasl_response(scram.message(), &mut session.wire.output).map_err(|error| bad_answer(&error))?;
    session.wire.flush().await?;

    let Message::AuthenticationSaslFinal(body) = session.read("logging in").await? else {
        return Err(unexpected());
    };
    // The server proves that it knows the password too.
    scram.finish(body.data()).map_err(|error| bad_answer(&error))
}

fn mechanism(body: &AuthenticationSaslBody, dsn: &Dsn, channel: &Channel) -> Outcome<(&'static str, ChannelBinding)> {
    let (mut plain, mut plus) = (false, false);
    let mut offered = body.mechanisms();
    while let Some(mechanism) = offered.next().map_err(|error| bad_answer(&error))? {
        plain |= mechanism == SCRAM_SHA_256;
        plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    let end_point = channel
        .end_point
        .clone()
        .filter(|_| dsn.channel_binding != Binding::Disable);
    match end_point {
        Some(end_point) if plus => {
            return Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point)));
        }
        _ if !plain => {
            return Err(Failure::definite("SOURCE_LOGIN", "the server offers no SCRAM-SHA-256"));
        }
        _ => unbound(dsn)?,
    }
    // "Could have bound, but you did not offer it" is signed, so that nobody can take the offer out on the way.
    let binding = match channel.end_point {
        Some(_) if dsn.channel_binding != Binding::Disable => ChannelBinding::unrequested(),
        _ => ChannelBinding::unsupported(),
    };
    Ok((SCRAM_SHA_256, binding))
}

fn unexpected() -> Failure {
    Failure::transient(
        "SOURCE_PROTOCOL",
        "the server broke off the login with a message that does not belong there",
    )
}

fn bad_answer(error: &std::io::Error) -> Failure {
    Failure::definite("SOURCE_LOGIN", format!("the login failed: {error}"))
}
