//! Certificate authorities in a PEM file.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::config::read::Rule;

/// Far more than a whole system trusts.
const LENGTH_MAX: usize = 4 * 1024 * 1024;

/// # Errors
/// The rule that the file breaks; nothing of its contents.
pub(crate) fn parse(text: &str) -> Result<RootCertStore, Rule> {
    if text.len() > LENGTH_MAX {
        return Err("must be a file of 4 MiB or less".to_owned());
    }
    let mut authorities = RootCertStore::empty();
    for (at, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        certificate
            .ok()
            .and_then(|certificate| authorities.add(certificate).ok())
            .ok_or_else(|| format!("must hold certificates in PEM, unlike number {} in it", at + 1))?;
    }
    if authorities.is_empty() {
        return Err("must hold one or more certificates in PEM".to_owned());
    }
    Ok(authorities)
}
