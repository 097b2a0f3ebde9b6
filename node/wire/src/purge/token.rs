//! What an application shows to read its own purge: a hint where the purge is to be found. Clients carry it, so nothing
//! in it is believed; the worst that a false one brings about is one question to the origin.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use region_config::RealmId;
use rules::purge::WITNESSES_MAX;

use crate::message::{MessageFault, Reader, put_text};

/// The version of tokens.
const VERSION: u8 = 1;
/// Places in one token, at most: whoever has read one of them has heard.
pub const TOKEN_PLACES_MAX: usize = 3;
/// Characters of a token, at most.
pub const TOKEN_CHARS_MAX: usize = 256;

/// What names a purge to a node that may not have heard of it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The realm.
    pub realm: RealmId,
    /// The purge: hash of its site and idempotency key.
    pub request: u128,
    /// Where it is known to be on disk: at most [`TOKEN_PLACES_MAX`].
    pub places: Vec<Place>,
}

/// A record in a witness's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The witness's place in the realm's list.
    pub witness: u8,
    /// The log's epoch.
    pub epoch: u64,
    /// The record.
    pub seq: u64,
}

/// Writes a token: visible ASCII without what fields, cookies and URLs give a meaning to.
#[must_use]
pub fn encode_token(token: &Token) -> String {
    let mut out = vec![VERSION];
    put_text(&mut out, token.realm.as_str());
    out.extend_from_slice(&token.request.to_be_bytes());
    for place in token.places.iter().take(TOKEN_PLACES_MAX) {
        out.push(place.witness);
        out.extend_from_slice(&place.epoch.to_be_bytes());
        out.extend_from_slice(&place.seq.to_be_bytes());
    }
    URL_SAFE_NO_PAD.encode(out)
}

/// Reads a token.
///
/// # Errors
/// [`MessageFault`] if it is none, or breaks a limit.
pub fn decode_token(text: &[u8]) -> Result<Token, MessageFault> {
    if text.len() > TOKEN_CHARS_MAX {
        return Err(MessageFault::Limit { what: "characters", found: text.len(), max: TOKEN_CHARS_MAX });
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MessageFault::Text("token"))?;
    let mut reader = Reader::new(&bytes);
    match reader.u8("version")? {
        VERSION => {}
        other => return Err(MessageFault::Version(other)),
    }
    let realm = RealmId::parse(reader.text("realm")?).map_err(|_| MessageFault::Text("realm"))?;
    let request = reader.u128("request")?;
    let mut places = Vec::new();
    while !reader.is_empty() {
        if places.len() == TOKEN_PLACES_MAX {
            return Err(MessageFault::Limit { what: "places", found: places.len() + 1, max: TOKEN_PLACES_MAX });
        }
        let witness = reader.u8("witness")?;
        if usize::from(witness) >= WITNESSES_MAX {
            return Err(MessageFault::Unknown { what: "witness", found: witness.into() });
        }
        places.push(Place { witness, epoch: reader.u64("epoch")?, seq: reader.u64("place")? });
    }
    Ok(Token { realm, request, places })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn token() -> impl Strategy<Value = Token> {
        let place = (0..7_u8, any::<u64>(), any::<u64>());
        let place = place.prop_map(|(witness, epoch, seq)| Place { witness, epoch, seq });
        ("[a-z]{2,20}", any::<u128>(), vec(place, 0..=TOKEN_PLACES_MAX)).prop_map(|(realm, request, places)| Token {
            realm: RealmId::parse(&realm).unwrap(),
            request,
            places,
        })
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(token in token()) {
            let text = encode_token(&token);
            prop_assert!(text.len() <= TOKEN_CHARS_MAX);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{}", text);
            prop_assert_eq!(decode_token(text.as_bytes()), Ok(token));
        }

        #[test]
        fn anything_else_is_refused_and_nothing_panics(text in vec(any::<u8>(), 0..400), token in token(), cut in 0..200_usize) {
            let _ = decode_token(&text);
            let whole = encode_token(&token);
            let cut = cut % whole.len();
            if let Ok(other) = decode_token(&whole.as_bytes()[..cut]) {
                prop_assert!(other.places.len() < token.places.len(), "only whole places may be missing");
            }
        }
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        let token = |bytes: &[u8]| decode_token(URL_SAFE_NO_PAD.encode(bytes).as_bytes());
        let head = [&[1, 0, 2][..], b"eu", &[7; 16]].concat();
        assert!(token(&head).is_ok());
        assert_eq!(token(&[&[2], &head[1..]].concat()), Err(MessageFault::Version(2)));
        assert!(token(&[&head[..], &[7; 17]].concat()).is_err(), "no such witness");
        assert!(token(&[&head[..], &[0; 17 * 4]].concat()).is_err(), "too many places");
        assert!(token(&head[..20]).is_err() && decode_token(b"").is_err() && decode_token(&[b'A'; 257]).is_err());
    }
}
