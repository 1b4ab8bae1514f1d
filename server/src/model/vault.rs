//! Secrets at rest: AES-256-GCM under the server's own key, bound to the place they are stored at.
//!
//! Form of sealed bytes: `\0pcs1`, 8 bytes naming the key, 12 bytes nonce, ciphertext with its 16 bytes tag; the place is
//! authenticated beside it. The nonce is the beginning of an HMAC over place and plain text, as in synthetic IV modes:
//! different texts have different nonces, and equal ones at one place give equal bytes, so that a store can tell whether
//! anything changed without being able to read it. Several keys may be known, for rotation; the first one seals.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hmac};
use std::fmt;
use std::str::FromStr;

/// What sealed bytes begin with; a plain text never begins with NUL.
const MAGIC: &[u8; 5] = b"\0pcs1";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes that name a key.
const ID_BYTES: usize = 8;

/// Names a key without telling it.
pub type KeyId = [u8; ID_BYTES];

/// A key of the vault; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; KEY_BYTES]);

impl SecretKey {
    /// These bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// As it is written into a key file: 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"pocketci key id");
        context.update(&self.0);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&context.finish().as_ref()[..ID_BYTES]);
        id
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl FromStr for SecretKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bytes = hex::decode(text)
            .ok()
            .or_else(|| STANDARD.decode(text).ok());
        bytes
            .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| {
                "a secret key is 32 random bytes as 64 hexadecimal digits or Base64, for example from: openssl rand -hex 32"
                    .to_owned()
            })
    }
}

/// Why sealed bytes do not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Sealed under a key that this server does not have.
    #[error("it was encrypted with key {0}, which this server does not have")]
    UnknownKey(String),
    /// Changed, cut, or moved from another place.
    #[error("its stored bytes are damaged or belong elsewhere")]
    Damaged,
}

struct Lock {
    id: KeyId,
    aead: LessSafeKey,
    nonces: hmac::Key,
}

/// The keys of a server.
pub struct Vault {
    locks: Vec<Lock>,
}

impl Vault {
    /// `primary` seals; `older` ones still open.
    pub fn new(primary: &SecretKey, older: &[SecretKey]) -> Self {
        let keys = std::iter::once(primary).chain(older);
        Self {
            locks: keys.filter_map(lock).collect(),
        }
    }

    /// The names of all known keys, the primary one first.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.locks.iter().map(|lock| lock.id).collect()
    }

    /// Encrypts for one place.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        let Some(lock) = self.locks.first() else {
            return Vec::new(); // not to be seen: there is a primary key
        };
        let nonce = lock.nonce(place, plain);
        let mut sealed = MAGIC.to_vec();
        sealed.extend_from_slice(&lock.id);
        sealed.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        let aad = Aad::from(place.as_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        // Fails only beyond 64 GiB.
        if lock
            .aead
            .seal_in_place_append_tag(nonce, aad, &mut text)
            .is_err()
        {
            return Vec::new();
        }
        sealed.extend_from_slice(&text);
        sealed
    }

    /// Decrypts what was sealed for this place. What was stored before there was a vault is given as it is.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let Some(rest) = sealed.strip_prefix(MAGIC) else {
            return Ok(sealed.to_vec());
        };
        if rest.len() < ID_BYTES + NONCE_LEN {
            return Err(VaultError::Damaged);
        }
        let (id, rest) = rest.split_at(ID_BYTES);
        let (nonce, text) = rest.split_at(NONCE_LEN);
        let lock = self.locks.iter().find(|lock| lock.id == id);
        let lock = lock.ok_or_else(|| VaultError::UnknownKey(hex::encode(id)))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Damaged)?;
        let mut text = text.to_vec();
        let opened = lock
            .aead
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut text)
            .map_err(|_| VaultError::Damaged)?
            .to_vec();
        Ok(opened)
    }

    /// Whether these bytes are not sealed under the primary key.
    pub fn is_old(&self, sealed: &[u8]) -> bool {
        let id = sealed
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.get(..ID_BYTES));
        id != self.locks.first().map(|lock| lock.id.as_slice())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

fn lock(key: &SecretKey) -> Option<Lock> {
    // Fails only for a key of another length.
    let aead = UnboundKey::new(&AES_256_GCM, &key.0).ok()?;
    let nonces = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key.0),
        b"pocketci nonces",
    );
    Some(Lock {
        id: key.id(),
        aead: LessSafeKey::new(aead),
        nonces: hmac::Key::new(hmac::HMAC_SHA256, nonces.as_ref()),
    })
}

impl Lock {
    fn nonce(&self, place: &str, plain: &[u8]) -> [u8; NONCE_LEN] {
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(&(place.len() as u64).to_be_bytes());
        context.update(place.as_bytes());
        context.update(plain);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&context.sign().as_ref()[..NONCE_LEN]);
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::new([byte; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let vault = Vault::new(&key(1), &[]);
        let sealed = vault.seal("a", b"hunter2");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(vault.open("a", &sealed).unwrap(), b"hunter2");
        assert_eq!(vault.open("b", &sealed), Err(VaultError::Damaged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_ne!(
                vault.open("a", &changed).ok().as_deref(),
                Some(&b"hunter2"[..]),
                "byte {at}"
            );
        }
        for length in MAGIC.len()..sealed.len() {
            assert!(
                vault.open("a", &sealed[..length]).is_err(),
                "cut to {length}"
            );
        }
    }

    #[test]
    fn equal_texts_at_one_place_are_equal_and_others_differ() {
        let vault = Vault::new(&key(1), &[]);
        assert_eq!(vault.seal("a", b"x"), vault.seal("a", b"x"));
        assert_ne!(vault.seal("a", b"x")[13..25], vault.seal("b", b"x")[13..25]);
        assert_ne!(vault.seal("a", b"x")[13..25], vault.seal("a", b"y")[13..25]);
    }

    #[test]
    fn an_older_key_opens_until_it_is_gone() {
        let old = Vault::new(&key(1), &[]);
        let sealed = old.seal("a", b"x");
        let both = Vault::new(&key(2), &[key(1)]);
        assert_eq!(both.open("a", &sealed).unwrap(), b"x");
        assert!(both.is_old(&sealed) && !both.is_old(&both.seal("a", b"x")));
        let new = Vault::new(&key(2), &[]);
        assert!(matches!(
            new.open("a", &sealed),
            Err(VaultError::UnknownKey(_))
        ));
    }

    #[test]
    fn keys_are_hex_or_base64_and_never_shown() {
        let hex: SecretKey = format!("{}\n", "07".repeat(32)).parse().unwrap();
        let base64: SecretKey = STANDARD.encode([7; 32]).parse().unwrap();
        assert!(hex == base64 && hex.to_hex() == "07".repeat(32));
        assert_eq!(format!("{hex:?}"), "SecretKey(…)");
        assert!("short".parse::<SecretKey>().is_err());
    }
}
