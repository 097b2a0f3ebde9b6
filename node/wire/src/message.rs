//! Reading and writing the fields of messages: big endian, every length checked before it is believed.

/// A message between nodes, at most, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// It ends too early.
    #[error("the message ends inside its {0}")]
    Short(&'static str),
    /// It goes on after its end.
    #[error("{0} bytes follow after the end of the message")]
    Trailing(usize),
    /// It is of a version that this node does not speak.
    #[error("the message has version {0}, which this node does not speak")]
    Version(u8),
    /// A number that means nothing.
    #[error("{found} is no {what}")]
    Unknown {
        /// What was expected.
        what: &'static str,
        /// What was found.
        found: u64,
    },
    /// More than is allowed.
    #[error("the message has {found} {what}, at most {max} are allowed")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Bytes that are no text, or text that is no name.
    #[error("the {0} is no valid text")]
    Text(&'static str),
    /// An event that breaks its limits.
    #[error("the event: {0}")]
    Event(#[from] rules::purge::EventFault),
}

/// Takes fields off the front of a message.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], MessageFault> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(MessageFault::Short(what))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], MessageFault> {
        let (head, rest) = self.0.split_first_chunk().ok_or(MessageFault::Short(what))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, MessageFault> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, MessageFault> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, MessageFault> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self, what: &'static str) -> Result<u128, MessageFault> {
        self.array(what).map(u128::from_be_bytes)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, MessageFault> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(MessageFault::Unknown { what, found: other.into() }),
        }
    }

    /// A count of things of which at most `max` are allowed.
    pub(crate) fn count(&mut self, what: &'static str, max: usize) -> Result<usize, MessageFault> {
        let found = usize::from(self.u16(what)?);
        if found > max { Err(MessageFault::Limit { what, found, max }) } else { Ok(found) }
    }

    /// Text with a length of two bytes.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, MessageFault> {
        let len = usize::from(self.u16(what)?);
        std::str::from_utf8(self.take(len, what)?).map_err(|_| MessageFault::Text(what))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), MessageFault> {
        if self.0.is_empty() { Ok(()) } else { Err(MessageFault::Trailing(self.0.len())) }
    }
}

/// Appends text with a length of two bytes; what is longer than that is cut, which no checked value is.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
}

/// Appends a count of two bytes.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}
