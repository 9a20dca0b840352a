//! Amounts as people write and read them: bytes, durations, counts.

/// One unit of a form's select: what is submitted, what is shown, what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// As submitted by the form.
    pub key: &'static str,
    /// As shown.
    pub label: &'static str,
    /// In milliseconds or bytes.
    pub worth: i64,
}

/// Units of retention by time, smallest first.
pub const TIME_UNITS: [Unit; 3] = [
    Unit { key: "m", label: "minutes", worth: 60_000 },
    Unit { key: "h", label: "hours", worth: 3_600_000 },
    Unit { key: "d", label: "days", worth: 86_400_000 },
];

/// Units of retention by size, smallest first.
pub const SIZE_UNITS: [Unit; 3] = [
    Unit { key: "mib", label: "MiB", worth: 1 << 20 },
    Unit { key: "gib", label: "GiB", worth: 1 << 30 },
    Unit { key: "tib", label: "TiB", worth: 1 << 40 },
];

/// An amount as a form shows it: a number, and the key of the unit it is counted in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    pub number: String,
    pub unit: String,
}

/// The largest unit in which `total` is a whole number; below the smallest unit a decimal fraction of it.
#[must_use]
pub fn split(total: i64, units: &[Unit]) -> Amount {
    let whole = units.iter().rev().find(|unit| total >= unit.worth && total % unit.worth == 0);
    match whole.or(units.first()) {
        Some(unit) if total % unit.worth == 0 => {
            Amount { number: (total / unit.worth).to_string(), unit: unit.key.to_owned() }
        }
        Some(unit) => Amount { number: decimal(total, unit.worth), unit: unit.key.to_owned() },
        None => Amount { number: total.to_string(), unit: String::new() },
    }
}

/// `number` in `unit`, as milliseconds or bytes. The sentence says what is wrong with the field.
pub fn join(number: &str, unit: &str, units: &[Unit]) -> Result<i64, String> {
    let unit = units.iter().find(|known| known.key == unit).ok_or("Choose a unit.")?;
    let number = number.trim().replace(',', ".");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !(fraction.is_empty() || digits(fraction)) || fraction.len() > 6 {
        return Err(format!("Give a number of {}, for example 7.", unit.label));
    }
    let too_large = || format!("That is too many {}.", unit.label);
    let whole: i64 = whole.parse().map_err(|_| too_large())?;
    let total = whole.checked_mul(unit.worth).ok_or_else(too_large)?;
    let scale = 10_i64.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = i128::from(fraction.parse::<i64>().unwrap_or(0)) * i128::from(unit.worth) / i128::from(scale);
    let total = total.checked_add(i64::try_from(part).map_err(|_| too_large())?).ok_or_else(too_large)?;
    if total > 0 { Ok(total) } else { Err("Must be more than nothing.".to_owned()) }
}

/// `1536` as `1.5 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let power = (63 - u64::from(count.leading_zeros())) / 10;
    let unit = 1_u64 << (power * 10);
    let name = UNITS[usize::try_from(power).unwrap_or(1) - 1];
    let tenths = u128::from(count) * 10 / u128::from(unit);
    if tenths >= 100 || tenths % 10 == 0 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// `604_800_000` as `7 days`.
#[must_use]
pub fn duration(ms: i64) -> String {
    const STEPS: [(i64, &str); 4] = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")];
    let step = STEPS.iter().find(|(worth, _)| ms >= *worth);
    let Some((worth, name)) = step else { return format!("{ms} ms") };
    let number = decimal(ms, *worth);
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {name}{plural}")
}

/// `1234567` as `1 234 567`, with a no-break space that is narrow.
#[must_use]
pub fn count(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `total / worth` with at most one decimal that says something.
fn decimal(total: i64, worth: i64) -> String {
    let tenths = i128::from(total) * 10 / i128::from(worth);
    if tenths % 10 == 0 { (tenths / 10).to_string() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_fitting_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 << 20, "10 MiB"),
            (123_456_789, "117 MiB"),
            (10_737_418_240, "10 GiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn durations_are_shown_in_the_largest_fitting_unit() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 second"),
            (90_000, "1.5 minutes"),
            (86_400_000, "1 day"),
            (604_800_000, "7 days"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000).replace('\u{202f}', " "), "1 000");
        assert_eq!(count(-1_234_567).replace('\u{202f}', " "), "-1 234 567");
    }

    #[test]
    fn a_form_shows_what_it_was_given() {
        for (total, number, unit) in [(604_800_000, "7", "d"), (129_600_000, "36", "h"), (60_000, "1", "m")] {
            assert_eq!(split(total, &TIME_UNITS), Amount { number: number.to_owned(), unit: unit.to_owned() });
            assert_eq!(join(number, unit, &TIME_UNITS), Ok(total));
        }
        assert_eq!(split(30_000, &TIME_UNITS).number, "0.5");
        assert_eq!(join("0.5", "m", &TIME_UNITS), Ok(30_000));
        assert_eq!(join("1,5", "gib", &SIZE_UNITS), Ok(1_610_612_736));
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for (number, unit) in [
            ("", "d"),
            ("-1", "d"),
            ("x", "d"),
            ("0", "d"),
            ("99999999999999999999", "d"),
            ("1e9", "d"),
            ("1", "w"),
            ("1.", "w"),
        ] {
            assert!(join(number, unit, &TIME_UNITS).is_err_and(|why| why.ends_with('.')), "{number}{unit}");
        }
    }
}
