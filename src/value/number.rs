//! Whole numbers and decimals as digits: nothing here passes through a floating point number (H55).

use num_bigint::BigInt;

use super::{IntType, ValueError};

/// Most digits of one number: PostgreSQL's `numeric` has up to 131,072 before and 16,383 behind the point. Bounds what `1e999999999` costs.
const MAX_DIGITS: usize = 147_455;
/// Most bytes of an unscaled integer: enough for [`MAX_DIGITS`].
const MAX_UNSCALED_BYTES: usize = 61_440;

const WHOLE: &str = "a whole number";
const DECIMAL: &str = "a decimal number";

/// A decimal number, exactly: `sign digits × 10^-scale`, digits without zeros at either end. Zero has no digits, scale 0 and no sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exact {
    negative: bool,
    digits: String,
    scale: i64,
}

impl Exact {
    /// Reads `-012.50`: an optional sign, digits, optionally a point and digits. No exponent; surrounding blanks are the caller's.
    pub(crate) fn plain(text: &str) -> Result<Self, ValueError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((_, "")) => return Err(ValueError::Malformed { expected: DECIMAL }),
            Some(parts) => parts,
            None => (unsigned, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(ValueError::Malformed { expected: DECIMAL });
        }
        Self::new(negative, &format!("{whole}{fraction}"), i64::try_from(fraction.len()).map_err(|_| too_long())?)
    }

    /// Reads a JSON number: as [`Exact::plain`], with an exponent allowed.
    pub(crate) fn json(text: &str) -> Result<Self, ValueError> {
        let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return Self::plain(text) };
        let mut number = Self::plain(mantissa)?;
        if number.digits.is_empty() {
            return Ok(number);
        }
        let exponent: i64 = exponent.parse().map_err(|_| too_long())?;
        number.scale = number.scale.checked_sub(exponent).ok_or_else(too_long)?;
        Ok(number)
    }

    /// Reads the big-endian two's complement bytes that Connect writes for a decimal.
    pub(crate) fn unscaled(bytes: &[u8], scale: i64) -> Result<Self, ValueError> {
        if bytes.is_empty() {
            return Err(ValueError::Malformed { expected: DECIMAL });
        }
        if bytes.len() > MAX_UNSCALED_BYTES {
            return Err(too_long());
        }
        let text = BigInt::from_signed_bytes_be(bytes).to_string();
        match text.strip_prefix('-') {
            Some(digits) => Self::new(true, digits, scale),
            None => Self::new(false, &text, scale),
        }
    }

    fn new(negative: bool, digits: &str, scale: i64) -> Result<Self, ValueError> {
        let digits = digits.trim_start_matches('0');
        if digits.len() > MAX_DIGITS {
            return Err(too_long());
        }
        let short = digits.trim_end_matches('0');
        if short.is_empty() {
            return Ok(Self { negative: false, digits: String::new(), scale: 0 });
        }
        let dropped = i64::try_from(digits.len() - short.len()).map_err(|_| too_long())?;
        let scale = scale.checked_sub(dropped).ok_or_else(too_long)?;
        Ok(Self { negative, digits: short.to_owned(), scale })
    }

    /// The canonical text as a whole number of this type.
    pub(crate) fn to_int(&self, kind: IntType) -> Result<String, ValueError> {
        if self.scale > 0 {
            return Err(ValueError::TooPrecise { kept: 0 });
        }
        // Longer than any 64-bit number: no need to write it out.
        if zeros(self.scale)? + self.digits.len() > 20 {
            return Err(ValueError::OutOfRange { expected: WHOLE });
        }
        let text = self.to_decimal(Some(0))?;
        let value: i128 = text.parse().map_err(|_| ValueError::OutOfRange { expected: WHOLE })?;
        let (least, most) = range(kind);
        if (least..=most).contains(&value) { Ok(text) } else { Err(ValueError::OutOfRange { expected: WHOLE }) }
    }

    /// The canonical text as a decimal: with exactly `scale` fraction digits, or without trailing zeros if the column fixes none.
    pub(crate) fn to_decimal(&self, scale: Option<u16>) -> Result<String, ValueError> {
        let places = match scale {
            Some(fixed) if self.scale > i64::from(fixed) => return Err(ValueError::TooPrecise { kept: fixed }),
            Some(fixed) => usize::from(fixed),
            None => usize::try_from(self.scale.max(0)).map_err(|_| too_long())?,
        };
        let behind = usize::try_from(self.scale.max(0)).map_err(|_| too_long())?;
        let padding = zeros(self.scale)?;
        if places > MAX_DIGITS || self.digits.len() + padding > MAX_DIGITS {
            return Err(too_long());
        }
        let mut text = String::with_capacity(self.digits.len() + padding + places + 2);
        if self.negative {
            text.push('-');
        }
        let split = self.digits.len().saturating_sub(behind);
        let (whole, fraction) = self.digits.split_at_checked(split).unwrap_or((&self.digits, ""));
        text.push_str(whole);
        text.extend(std::iter::repeat_n('0', padding));
        if whole.is_empty() {
            text.push('0');
        }
        if places > 0 {
            // The fraction's own leading zeros were trimmed with the digits: 0.05 is the digit 5 at scale 2.
            let lead = behind.saturating_sub(self.digits.len());
            text.push('.');
            // Not by a format's width: it takes 65,535 at the most, and panics above.
            text.extend(std::iter::repeat_n('0', lead));
            text.push_str(fraction);
            text.extend(std::iter::repeat_n('0', places - behind));
        }
        Ok(text)
    }
}

/// Zeros that a negative scale appends. There may be more than any text could have.
fn zeros(scale: i64) -> Result<usize, ValueError> {
    usize::try_from(scale.min(0).unsigned_abs()).map_err(|_| too_long())
}

fn too_long() -> ValueError {
    ValueError::TooLong { limit: MAX_DIGITS }
}

fn range(kind: IntType) -> (i128, i128) {
    let bits = u32::from(kind.bits.clamp(1, 64));
    if kind.unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }
}
