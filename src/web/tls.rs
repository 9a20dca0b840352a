//! Certificates: loaded from files, taken anew when the files change, or made for development.
//!
//! A new pair that cannot be used leaves the old one in place and says so in the log: a mistake in a renewal must not take
//! the service down.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Names in a development certificate.
const DEVELOPMENT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate in use. Cheap to clone; all clones see a reload.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    files: Arc<Files>,
}

#[derive(Debug, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not PEM.
    #[error("cannot read {what} from {}: {detail}", path.display())]
    Unreadable {
        /// "a certificate chain" or "a private key".
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not; never the content.
        detail: String,
    },
    /// The two do not fit together.
    #[error("the certificate {} and the key {} cannot be used together: {source}", cert.display(), key.display())]
    Unusable {
        /// Which certificate.
        cert: PathBuf,
        /// Which key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The development certificate could not be made or stored.
    #[error("cannot make a development certificate in {}: {detail}", path.display())]
    Development {
        /// Where.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
}

impl Tls {
    /// Loads a certificate chain and its key.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let config = Arc::new(ArcSwap::from_pointee(files.load()?));
        Ok(Self { config, files: Arc::new(files) })
    }

    /// Loads the development certificate of a data directory; makes it first if there is none.
    pub fn development(data_dir: &Path) -> Result<Self, TlsError> {
        let folder = data_dir.join("dev-tls");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        if !cert.exists() || !key.exists() {
            make_development_pair(&folder, &cert, &key)
                .map_err(|detail| TlsError::Development { path: folder, detail })?;
        }
        Self::load(&cert, &key)
    }

    /// Where the certificate is, for clients that should trust it.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.files.cert
    }

    /// Accepts with the certificate in use now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Takes the files anew whenever they change or SIGHUP arrives, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut seen = self.files.state();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let forced = tokio::select! {
                () = stop.cancelled() => return,
                _ = asked => true,
                () = tokio::time::sleep(WATCH) => false,
            };
            let now = self.files.state();
            if forced || now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        match self.files.load() {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(certificate = %self.files.cert.display(), "took a new certificate");
            }
            Err(error) => tracing::error!(%error, "the new certificate is not used; the one before stays"),
        }
    }
}

impl Files {
    fn load(&self) -> Result<ServerConfig, TlsError> {
        let unreadable =
            |what, path: &Path, detail: String| TlsError::Unreadable { what, path: path.to_owned(), detail };
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| unreadable("a certificate chain", &self.cert, e.to_string()))?;
        if chain.is_empty() {
            return Err(unreadable("a certificate chain", &self.cert, "it holds no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| unreadable("a private key", &self.key, e.to_string()))?;
        let unusable = |source| TlsError::Unusable { cert: self.cert.clone(), key: self.key.clone(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// What changes when a file is replaced or written to.
    fn state(&self) -> [Option<(u64, i64, i64, u64)>; 2] {
        [&self.cert, &self.key].map(|path| {
            // Follows links: a secret in Kubernetes is replaced by moving one.
            fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len()))
        })
    }
}

fn make_development_pair(folder: &Path, cert: &Path, key: &Path) -> Result<(), String> {
    let names = DEVELOPMENT_NAMES.map(str::to_owned).to_vec();
    let pair = rcgen::generate_simple_self_signed(names).map_err(|e| e.to_string())?;
    let write = |path: &Path, text: String| {
        let mut open = fs::OpenOptions::new();
        let file = open.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| e.to_string())
    };
    fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    write(key, pair.signing_key.serialize_pem())?;
    write(cert, pair.cert.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_certificate_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Tls::development(dir.path()).unwrap();
        let made = fs::read(first.certificate_file()).unwrap();
        Tls::development(dir.path()).unwrap();
        assert_eq!(fs::read(first.certificate_file()).unwrap(), made);
        let key = fs::metadata(dir.path().join("dev-tls/key.pem")).unwrap();
        assert_eq!(key.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_bad_new_pair_leaves_the_old_one_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::development(dir.path()).unwrap();
        let before = tls.config.load_full();
        fs::write(dir.path().join("dev-tls/key.pem"), "nonsense").unwrap();
        tls.reload();
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
        let other = tempfile::tempdir().unwrap();
        Tls::development(other.path()).unwrap();
        fs::copy(other.path().join("dev-tls/key.pem"), dir.path().join("dev-tls/key.pem")).unwrap();
        tls.reload();
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()), "a key of another certificate");
        fs::copy(other.path().join("dev-tls/cert.pem"), dir.path().join("dev-tls/cert.pem")).unwrap();
        tls.reload();
        assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
    }

    #[test]
    fn a_missing_or_empty_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        assert!(Tls::load(&cert, &key).unwrap_err().to_string().contains("c.pem"));
        fs::write(&cert, "").unwrap();
        assert!(Tls::load(&cert, &key).unwrap_err().to_string().contains("holds no certificate"));
    }
}
