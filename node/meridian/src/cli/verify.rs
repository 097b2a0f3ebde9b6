//! `meridian verify`: what a signed receipt proves, found out offline.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    exit::Exit,
    output::{Output, shortened},
    purge::{about, scope as shown},
    table::printable,
};
use crate::{
    admin::{
        model::{PurgeMode, PurgeNode, PurgeNodeState, SignedPurge},
        purges::proof,
    },
    clock,
    peers::{self, SealedBy},
};

/// Longest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Most things that are named of what was purged.
const SCOPE_SHOWN: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Order {
    /// The signed receipt; `-` reads standard input.
    #[arg(value_name = "FILE")]
    receipt: PathBuf,
    /// The cluster's CA certificate, PEM: from whom you trust, not from whom the receipt is.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
}

/// Checks a receipt and says what it proves.
pub(super) fn verify(order: &Order, output: Output) -> Exit {
    let document = match read(order) {
        Ok(document) => document,
        Err(error) => {
            let message = format!("reading `{}`: {error}", order.receipt.display());
            return output.complain(Exit::Failure, &message, &Value::Null);
        }
    };
    let now = clock::unix_ms();
    match proof::verify(&document, &order.ca, now) {
        Ok((signed, by)) => {
            output.answer(|| value(&signed, &by), || text(&signed, &by, now));
            Exit::Done
        }
        Err(fault) if proof::is_about_ca(&fault).is_some() => output.failed(Exit::Failure, &fault),
        Err(fault) => {
            let message = format!("the receipt DOES NOT HOLD: {}", printable(&fault.to_string()));
            output.complain(Exit::Forged, &message, &Value::Null)
        }
    }
}

fn read(order: &Order) -> io::Result<String> {
    let mut text = String::new();
    let source: Box<dyn io::Read> =
        if order.receipt.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(&order.receipt)?) };
    let read = source.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > DOCUMENT_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {DOCUMENT_BYTES_MAX} bytes, which no receipt is")));
    }
    Ok(text)
}

fn value(signed: &SignedPurge, by: &SealedBy) -> Value {
    json!({
        "holds": true,
        "cluster": by.cluster,
        "signer": { "node": by.peer.node, "region": by.peer.region, "jurisdiction": by.peer.jurisdiction },
        "signed_unix_ms": signed.signed_unix_ms,
        "purge": signed.purge,
    })
}

/// What it proves, and what not, in words.
fn text(signed: &SignedPurge, by: &SealedBy, now_unix_ms: u64) -> String {
    let purge = &signed.purge;
    let peer = &by.peer;
    let scope: Vec<String> = purge.scope.iter().map(shown).collect();
    let mode = match purge.mode {
        PurgeMode::Hard => "hard",
        PurgeMode::Soft => "soft",
    };
    let names =
        |state: PurgeNodeState| -> Vec<&PurgeNode> { purge.nodes.iter().filter(|node| node.state == state).collect() };
    let applied: Vec<String> = names(PurgeNodeState::Applied).into_iter().map(applied).collect();
    let bare = |state| -> Vec<String> {
        names(state).into_iter().map(|node| format!("{} ({})", node.node, node.region)).collect()
    };
    let stored: Vec<String> = purge.stored.iter().map(|stored| stored.node.clone()).collect();
    let mut lines = vec![
        "The receipt HOLDS: it was signed as it stands.".to_owned(),
        String::new(),
        format!(
            "On {}, node {} of cluster {} (region {}, certified for {}) stated of purge {}:",
            clock::http_date_of(signed.signed_unix_ms),
            peer.node,
            by.cluster,
            peer.region,
            peer.jurisdiction,
            printable(&purge.id)
        ),
        format!(
            "  what         {} of {}, {mode}",
            printable(&shortened(&scope, SCOPE_SHOWN)),
            printable(&about(purge))
        ),
        format!("  taken        {}, by {}", clock::http_date_of(purge.taken_unix_ms), printable(&purge.taken_by)),
        format!("  on disk at   {}", listed(&stored)),
        format!("  in effect at {}", listed(&applied)),
        format!("  fenced       {}", listed(&bare(PurgeNodeState::Fenced))),
        format!("  not known of {}", listed(&bare(PurgeNodeState::Pending))),
        String::new(),
        format!(
            "It proves that this node of the realm `{}` said so and that nothing of it was changed. What it says of other nodes\n\
             is what they told it, each by its own certificate. Where it is in effect, nothing that\n\
             was stored before is served; a fenced node serves nothing that falls under it before it has heard of it.",
            printable(&purge.realm)
        ),
    ];
    if peers::ended(by.not_after_unix_s, now_unix_ms).is_some() {
        lines.push(
            "The signer's certificate was good when it signed, by its own clock, and has ended since: whoever has its key now \
             could\nhave made this with an older date."
                .to_owned(),
        );
    }
    lines.join("\n")
}

fn applied(node: &PurgeNode) -> String {
    let after = node.after_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let position = node.position.as_ref().map(|position| format!(" at position {position}")).unwrap_or_default();
    format!("{} ({}{after}{position})", node.node, node.region).replace("()", "")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { printable(&names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::PurgeScope;

    #[test]
    fn a_long_list_is_shortened() {
        let scope = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(shortened(&scope(2), SCOPE_SHOWN), "0, 1");
        assert_eq!(shortened(&scope(7), SCOPE_SHOWN), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(shown(&PurgeScope::Everything), "everything");
    }
}
