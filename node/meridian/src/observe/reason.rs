//! The reasons as indices of counters.

use rules::caching::Reason;

/// Length of an array that has a place for each reason's code.
pub(super) const REASONS: usize = {
    let (mut index, mut largest) = (0, 0);
    while index < Reason::ALL.len() {
        let code = Reason::ALL[index].code() as usize;
        largest = if code > largest { code } else { largest };
        index += 1;
    }
    largest + 1
};

/// A reason's place: its code.
pub(super) fn place(reason: Reason) -> usize {
    usize::from(reason.code())
}
