//! An origin that wants to see a certificate.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use region_config::CertificateFiles;
use rustls::{RootCertStore, server::WebPkiClientVerifier};

use super::*;

#[tokio::test]
async fn an_origin_that_wants_a_certificate_is_shown_the_one_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let ca = write("ca.pem", authority.pem());
    let issuer = Issuer::new(params, key);
    let issue = |name: &str| {
        let own = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap(), own)
    };
    let (leaf, own) = issue("127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(own.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let origin = Scripted::start(move |_, wire| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(wire.stream).await else { return };
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await);
            drop(stream.write_all(OK.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    })
    .await;
    let (client, client_key) = issue("edge-1");
    let certificate = write("edge.pem", client.pem());
    let key = write("edge.key", client_key.serialize_pem());
    let house = |identity| {
        let mut config = at("o", origin.address);
        (config.tls, config.ca, config.identity) = (true, Some(ca.clone()), identity);
        House::new(vec![config])
    };
    let named = CertificateFiles { certificate: certificate.clone(), key };
    assert_eq!(house(Some(named)).whole().await.unwrap().1, "ok");
    assert!(house(None).whole().await.is_err(), "nobody else is let in");
    let unfit = house(Some(CertificateFiles { certificate, key: write("other.key", String::new()) }));
    let error = unfit.whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Tls(_)) && error.to_string().contains("other.key"), "{error}");
}
