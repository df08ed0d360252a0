//! strftime for the one thing that templates want: today's date, in UTC and with English names, so that a
//! prompt does not depend on the host's locale or time zone.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    day_of_year: i64,
    second_of_day: i64,
}

fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

fn month_lengths(year: i64) -> [i64; 12] {
    let is_leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn civil(unix_s: i64) -> Civil {
    let days = unix_s.div_euclid(86_400);
    let mut year = 1970 + days.div_euclid(366);
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    while days_before_year(year) > days {
        year -= 1;
    }
    let day_of_year = days - days_before_year(year);
    let (mut month, mut day) = (0, day_of_year);
    for length in month_lengths(year) {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    Civil {
        year,
        month,
        day: day + 1,
        weekday: (days + 4).rem_euclid(7) as usize,
        day_of_year: day_of_year + 1,
        second_of_day: unix_s.rem_euclid(86_400),
    }
}

/// Formats as Python's datetime.strftime; a directive that is not known stays as it is.
pub fn format_utc(unix_s: i64, format: &str) -> String {
    // Ten thousand years either way; the walk over years above stays short.
    let now = civil(unix_s.clamp(-377_705_116_800, 253_402_300_799));
    let hour = now.second_of_day / 3600;
    let hour_of_12 = (hour + 11) % 12 + 1;
    let minute = now.second_of_day / 60 % 60;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = characters.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = characters.next();
        }
        let padded = |number: i64, width: usize| {
            if unpadded {
                number.to_string()
            } else {
                format!("{number:0width$}")
            }
        };
        out.push_str(&match directive {
            Some('Y') => now.year.to_string(),
            Some('y') => padded(now.year.rem_euclid(100), 2),
            Some('m') => padded(now.month as i64 + 1, 2),
            Some('d') => padded(now.day, 2),
            Some('e') => format!("{:2}", now.day),
            Some('j') => padded(now.day_of_year, 3),
            Some('H') => padded(hour, 2),
            Some('I') => padded(hour_of_12, 2),
            Some('M') => padded(minute, 2),
            Some('S') => padded(now.second_of_day % 60, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => MONTHS[now.month].into(),
            Some('b' | 'h') => MONTHS[now.month][..3].into(),
            Some('A') => DAYS[now.weekday].into(),
            Some('a') => DAYS[now.weekday][..3].into(),
            Some('F') => format_utc(unix_s, "%Y-%m-%d"),
            Some('T' | 'X') => format_utc(unix_s, "%H:%M:%S"),
            Some('D' | 'x') => format_utc(unix_s, "%m/%d/%y"),
            Some('c') => format_utc(unix_s, "%a %b %e %H:%M:%S %Y"),
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{}{other}", if unpadded { "-" } else { "" }),
            None => "%".into(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::format_utc;

    #[test]
    fn dates() {
        assert_eq!(format_utc(0, "%Y-%m-%d %H:%M:%S %a %j"), "1970-01-01 00:00:00 Thu 001");
        assert_eq!(format_utc(951_782_400, "%d %b %Y"), "29 Feb 2000");
        assert_eq!(
            format_utc(1_767_225_599, "%A, %B %-d, %Y %I:%M %p"),
            "Wednesday, December 31, 2025 11:59 PM"
        );
        assert_eq!(format_utc(-1, "%F %T"), "1969-12-31 23:59:59");
        assert_eq!(format_utc(4_102_444_800, "%F%%"), "2100-01-01%");
        assert_eq!(format_utc(i64::MAX, "%Y"), "9999");
        assert_eq!(format_utc(i64::MIN, "%q%"), "%q%");
    }
}
