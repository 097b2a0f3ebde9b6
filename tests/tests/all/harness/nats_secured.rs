//! A NATS server as one is run across a network: TLS that wants a certificate of its clients, and an operator whose accounts
//! and users are told apart by JWTs (`.creds`).

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::certificates::{SiteCa, Validity};

/// Files of clients, as a config names them, relative to the folder that they were written to.
pub(crate) const CREDENTIALS: &str = "nats.creds";
pub(crate) const SYSTEM_CREDENTIALS: &str = "nats-system.creds";
/// Those of somebody whom no account of the servers has signed.
pub(crate) const FOREIGN_CREDENTIALS: &str = "nats-foreign.creds";
pub(crate) const CA: &str = "nats-ca.pem";
pub(crate) const FOREIGN_CA: &str = "nats-foreign-ca.pem";
/// What certificate and key of a client are called, without their endings `.crt` and `.key`.
pub(crate) const CLIENT: &str = "nats-client";

/// Writes what clients need into `clients`, and the server's own files into `dir`. Returns the server's config of it.
pub(crate) fn secured(dir: &Path, clients: &Path) -> String {
    let ca = SiteCa::new();
    ca.site(dir, "server", "127.0.0.1", Validity::Now);
    ca.site(clients, CLIENT, "node.example", Validity::Now);
    fs::write(dir.join("ca.pem"), &ca.pem).unwrap();
    fs::write(clients.join(CA), &ca.pem).unwrap();
    fs::write(clients.join(FOREIGN_CA), SiteCa::new().pem).unwrap();
    let [operator, account, system] = [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account()];
    let kept = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let accounts = [(&account, kept), (&system, json!({}))].map(|(account, more)| {
        let nothing = json!({ "pub": {}, "sub": {} });
        let claims = json!({ "limits": limits(more), "default_permissions": nothing });
        format!("{}: {}", account.public_key(), signed(&operator, account, "account", claims))
    });
    let own = signed(&operator, &operator, "operator", json!({ "system_account": system.public_key() }));
    for (name, account) in
        [(CREDENTIALS, &account), (SYSTEM_CREDENTIALS, &system), (FOREIGN_CREDENTIALS, &KeyPair::new_account())]
    {
        fs::write(clients.join(name), credentials(account)).unwrap();
    }
    let path = |name: &str| dir.join(name).display().to_string();
    format!(
        "operator: \"{own}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n  {}\n}}\n\
         tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
        system.public_key(),
        accounts.join("\n  "),
        path("server.crt"),
        path("server.key"),
        path("ca.pem"),
    )
}

/// Everything may be had without limit, and `more`.
fn limits(more: Value) -> Value {
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
    });
    if let (Some(limits), Value::Object(more)) = (limits.as_object_mut(), more) {
        limits.extend(more);
    }
    limits
}

/// A user's file, as `nsc` writes it.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let claims = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let jwt = signed(account, &user, "user", claims);
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// What `issuer` says of `subject`, as a JWT of NATS.
fn signed(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = kind.into();
    claims["version"] = 2.into();
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let body = json!({ "jti": sub, "iat": 1_700_000_000, "iss": iss, "name": kind, "sub": sub, "nats": claims });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let [head, body] = [head, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = format!("{head}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}
