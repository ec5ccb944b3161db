use super::*;

fn times(cron: &str, name: &str) -> LocalTimes {
    LocalTimes {
        cron: Cron::parse(cron).unwrap(),
        zone: zone(name).unwrap(),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The instants at which it is due between two others.
fn due(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let (mut now, to) = (at(from), at(to));
    let mut due = Vec::new();
    while let Some(next) = schedule.next_after(now).filter(|next| *next <= to) {
        assert!(next > now, "{schedule}: {next} after {now}");
        due.push(next.to_string());
        now = next;
    }
    due
}

/// A time that the clock skips is due when the clock is put forward, and one that it has twice is due the first time: on
/// every day once.
#[test]
fn a_local_time_is_due_once_on_the_days_that_the_clock_changes_too() {
    let table: [(&str, &str, [&str; 2], &[&str]); 9] = [
        (
            // 01:00 GMT becomes 02:00 BST on 2027-03-28.
            "30 1 * * *",
            "Europe/London",
            ["2027-03-27T00:00:00Z", "2027-03-29T12:00:00Z"],
            &["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"],
        ),
        (
            // 02:00 BST becomes 01:00 GMT on 2026-10-25.
            "30 1 * * *",
            "Europe/London",
            ["2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"],
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            "30 2 * * *",
            "America/New_York",
            ["2027-03-13T12:00:00Z", "2027-03-15T12:00:00Z"],
            &["2027-03-14T07:00:00Z", "2027-03-15T06:30:00Z"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            ["2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"],
            &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
        ),
        (
            // Half an hour is skipped: 02:00 +10:30 becomes 02:30 +11 on 2026-10-04.
            "15 2 * * *",
            "Australia/Lord_Howe",
            ["2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z"],
            &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            // And comes twice: 02:00 +11 becomes 01:30 +10:30 on 2027-04-04.
            "45 1 * * *",
            "Australia/Lord_Howe",
            ["2027-04-03T00:00:00Z", "2027-04-05T00:00:00Z"],
            &["2027-04-03T14:45:00Z", "2027-04-04T15:15:00Z"],
        ),
        (
            "30 1 * * *",
            "Asia/Kolkata",
            ["2027-03-27T00:00:00Z", "2027-03-29T00:00:00Z"],
            &["2027-03-27T20:00:00Z", "2027-03-28T20:00:00Z"],
        ),
        (
            // All that the clock skips is due at once.
            "*/20 * * * *",
            "Europe/London",
            ["2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"],
            &["2027-03-28T00:40:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:20:00Z"],
        ),
        (
            // What comes twice is not due twice, whatever the rhythm.
            "*/20 * * * *",
            "Europe/London",
            ["2026-10-25T00:30:00Z", "2026-10-25T02:10:00Z"],
            &["2026-10-25T00:40:00Z", "2026-10-25T02:00:00Z"],
        ),
    ];
    for (cron, zone, [from, to], expected) in table {
        let schedule = Schedule::At(times(cron, zone));
        assert_eq!(due(&schedule, from, to), expected, "{schedule}");
    }
}

/// Whatever the zone and whenever one asks: no day is left out, and none comes twice.
#[test]
fn a_daily_time_is_due_on_each_day_of_thirty_years_once() {
    let zones = [
        "Europe/London",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "UTC",
    ];
    for name in zones {
        for cron in ["30 1 * * *", "0 2 * * *", "15 2 * * *", "0 3 * * *"] {
            let times = times(cron, name);
            let mut now = at("2025-01-01T12:00:00Z");
            let mut last = times.zone.to_datetime(now).date();
            let end = at("2055-01-01T12:00:00Z");
            while let Some(next) = times.next_after(now).filter(|next| *next < end) {
                let day = times.zone.to_datetime(next).date();
                assert_eq!(Ok(day), last.tomorrow().map_err(|_| ()), "{times} after {now}");
                (last, now) = (day, next);
            }
            assert!(end.duration_since(now) < SignedDuration::from_hours(26), "{times}");
        }
    }
}

#[test]
fn the_next_instant_is_the_same_from_wherever_before_it_one_asks() {
    let times = times("*/7 0-4 * * *", "Europe/London");
    for night in ["2027-03-28T00:00:00Z", "2026-10-25T00:00:00Z"] {
        let mut now = at(night);
        let end = now.checked_add(SignedDuration::from_hours(6)).unwrap();
        while now < end {
            let next = times.next_after(now).unwrap();
            let between = now.checked_add(SignedDuration::from_secs(17)).unwrap();
            if between < next {
                assert_eq!(times.next_after(between), Some(next), "{now}");
            }
            now = between;
        }
    }
}

#[test]
fn a_period_is_counted_alike_by_all() {
    let schedule = Schedule::Every { period_ms: 1_800_000 };
    let expected = ["2026-11-29T10:30:00Z", "2026-11-29T11:00:00Z"];
    assert_eq!(due(&schedule, "2026-11-29T10:00:00Z", "2026-11-29T11:00:00Z"), expected);
    let next = schedule.next_after(at("2026-11-29T10:29:59.999999Z"));
    assert_eq!(next, Some(at("2026-11-29T10:30:00Z")));
    assert_eq!(schedule.to_string(), "every 30m");
    assert_eq!(Schedule::Every { period_ms: 1_500 }.to_string(), "every 1500ms");
}

#[test]
fn the_odd_days_of_a_schedule_are_told_beforehand() {
    let told = |cron: &str, zone: &str| times(cron, zone).odd_days(at("2026-06-01T00:00:00Z"));
    assert_eq!(
        told("30 1 * * *", "Europe/London"),
        [
            "30 1 * * * Europe/London: on 2026-10-25 the clock shows 01:30 twice; it is due the first time",
            "30 1 * * * Europe/London: on 2027-03-28 the clock skips 01:30; it is due then when the clock shows 02:00",
        ]
    );
    assert!(told("30 4 * * *", "Europe/London").is_empty());
    assert!(told("30 1 * * *", "Asia/Kolkata").is_empty());
    assert_eq!(told("10 2 * * *", "Australia/Lord_Howe").len(), 1);
}

/// Three hours pass, whatever the clock shows at their end.
#[test]
fn a_window_is_open_for_as_long_as_it_says_also_when_the_clock_changes() {
    let window = |cron: &str, zone: &str| Window {
        opens: times(cron, zone),
        for_ms: 3 * 3_600_000,
    };
    let table = [
        ("America/New_York", "2026-11-01T05:59:59Z", None),
        // 02:00 EST, the clock having been put back from 02:00 EDT an hour before.
        ("America/New_York", "2026-11-01T07:00:00Z", Some("2026-11-01T10:00:00Z")),
        ("America/New_York", "2026-11-01T09:59:59Z", Some("2026-11-01T10:00:00Z")),
        ("America/New_York", "2026-11-01T10:00:00Z", None),
        // 02:00 is skipped on 2027-03-14: from 03:00 EDT on.
        ("America/New_York", "2027-03-14T06:59:59Z", None),
        ("America/New_York", "2027-03-14T07:00:00Z", Some("2027-03-14T10:00:00Z")),
        ("America/New_York", "2027-03-14T10:00:00Z", None),
        ("Asia/Kolkata", "2026-11-28T20:30:00Z", Some("2026-11-28T23:30:00Z")),
    ];
    for (zone, now, until) in table {
        let window = window("0 2 * * SUN", zone);
        assert_eq!(window.open_until(at(now)), until.map(at), "{zone} {now}");
    }
    let always = window("* * * * *", "UTC");
    let until = always.open_until(at("2026-11-29T10:00:30Z"));
    assert_eq!(
        until,
        Some(at("2026-11-29T13:00:00Z")),
        "the end of the last that has opened"
    );
}

#[test]
fn zones_are_known_by_their_names() {
    assert!(zone("Europe/London").is_some() && zone("UTC").is_some());
    assert!(zone("Europe/Londn").is_none() && zone("").is_none());
    assert!(zone_names().iter().any(|name| name == "Australia/Lord_Howe"));
}
