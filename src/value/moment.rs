//! Dates, times of day and moments: canonical texts from the texts of databases and from the counts that Connect sends.
//!
//! Years 1 to 9999. Infinities and years BC are not read: in a key they are errors, elsewhere the row is read from its owner.

use time::{Date, Month};

use super::ValueError;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

const DATE: &str = "a date";
const TIME: &str = "a time of day";
const TIMESTAMP: &str = "a date and time";

/// What a count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Unit {
    fn to_micros(self, count: i64) -> Result<i64, ValueError> {
        match self {
            Self::Millis => count.checked_mul(1_000).ok_or(ValueError::OutOfRange { expected: TIMESTAMP }),
            Self::Micros => Ok(count),
            Self::Nanos if count % 1_000 == 0 => Ok(count / 1_000),
            Self::Nanos => Err(ValueError::TooPrecise { kept: 6 }),
        }
    }
}

/// The canonical date so many days after 1970-01-01.
pub(crate) fn date_of_days(days: i64) -> Result<String, ValueError> {
    Ok(print_date(civil(days)?))
}

/// The canonical time of day so many units after midnight.
pub(crate) fn time_of_day(count: i64, unit: Unit, precision: u8) -> Result<String, ValueError> {
    let micros = unit.to_micros(count)?;
    // PostgreSQL knows 24:00:00; MySQL's TIME may also be negative or longer than a day, which is no time of day.
    if !(0..=MICROS_PER_DAY).contains(&micros) {
        return Err(ValueError::OutOfRange { expected: TIME });
    }
    check_precision(micros, precision)?;
    Ok(print_time(micros))
}

/// The canonical date and time so many units after 1970-01-01 00:00:00, without a zone.
pub(crate) fn timestamp_of(count: i64, unit: Unit, precision: u8) -> Result<String, ValueError> {
    print_timestamp(unit.to_micros(count)?, precision)
}

/// Reads `2018-06-20`.
pub(super) fn date(text: &str) -> Result<String, ValueError> {
    parse_date(text).map(print_date)
}

/// Reads `04:05:11.789`.
pub(super) fn time(text: &str, precision: u8) -> Result<String, ValueError> {
    let micros = parse_time(text)?;
    check_precision(micros, precision)?;
    Ok(print_time(micros))
}

/// Reads `2018-06-20 15:13:16.945104`, also with `T` between the parts.
pub(super) fn timestamp(text: &str, precision: u8) -> Result<String, ValueError> {
    print_timestamp(parse_timestamp(text)?, precision)
}

/// Reads `2018-06-20 15:37:03.5+02`, also with `T` and `Z`. Without an offset it is not a moment.
pub(super) fn timestamp_tz(text: &str, precision: u8) -> Result<String, ValueError> {
    let malformed = ValueError::Malformed { expected: "a date and time with an offset" };
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            // The first ten bytes hold the date's own dashes.
            let sign = text.char_indices().find(|&(at, c)| at > 10 && matches!(c, '+' | '-')).ok_or(malformed)?;
            let (local, offset) = text.split_at_checked(sign.0).ok_or(malformed)?;
            (local, parse_offset(offset).ok_or(malformed)?)
        }
    };
    let micros = parse_timestamp(local)?.checked_sub(offset * MICROS_PER_SECOND).ok_or(ValueError::OutOfRange { expected: TIMESTAMP })?;
    Ok(print_timestamp(micros, precision)? + "+00")
}

fn civil(days: i64) -> Result<Date, ValueError> {
    let out_of_range = ValueError::OutOfRange { expected: DATE };
    let julian = days.checked_add(EPOCH_JULIAN_DAY).and_then(|day| i32::try_from(day).ok()).ok_or(out_of_range)?;
    let date = Date::from_julian_day(julian).map_err(|_| out_of_range)?;
    if (1..=9999).contains(&date.year()) { Ok(date) } else { Err(out_of_range) }
}

fn print_date(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn print_time(micros: i64) -> String {
    let (seconds, fraction) = (micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { clock } else { format!("{clock}.{fraction:06}").trim_end_matches('0').to_owned() }
}

fn print_timestamp(micros: i64, precision: u8) -> Result<String, ValueError> {
    check_precision(micros, precision)?;
    let date = civil(micros.div_euclid(MICROS_PER_DAY))?;
    Ok(format!("{} {}", print_date(date), print_time(micros.rem_euclid(MICROS_PER_DAY))))
}

fn check_precision(micros: i64, precision: u8) -> Result<(), ValueError> {
    let kept = precision.min(6);
    let step = 10_i64.pow(u32::from(6 - kept));
    if micros % step == 0 { Ok(()) } else { Err(ValueError::TooPrecise { kept: u16::from(kept) }) }
}

/// A number of exactly `width` digits.
fn number(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn parse_date(text: &str) -> Result<Date, ValueError> {
    let malformed = ValueError::Malformed { expected: DATE };
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(malformed);
    };
    let year = number(year, 4).filter(|&year| year > 0).and_then(|year| i32::try_from(year).ok()).ok_or(malformed)?;
    let month =
        number(month, 2).and_then(|month| u8::try_from(month).ok()).and_then(|month| Month::try_from(month).ok()).ok_or(malformed)?;
    let day = number(day, 2).and_then(|day| u8::try_from(day).ok()).ok_or(malformed)?;
    Date::from_calendar_date(year, month, day).map_err(|_| malformed)
}

/// Microseconds after midnight, up to 24:00:00 itself.
fn parse_time(text: &str) -> Result<i64, ValueError> {
    let malformed = ValueError::Malformed { expected: TIME };
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, parse_fraction(fraction)?),
        None => (text, 0),
    };
    let mut parts = clock.split(':').map(|part| number(part, 2));
    let (Some(Some(hours)), Some(Some(minutes)), Some(Some(seconds)), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    let micros = (hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND + fraction;
    if minutes < 60 && seconds < 60 && micros <= MICROS_PER_DAY { Ok(micros) } else { Err(malformed) }
}

/// Microseconds from 1 to 9 fraction digits; what is finer than a microsecond must be zero.
fn parse_fraction(digits: &str) -> Result<i64, ValueError> {
    if !(1..=9).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Malformed { expected: TIME });
    }
    let nanos: i64 = format!("{digits:0<9}").parse().map_err(|_| ValueError::Malformed { expected: TIME })?;
    Unit::Nanos.to_micros(nanos)
}

fn parse_timestamp(text: &str) -> Result<i64, ValueError> {
    let malformed = ValueError::Malformed { expected: TIMESTAMP };
    let (date, time) = text.split_once([' ', 'T']).ok_or(malformed)?;
    let days = i64::from(parse_date(date)?.to_julian_day()) - EPOCH_JULIAN_DAY;
    let micros = parse_time(time)?;
    if micros == MICROS_PER_DAY { Err(malformed) } else { Ok(days * MICROS_PER_DAY + micros) }
}

/// Seconds east of UTC from `+02`, `+0200`, `+05:30` or `-05:30:15`.
fn parse_offset(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let rest = text.get(1..)?;
    let (hours, minutes, seconds) = match rest.split(':').collect::<Vec<_>>().as_slice() {
        [hours] if hours.len() == 4 => (number(hours.get(..2)?, 2)?, number(hours.get(2..)?, 2)?, 0),
        [hours] => (number(hours, 2)?, 0, 0),
        [hours, minutes] => (number(hours, 2)?, number(minutes, 2)?, 0),
        [hours, minutes, seconds] => (number(hours, 2)?, number(minutes, 2)?, number(seconds, 2)?),
        _ => return None,
    };
    // PostgreSQL's bound; Java's is 18 hours.
    (hours < 16 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}
