//! The key that signatures are checked with, and the algorithms that go with it.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use crate::config::KeySource;

/// Why tokens cannot be checked with the configured key. Never shows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthSetupError {
    /// Someone is about to give away their private key.
    #[error(
        "holds a private key; the server needs only the public one \
             (openssl pkey -in private.pem -pubout)"
    )]
    PrivateKey,
    /// A certificate holds a public key, but is not one.
    #[error("holds a certificate; give its public key (openssl x509 -in cert.pem -pubkey -noout)")]
    Certificate,
    /// Not a public key that can be used.
    #[error("is not a public key of a supported kind (RSA, EC P-256, EC P-384, Ed25519)")]
    Unsupported,
    /// The signature library accepts RSA keys from 2048 bits on.
    #[error("is an RSA key of fewer than 2048 bits")]
    ShortRsaKey,
}

/// Whether tokens can be checked with this PEM text.
///
/// # Errors
/// Why not.
pub fn check_public_key(pem: &[u8]) -> Result<(), AuthSetupError> {
    public_key(pem).map(drop)
}

/// The key, and the only algorithms that tokens may then be signed with. A public key is never
/// an HMAC secret, and a secret never a public key.
pub(super) fn decoding_key(
    source: &KeySource,
) -> Result<(DecodingKey, Vec<Algorithm>), AuthSetupError> {
    match source {
        KeySource::HmacSecret(secret) => Ok((
            DecodingKey::from_secret(secret.as_bytes()),
            AlgorithmFamily::Hmac.algorithms().to_vec(),
        )),
        KeySource::PublicKeyPem(pem) => public_key(pem),
    }
}

fn public_key(pem: &[u8]) -> Result<(DecodingKey, Vec<Algorithm>), AuthSetupError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE KEY-----") {
        return Err(AuthSetupError::PrivateKey);
    }
    if text.contains("CERTIFICATE-----") {
        return Err(AuthSetupError::Certificate);
    }
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|_| AuthSetupError::Unsupported)?;
    let algorithms = algorithms_of(&key)?;
    Ok((key, algorithms))
}

fn algorithms_of(key: &DecodingKey) -> Result<Vec<Algorithm>, AuthSetupError> {
    let bytes = key
        .try_get_as_bytes()
        .map_err(|_| AuthSetupError::Unsupported)?;
    match (key.family(), bytes.len()) {
        // The modulus alone is 256 bytes at 2048 bits.
        (AlgorithmFamily::Rsa, 0..=256) => Err(AuthSetupError::ShortRsaKey),
        (AlgorithmFamily::Rsa, _) => Ok(AlgorithmFamily::Rsa.algorithms().to_vec()),
        // An uncompressed point: 0x04 and two coordinates.
        (AlgorithmFamily::Ec, 65) => Ok(vec![Algorithm::ES256]),
        (AlgorithmFamily::Ec, 97) => Ok(vec![Algorithm::ES384]),
        (AlgorithmFamily::Ed, 32) => Ok(vec![Algorithm::EdDSA]),
        _ => Err(AuthSetupError::Unsupported),
    }
}
