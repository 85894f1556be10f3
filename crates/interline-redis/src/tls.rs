//! Encryption.

use std::path::Path;
use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use interline_core::{Error, Result};
use interline_transport::settings::{Tls, config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::SCHEME;

/// Verified TLS, always with the same provider of cryptography, whatever else the program links.
pub(crate) fn connector(tls: &Tls) -> Result<TlsConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| refused("the provider of TLS knows no safe version", cause))?
        .with_root_certificates(roots(tls)?);
    let client = match (&tls.cert, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|cause| unreadable(key, cause))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|cause| refused("`tls_cert` and `tls_key` do not fit", cause))?
        }
        _ => {
            return Err(config(
                "one of `tls_cert` and `tls_key` is missing",
                "give both or none",
            )
            .on(SCHEME));
        }
    };
    Ok(TlsConnector::from(client).into())
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &tls.ca {
        for certificate in certificates(file)? {
            roots
                .add(certificate)
                .map_err(|cause| unreadable(file, cause))?;
        }
        return Ok(roots);
    }
    // Some of the system's authorities may be unreadable; those that are there count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(config(
            "the system has no certificate authorities",
            "name a file of them with `tls_ca`",
        )
        .on(SCHEME));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(file).map_err(|cause| unreadable(file, cause))?;
    let all: Result<Vec<_>, _> = all.collect();
    match all {
        Ok(all) if all.is_empty() => Err(config(
            format!("{:?} holds no certificate", file.display().to_string()),
            "give a PEM file",
        )
        .on(SCHEME)),
        Ok(all) => Ok(all),
        Err(cause) => Err(unreadable(file, cause)),
    }
}

fn unreadable(file: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("{:?} cannot be read", file.display().to_string());
    refused(message, cause)
}

fn refused(
    message: impl Into<String>,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    config(message.into(), "check the file: PEM, readable, not expired")
        .on(SCHEME)
        .because(cause)
}
