//! HTTP dates (RFC 9110 section 5.6.7), all three forms.
//!
//! Of what is written wrong in the field, two things are harmless and taken: any letter case, and a weekday that is not
//! that date's. All else is refused, since an `Expires` that cannot be read must count as past.

use super::lists::trim;

/// Reads a date as seconds since 1970-01-01 (negative before it). `now_unix_s` decides the century of RFC 850's
/// two-digit years: one that would lie more than 50 years ahead is a past one.
#[must_use]
pub fn parse(value: &[u8], now_unix_s: i64) -> Option<i64> {
    let value = trim(value);
    let comma = value.iter().position(|byte| *byte == b',');
    match comma {
        Some(3) => imf_fixdate(value),
        Some(_) => rfc_850(value, now_unix_s),
        None => asctime(value),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<i64> {
    let mut at = Reader(value);
    at.one_of(&DAYS)?;
    at.exactly(b", ")?;
    let day = at.digits(2)?;
    at.exactly(b" ")?;
    let month = at.one_of(&MONTHS)?;
    at.exactly(b" ")?;
    let year = at.digits(4)?;
    at.exactly(b" ")?;
    let time = at.time()?;
    at.exactly(b" GMT")?;
    at.end()?;
    seconds(year, month, day, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc_850(value: &[u8], now_unix_s: i64) -> Option<i64> {
    let mut at = Reader(value);
    at.one_of(&LONG_DAYS)?;
    at.exactly(b", ")?;
    let day = at.digits(2)?;
    at.exactly(b"-")?;
    let month = at.one_of(&MONTHS)?;
    at.exactly(b"-")?;
    let year = at.digits(2)?;
    at.exactly(b" ")?;
    let time = at.time()?;
    at.exactly(b" GMT")?;
    at.end()?;
    let this_year = year_of(now_unix_s);
    let mut full = this_year - this_year.rem_euclid(100) + year;
    if full > this_year + 50 {
        full -= 100;
    } else if full <= this_year - 50 {
        full += 100;
    }
    seconds(full, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<i64> {
    let mut at = Reader(value);
    at.one_of(&DAYS)?;
    at.exactly(b" ")?;
    let month = at.one_of(&MONTHS)?;
    at.exactly(b" ")?;
    let day = if at.exactly(b" ").is_some() { at.digits(1)? } else { at.digits(2)? };
    at.exactly(b" ")?;
    let time = at.time()?;
    at.exactly(b" ")?;
    let year = at.digits(4)?;
    at.end()?;
    seconds(year, month, day, time)
}

const DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const LONG_DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];
const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// Takes `expected`, in any letter case.
    fn exactly(&mut self, expected: &[u8]) -> Option<()> {
        let (head, rest) = self.0.split_at_checked(expected.len())?;
        head.eq_ignore_ascii_case(expected).then(|| self.0 = rest)
    }

    /// Takes one of `names`, in any letter case, and gives its index.
    fn one_of(&mut self, names: &[&[u8]]) -> Option<i64> {
        let index = names.iter().position(|name| self.exactly(name).is_some())?;
        i64::try_from(index).ok()
    }

    /// Takes exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for digit in head {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        self.0 = rest;
        Some(number)
    }

    /// Takes `08:49:37` as seconds of the day. A leap second counts as the one before it.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.exactly(b":")?;
        let minute = self.digits(2)?;
        self.exactly(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
    }

    /// Nothing may follow.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Seconds since 1970 of a date in the proleptic Gregorian calendar; `month` counts from 0.
fn seconds(year: i64, month: i64, day: i64, time: i64) -> Option<i64> {
    if day < 1 || day > days_in(year, month) {
        return None;
    }
    Some(days_before(year, month, day) * 86_400 + time)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 => 28 + i64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years are taken to begin in March, so that the leap day is a year's last one.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 2 { year - 1 } else { year };
    let month_from_march = (month + 10) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The year that a moment lies in.
fn year_of(unix_s: i64) -> i64 {
    let day = unix_s.div_euclid(86_400);
    // 400 years have 146,097 days: at most one off, and then the first day of the year says so
    let guess = 1970 + (day * 400).div_euclid(146_097);
    if days_before(guess, 0, 1) > day {
        guess - 1
    } else if days_before(guess + 1, 0, 1) <= day {
        guess + 1
    } else {
        guess
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-22T00:00:00Z
    const NOW: i64 = 1_795_305_600;

    fn check(value: &str, expected: Option<i64>) {
        assert_eq!(parse(value.as_bytes(), NOW), expected, "{value}");
    }

    #[test]
    fn the_three_forms_of_rfc_9110_section_5_6_7_are_read() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 16 08:49:37 1994", Some(784_975_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799));
        check("Tue, 19 Jan 2038 14:14:08 GMT", Some(2_147_523_248));
        check("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
    }

    #[test]
    fn letter_case_and_weekday_do_not_matter() {
        for date in [
            "THU, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 AUG 2050 02:01:18 GMT",
            "thu, 18 aug 2050 02:01:18 gMT",
            "Mon, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
            "  Thu, 18 Aug 2050 02:01:18 GMT ",
        ] {
            check(date, Some(2_544_400_878));
        }
    }

    #[test]
    fn a_two_digit_year_is_at_most_fifty_years_ahead() {
        check("Sunday, 22-Nov-76 00:00:00 GMT", Some(3_373_228_800));
        check("Monday, 22-Nov-77 00:00:00 GMT", Some(249_004_800));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for date in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 2050 02:01:18 GMT+1",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:60:18 GMT",
            "Xyz, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aux 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
            "Sun Nov 6 08:49:37 1994",
        ] {
            check(date, None);
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..60), now: i32) {
            let _ = parse(&value, i64::from(now));
        }

        #[test]
        fn nothing_near_a_date_makes_it_panic(value in "[A-Za-z]{3,9},? [0-9A-Za-z :-]{0,26}(GMT)?", now: i32) {
            let _ = parse(value.as_bytes(), i64::from(now));
        }

        #[test]
        fn days_count_up_one_by_one(day in -700_000i64..2_900_000) {
            let year = year_of(day * 86_400);
            let first = days_before(year, 0, 1);
            let next = days_before(year + 1, 0, 1);
            prop_assert!(first <= day && day < next, "day {day} is not in {year}");
            let lengths: i64 = (0..12).map(|month| days_in(year, month)).sum();
            prop_assert_eq!(next - first, lengths);
        }
    }
}
