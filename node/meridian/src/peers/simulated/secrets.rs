//! What TLS and QUIC draw at random, drawn from the world of a simulated node, so that every packet of a run is the same to
//! the byte: what a packet of other keys is taken for hangs on its bytes.
//!
//! None of it keeps a secret from anybody who sees the packets. Sizes are those of the real thing, so that a handshake
//! takes as many packets.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, TimeSource,
    crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey},
};
use rustls::{
    NamedGroup,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
        SupportedKxGroup,
    },
};

use crate::{chance, clock};

/// Bytes of a connection ID that a node gives itself, and of one that it makes up for a stranger (RFC 9000 section 7.2), as
/// quinn has them.
const OWN_ID: usize = 8;
const FIRST_ID: usize = 20;
/// Bytes of the tag of a token.
const TAG: usize = 16;

/// The provider of a simulated node: the real ciphers and signatures, but drawn keys.
pub(in crate::peers) fn provider(real: CryptoProvider) -> CryptoProvider {
    CryptoProvider { secure_random: &Drawn, kx_groups: vec![&HYBRID, &PLAIN], ..real }
}

/// What an endpoint draws at its start and for each connection.
pub(super) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(Hashed(drawn())));
    config.rng_seed(Some(drawn())).cid_generator(|| Box::new(Drawn));
    config
}

/// What the listening side draws for its tokens, and the time it writes into them.
pub(in crate::peers) fn listening(config: &mut quinn::ServerConfig) {
    config.token_key(Arc::new(Hashed(drawn()))).time_source(Arc::new(WorldTime));
}

/// What the dialling side draws for each connection.
pub(in crate::peers) fn dialling(config: &mut quinn::ClientConfig) {
    config.initial_dst_cid_provider(Arc::new(|| ConnectionId::new(&drawn::<FIRST_ID>())));
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // a world always has some
    let _always = chance::fill(&mut bytes);
    bytes
}

/// Draws.
#[derive(Debug)]
struct Drawn;

impl SecureRandom for Drawn {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        chance::fill(bytes).then_some(()).ok_or(GetRandomFailed)
    }
}

impl ConnectionIdGenerator for Drawn {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&drawn::<OWN_ID>())
    }

    fn cid_len(&self) -> usize {
        OWN_ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The time of the world.
struct WorldTime;

impl TimeSource for WorldTime {
    fn now(&self) -> SystemTime {
        clock::system_time()
    }
}

/// A key exchange in which both sides say bytes and the secret is the hash of what was said.
#[derive(Debug)]
struct Said {
    name: NamedGroup,
    /// Bytes that who begins says, and who answers.
    begins: usize,
    answers: usize,
}

/// In the place of X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem section 4.1), with its sizes.
const HYBRID: Said = Said { name: NamedGroup::X25519MLKEM768, begins: 1216, answers: 1120 };
/// In the place of X25519.
const PLAIN: Said = Said { name: NamedGroup::X25519, begins: PLAIN_BYTES, answers: PLAIN_BYTES };
const PLAIN_BYTES: usize = 32;

fn secret(begun: &[u8], answered: &[u8]) -> SharedSecret {
    let mut hasher = blake3::Hasher::new();
    hasher.update(begun).update(answered);
    SharedSecret::from(&hasher.finalize().as_bytes()[..])
}

impl Said {
    fn say(bytes: usize) -> Result<Vec<u8>, rustls::Error> {
        let mut said = vec![0; bytes];
        Drawn.fill(&mut said)?;
        Ok(said)
    }
}

impl SupportedKxGroup for Said {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        Ok(Box::new(Begun { name: self.name, said: Self::say(self.begins)? }))
    }

    fn start_and_complete(&self, begun: &[u8]) -> Result<CompletedKeyExchange, rustls::Error> {
        let pub_key = Self::say(self.answers)?;
        let secret = secret(begun, &pub_key);
        Ok(CompletedKeyExchange { group: self.name, pub_key, secret })
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

/// What was said first.
struct Begun {
    name: NamedGroup,
    said: Vec<u8>,
}

impl ActiveKeyExchange for Begun {
    fn complete(self: Box<Self>, answered: &[u8]) -> Result<SharedSecret, rustls::Error> {
        Ok(secret(&self.said, answered))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        (self.name == HYBRID.name).then(|| (PLAIN.name, &self.said[..PLAIN_BYTES]))
    }

    fn complete_hybrid_component(self: Box<Self>, answered: &[u8]) -> Result<SharedSecret, rustls::Error> {
        Ok(secret(&self.said[..PLAIN_BYTES], answered))
    }

    fn pub_key(&self) -> &[u8] {
        &self.said
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

/// A key for hashes: of what a node says to packets of connections it does not know, and of tokens, which it can be sure to
/// have made but which everybody can read.
struct Hashed([u8; 32]);

impl HmacKey for Hashed {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let is_ours = blake3::keyed_hash(&self.0, data).as_bytes() == signature;
        is_ours.then_some(()).ok_or(CryptoError)
    }
}

impl HandshakeTokenKey for Hashed {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self(*blake3::keyed_hash(&self.0, random_bytes).as_bytes()))
    }
}

impl Hashed {
    fn tag(&self, data: &[u8], beside: &[u8]) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(data).update(beside);
        let mut tag = [0; TAG];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

impl AeadKey for Hashed {
    fn seal(&self, data: &mut Vec<u8>, beside: &[u8]) -> Result<(), CryptoError> {
        let tag = self.tag(data, beside);
        data.extend(tag);
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], beside: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let (data, tag) = data.split_last_chunk_mut::<TAG>().ok_or(CryptoError)?;
        if self.tag(data, beside) == *tag { Ok(data) } else { Err(CryptoError) }
    }
}
