//! TLS to Redis: whom to trust, and why a certificate was refused.
//!
//! The driver tells of a refusal in words of its own, and of a Sentinel's not at all; so it is noted where it is
//! made. rustls decides, nothing here does. Knows nothing of what is said over the connection.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Why the last certificate was refused; nothing once one was accepted.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Mutex<Option<&'static str>>>);

impl Refusal {
    /// For people, without an address.
    pub(super) fn reason(&self) -> Option<&'static str> {
        // A text is whole at any time, also after a panic elsewhere.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line when the verdict is a new one, and not on every attempt to connect.
    fn note(&self, server: &ServerName<'_>, reason: Option<&'static str>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), reason);
        match reason {
            Some(reason) if before != Some(reason) => {
                tracing::warn!(redis.server = %server.to_str(), "Refused Redis: {reason}");
            }
            Some(_) | None => {}
        }
    }
}

/// TLS with these authorities, or with the system's.
///
/// # Errors
/// There is no authority to trust.
pub(super) fn client(authorities: Option<&RootCertStore>, refusal: Refusal) -> Result<ClientConfig, Error> {
    let authorities = authorities.cloned().unwrap_or_else(of_the_system);
    // Named, because a process in which nobody installed a default has none.
    let provider = Arc::new(default_provider());
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider.clone())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Arc::new(Noting { judge, refusal });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// What the system trusts, without what cannot be read: one odd certificate is no reason to trust none.
fn of_the_system() -> RootCertStore {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    authorities
}

/// The verdict of rustls, noted.
#[derive(Debug)]
struct Noting {
    judge: Arc<WebPkiServerVerifier>,
    refusal: Refusal,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge.verify_server_cert(end_entity, intermediates, server, ocsp_response, now);
        self.refusal.note(server, verdict.as_ref().err().map(reason));
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn reason(error: &Error) -> &'static str {
    let Error::InvalidCertificate(error) = error else { return "its certificate cannot be checked" };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is from an authority that is not trusted here; name the authority in USM_REDIS_CA"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is not for the name or address that it was reached by"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        _ => "its certificate is not a valid one for a server",
    }
}
