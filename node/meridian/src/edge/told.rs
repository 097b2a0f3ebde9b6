//! Decisions in words, for trails and explanations.

use rules::{
    caching::{Decision, Intent, Reason},
    purge::Standing,
};
use wire::entry;

use super::shelf::Shelf;
use crate::{
    fill::{Job, Way, flight},
    observe::Told,
};

/// What a request asks of the cache.
pub(super) fn intent(intent: Intent) -> Told {
    match intent {
        Intent::Lookup => Told::plain("lookup", "The request may be answered from the cache."),
        Intent::Pass(reason) => Told::because("pass", reason),
        Intent::Refuse(reason) => Told::because("refused", reason),
    }
}

/// What is stored.
pub(super) fn shelf(shelf: &Shelf) -> Told {
    match shelf {
        Shelf::Found(found) => {
            let object = &found.object;
            let (status, bytes) = (object.status.as_u16(), object.body.length());
            let parts = match object.body {
                entry::Body::Inline(_) => "in one piece".to_owned(),
                entry::Body::Chunked { chunk_bytes, .. } => format!("in pieces of {chunk_bytes} bytes"),
            };
            let told = Told::plain("object", format!("status {status}, {bytes} bytes {parts}"));
            // found for another query
            Told { reason: found.presented.is_some().then_some(Reason::NoVarySearch), ..told }
        }
        Shelf::OtherVariants(_) => Told::because("other variants", Reason::VaryMiss),
        Shelf::Private(reason) => Told::because("hit-for-miss", *reason),
        Shelf::Nothing => Told::because("nothing", Reason::UriMiss),
    }
}

/// Whether what is stored was purged.
pub(super) fn standing(standing: Standing) -> Told {
    match standing {
        Standing::Valid => Told::plain("valid", "Nothing that it falls under was purged since its fetch began."),
        Standing::Soft => Told::because("stale", Reason::SoftPurged),
        Standing::Stale => Told::because("void", Reason::Purged),
    }
}

/// What is done with what is stored.
pub(super) fn decision(decision: Decision) -> Told {
    match decision {
        Decision::Serve { age_s, ttl_s } => Told::plain("serve", format!("{age_s} s old, fresh for another {ttl_s} s")),
        Decision::ServeAndRefresh { age_s, reason, .. } => {
            let told = Told::because("serve-and-refresh", reason);
            Told { detail: format!("{age_s} s old: {}", reason.meaning()), ..told }
        }
        Decision::Revalidate { reason } => Told::because("revalidate", reason),
        Decision::Refetch { reason } => Told::because("refetch", reason),
    }
}

/// How a request takes part in a fetch.
pub(super) fn boarding(shared: bool, job: &Job, reason: Reason) -> Told {
    let way = match job.way {
        Way::Owner => "from the owner of the key, else the origin",
        Way::AfterArrival => "from the owner of the key, if it asks the origin now, else from the origin",
        Way::Origin => "straight from the origin",
    };
    let part = job.part.map_or_else(|| "the whole".to_owned(), |(first, last)| format!("bytes {first} to {last}"));
    let verdict = if shared { "shares a fetch" } else { "fetches" };
    Told { detail: format!("{part}, {way}"), ..Told::because(verdict, reason) }
}

/// What a fetch came to.
pub(super) fn flight(outcome: &flight::Outcome) -> Told {
    match outcome {
        flight::Outcome::Waiting => Told::plain("nothing", "The fetch ended without a word."),
        flight::Outcome::Opened(head) => {
            let status = head.status.as_u16();
            let through = head.through.as_ref().map_or_else(String::new, |node| format!(" through {node}"));
            let kept = match (head.stored, head.shaped) {
                (Ok(()), shaped) => Told { reason: shaped, ..Told::plain("to be stored", "") },
                (Err(reason), _) => Told::because("not stored", reason),
            };
            let lifetime = head.freshness.lifetime_s;
            Told { detail: format!("status {status}{through}, lifetime {lifetime} s. {}", kept.detail), ..kept }
        }
        flight::Outcome::Renewed { object, .. } => {
            Told::plain("renewed", format!("304: good for another {} s", object.freshness.lifetime_s))
        }
        flight::Outcome::Sliced { object, stored, .. } => {
            let told = stored.err().map_or_else(
                || Told::plain("a part to be stored", ""),
                |reason| Told::because("a part, not stored", reason),
            );
            Told { detail: format!("of {} bytes. {}", object.body.length(), told.detail), ..told }
        }
        flight::Outcome::Private => {
            Told::plain("not shared", "The response is for the client alone that it was fetched for.")
        }
        flight::Outcome::Failed(failure) => {
            let told = Told::because("failed", failure.reason);
            Told { detail: format!("status {}: {}", failure.status.as_u16(), failure.reason.meaning()), ..told }
        }
    }
}
