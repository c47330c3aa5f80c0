//! A Redis behind TLS and a password, as managed ones are.

use std::{fs, process::Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Client, Server, free_port};

/// Writes a certificate authority's certificate and one for `localhost` that it signed, with its key.
fn write_certificates(dir: &TempDir) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    write("ca.pem", authority.pem());
    write("server.pem", server.pem());
    write("server.key", key.serialize_pem());
}

#[tokio::test]
async fn a_rediss_url_with_a_password_is_used() {
    // Given a Redis that accepts only TLS connections with a password
    let dir = TempDir::with_prefix("chat-tls-").unwrap();
    write_certificates(&dir);
    let port = free_port();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let _redis = Command::new("redis-server")
        .args(["--port", "0", "--tls-port", &port.to_string()])
        .args(["--tls-cert-file", &file("server.pem")])
        .args(["--tls-key-file", &file("server.key")])
        .args(["--tls-ca-cert-file", &file("ca.pem")])
        .args(["--tls-auth-clients", "no", "--requirepass", "geheim"])
        .args(["--save", "", "--dir", &dir.path().display().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    // When a server is given its address, its password and the authority to trust
    let server = Server::builder()
        .env("REDIS_URL", &format!("rediss://:geheim@localhost:{port}"))
        .env("SSL_CERT_FILE", &file("ca.pem"))
        .start()
        .await;

    // Then it works, and keeps the password secret
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(alice.say(&room, "hello").await["seq"], 1);
    assert!(!server.log.text().contains("geheim"));
}
