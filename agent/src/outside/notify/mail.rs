//! Mail by SMTP.

use super::SUBJECT;
use crate::js::request::Backend;
use crate::outside::Outside;
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

/// Where mail is submitted over TLS from the first byte (RFC 8314).
const SUBMISSIONS_PORT: u16 = 465;
/// Where it is submitted otherwise (RFC 6409).
const SUBMISSION_PORT: u16 = 587;

/// Sends `text` to all recipients in one mail.
pub(super) async fn send(outside: &Outside, backend: &Backend, text: &str) -> Result<(), String> {
    let Backend::Smtp {
        smtp_host,
        from,
        recipients,
        username,
        token,
        tls,
        subject,
    } = backend
    else {
        return Ok(());
    };
    let (host, port) = match smtp_host.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse::<u16>();
            (
                host,
                port.map_err(|_| format!("smtp: {smtp_host:?} has no valid port"))?,
            )
        }
        None => (smtp_host.as_str(), SUBMISSION_PORT),
    };
    let mail = message(from, recipients, subject, text)?;
    let addresses = outside.config().guard.resolve(host, port).await;
    let addresses = addresses.map_err(|error| error.to_string())?;
    let address = addresses
        .first()
        .ok_or_else(|| format!("smtp: {host:?} has no address"))?;
    // To the address that was checked; the certificate is the name's.
    let mut builder =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(port)
            .tls(security(tls, host, port)?)
            .timeout(Some(outside.config().timeout));
    if !username.is_empty() {
        builder = builder.credentials(Credentials::new(username.clone(), token.clone()));
    }
    let sent = builder.build().send(mail).await;
    sent.map(|_| ()).map_err(|error| {
        let mut told = format!("smtp: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            told.push_str(&format!(": {source}"));
            cause = source.source();
        }
        told
    })
}

fn security(wanted: &str, host: &str, port: u16) -> Result<Tls, String> {
    let parameters = || {
        TlsParameters::new(host.to_owned())
            .map_err(|error| format!("smtp: cannot use TLS with {host:?}: {error}"))
    };
    match wanted {
        "none" => Ok(Tls::None),
        "tls" => Ok(Tls::Wrapper(parameters()?)),
        "starttls" => Ok(Tls::Required(parameters()?)),
        "" if port == SUBMISSIONS_PORT => Ok(Tls::Wrapper(parameters()?)),
        "" => Ok(Tls::Required(parameters()?)),
        other => Err(format!(
            "smtp: tls must be \"starttls\", \"tls\" or \"none\", got {other:?}"
        )),
    }
}

fn message(from: &str, to: &[String], subject: &str, text: &str) -> Result<Message, String> {
    let mailbox = |address: &str| {
        address
            .parse::<Mailbox>()
            .map_err(|error| format!("smtp: {address:?} is no address: {error}"))
    };
    let subject = if subject.is_empty() { SUBJECT } else { subject };
    let mut builder = Message::builder().from(mailbox(from)?).subject(subject);
    for address in to {
        builder = builder.to(mailbox(address)?);
    }
    builder
        .singlepart(SinglePart::plain(text.to_owned()))
        .map_err(|error| format!("smtp: cannot write the mail: {error}"))
}
