//! Certificates of an authority of their own, made by the `openssl` program.

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A server's certificate with what belongs to it, all PEM.
pub struct Made {
    /// The authority's certificate.
    pub ca: String,
    chain: String,
    key: String,
}

impl Made {
    /// For a server.
    pub fn server(&self) -> ServerConfig {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }
}

fn openssl(folder: &Path, args: &str) {
    let done = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the program openssl is needed for tests of TLS");
    assert!(
        done.status.success(),
        "{args}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// What `openssl ca` insists on.
const CONFIG: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\n\
    default_md = sha256\nserial = serial\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";

/// A certificate for this host, of today or of a month in 2020.
pub fn make(host: &str, is_expired: bool) -> Made {
    let folder = tempfile::TempDir::new().unwrap();
    let at = folder.path();
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        at,
        &format!("req -x509 {curve} -keyout ca.key -out ca.pem -days 30 -subj /CN=test-authority"),
    );
    openssl(
        at,
        &format!("req {curve} -keyout key.pem -out request.pem -subj /CN={host}"),
    );
    let extensions = format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n");
    for (name, text) in [
        ("ca.cnf", CONFIG),
        ("index.txt", ""),
        ("serial", "01"),
        ("extensions", &extensions),
    ] {
        std::fs::write(at.join(name), text).unwrap();
    }
    let end = if is_expired {
        "200201000000Z"
    } else {
        "480101000000Z"
    };
    openssl(
        at,
        &format!(
            "ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -notext -extfile extensions \
             -startdate 200101000000Z -enddate {end} -in request.pem -out cert.pem"
        ),
    );
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    Made {
        ca: read("ca.pem"),
        chain: read("cert.pem"),
        key: read("key.pem"),
    }
}
