//! Encryption of the connection: rustls with ring, always with the host's name checked.

use std::path::Path;
use std::sync::Arc;

use interline_core::Result;
use interline_transport::settings::{Tls, config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What speaks TLS as `tls` says.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |cause| config("TLS cannot be set up", "report this").because(cause);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let client = match (&tls.cert, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("tls_cert", cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|cause| unreadable("tls_key", key).because(cause))?;
            builder.with_client_auth_cert(chain, key).map_err(|cause| {
                config(
                    "the client's certificate and key do not fit",
                    "set `tls_cert` and `tls_key` to a pair",
                )
                .because(cause)
            })?
        }
        _ => {
            return Err(config(
                "a client certificate needs both `tls_cert` and `tls_key`",
                "set both or none",
            ));
        }
    };
    Ok(MakeRustlsConnect::new(client))
}

/// The authorities that are trusted: those of the file, else the system's.
fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates("tls_ca", file)? {
                roots
                    .add(certificate)
                    .map_err(|cause| unreadable("tls_ca", file).because(cause))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(config(
            "no authority is trusted: none was found in this system",
            "set `tls_ca=FILE`, or install the package ca-certificates",
        ));
    }
    Ok(roots)
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |cause| unreadable(setting, file).because(cause);
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(failed)?;
    if all.is_empty() {
        return Err(unreadable(setting, file));
    }
    Ok(all)
}

fn unreadable(setting: &str, file: &Path) -> interline_core::Error {
    config(
        format!("the file {file:?} of `{setting}` cannot be read as PEM"),
        "check its path, permissions and content",
    )
}
