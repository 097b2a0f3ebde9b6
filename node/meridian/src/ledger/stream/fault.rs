//! What goes wrong between a node and the stream of a realm.

/// Why the stream cannot be used now. It is tried again; the operator is told when it changes.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamFault {
    /// The file that says who we are cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// No server of the list answers, or lets us in.
    #[error("connecting to {servers}: {why}")]
    Connect {
        /// The list.
        servers: String,
        /// What the client says.
        why: String,
    },
    /// A server said no, or nothing.
    #[error("{doing}: {why}")]
    Asked {
        /// What was asked for.
        doing: &'static str,
        /// The answer.
        why: String,
    },
    /// The servers or the stream are not what an acknowledgement needs.
    #[error("the stream cannot keep purges: {0}")]
    Terms(String),
    /// What comes from the stream has a hole, or has ended.
    #[error("the stream is read anew: {0}")]
    Reading(String),
    /// The stream has lost what was read from it.
    #[error(
        "the stream was set back: what it had acknowledged is gone; it has a new life now, and all nodes drop what they have stored"
    )]
    SetBack,
    /// The stream was deleted and made anew.
    #[error("the stream is another one than it was")]
    Replaced,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Chance,
}

impl StreamFault {
    /// A fault of a question, with what was said.
    pub(super) fn asked(doing: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |why| Self::Asked { doing, why: why.to_string() }
    }
}
