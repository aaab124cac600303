//! Secrets at rest: AES-256-GCM under a key that lies in a file outside the data directory, so that a
//! copy of the data directory alone gives nothing away.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use thalweg_core::secret::Secret;
use zeroize::Zeroize as _;

use crate::error::{Error, Result};

/// Seals and opens. What a secret belongs to is authenticated with it, so that a sealed text moved to
/// another record does not open.
#[derive(Debug)]
pub(crate) struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    /// Reads the key file. `make`: a missing one is made (mode 0600); otherwise it is an error,
    /// because what was sealed could never be opened again.
    pub(crate) fn open(file: &Path, make: bool) -> Result<Self> {
        let place = file.display();
        let mut text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => create(file)?,
            Err(error) => {
                return Err(Error::Internal(format!(
                    "cannot read the key file {place}: {error}; the secrets in the data directory \
                     can only be opened with the key file they were made with (--key-file)"
                )));
            }
        };
        let mut bytes = unhex(text.trim()).unwrap_or_default();
        text.zeroize();
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| {
            Error::Internal(format!(
                "the key file {place} does not hold 64 hexadecimal digits"
            ))
        });
        bytes.zeroize();
        Ok(Seal {
            key: LessSafeKey::new(key?),
            random: SystemRandom::new(),
        })
    }

    /// Seals `secret` for the record `owner`.
    pub(crate) fn seal(&self, owner: &str, secret: &Secret) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| Error::Internal("the system gives no random bytes".to_owned()))?;
        let mut bytes = secret.expose().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(owner.as_bytes()),
                &mut bytes,
            )
            .map_err(|_| Error::Internal("a secret could not be sealed".to_owned()))?;
        Ok(format!("v1:{}{}", hex(&nonce), hex(&bytes)))
    }

    /// Opens what was sealed for the record `owner`.
    pub(crate) fn unseal(&self, owner: &str, sealed: &str) -> Result<Secret> {
        self.try_unseal(owner, sealed).ok_or_else(|| {
            Error::Internal(
                "a stored secret does not open: the key file is not the one it was made with"
                    .to_owned(),
            )
        })
    }

    fn try_unseal(&self, owner: &str, sealed: &str) -> Option<Secret> {
        let bytes = unhex(sealed.strip_prefix("v1:")?)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut body)
            .ok()?;
        Some(Secret::new(String::from_utf8(plain.to_vec()).ok()?))
    }
}

/// Makes a key file that only its owner may read.
fn create(file: &Path) -> Result<String> {
    let mut key = [0; 32];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| Error::Internal("the system gives no random bytes".to_owned()))?;
    let text = hex(&key);
    key.zeroize();
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut made = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)?;
        made.write_all(text.as_bytes())?;
        made.sync_all()
    };
    write().map_err(|error| {
        Error::Internal(format!(
            "cannot make the key file {}: {error}",
            file.display()
        ))
    })?;
    Ok(text)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_key_and_for_its_owner() {
        let folder =
            std::env::temp_dir().join(format!("thalweg-seal-{}", crate::catalog::new_id()));
        fs::create_dir_all(&folder).unwrap();
        let one = Seal::open(&folder.join("one"), true).unwrap();
        let sealed = one.seal("datasource/1", &Secret::new("pässword")).unwrap();
        assert!(!sealed.contains("ssword"));
        assert_eq!(
            one.unseal("datasource/1", &sealed).unwrap().expose(),
            "pässword"
        );
        assert!(one.unseal("datasource/2", &sealed).is_err());
        let again = Seal::open(&folder.join("one"), false).unwrap();
        assert_eq!(
            again.unseal("datasource/1", &sealed).unwrap().expose(),
            "pässword"
        );
        let two = Seal::open(&folder.join("two"), true).unwrap();
        assert!(two.unseal("datasource/1", &sealed).is_err());
        assert!(Seal::open(&folder.join("three"), false).is_err());
        for broken in ["", "v1:", "v1:00", "v2:00", &sealed[..sealed.len() - 1]] {
            assert!(one.unseal("datasource/1", broken).is_err(), "{broken}");
        }
        fs::write(folder.join("bad"), "12").unwrap();
        assert!(Seal::open(&folder.join("bad"), false).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
