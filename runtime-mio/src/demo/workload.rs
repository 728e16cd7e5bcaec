//! Invented clinics at work: events as a clinic's records program would append them.
//!
//! Every name, place, number and sentence is put together from word lists by a seeded generator;
//! none belongs to a real person. The same seed and clinic give the same events on every machine.

use serde_json::{Value, json};

use super::SplitMix;
use words::*;

mod words;

/// The kinds of clinic events, with their numbers in the log.
pub const KINDS: [(u16, &str); 9] = [
    (1, "registration"),
    (2, "encounter"),
    (3, "vitals"),
    (4, "diagnosis"),
    (5, "prescription"),
    (6, "laboratory"),
    (7, "referral"),
    (8, "immunisation"),
    (9, "correction"),
];

/// A clinic remembers this many patients; a new one then takes the place of an old one.
const PATIENTS_MAX: usize = 300;
/// Patients who are in the clinic at the same time.
const VISITS_MAX: usize = 3;
/// Monday, 5 January 2026, in days since 1970.
const FIRST_DAY: u64 = 20_458;
const OPENS_AT_SECOND: u64 = 9 * 3_600;
const CLOSES_AT_SECOND: u64 = 15 * 3_600;

#[derive(Clone)]
struct Patient {
    number: u64,
    name: String,
    sex: &'static str,
    born_year: u64,
}

struct Visit {
    patient: Patient,
    encounter: String,
    /// The kinds of events still to come, the next one last.
    steps: Vec<u16>,
}

/// The endless work of one clinic.
pub struct Workload {
    random: SplitMix,
    clinic: String,
    staff: Vec<String>,
    patients: Vec<Patient>,
    visits: Vec<Visit>,
    day: u64,
    second: u64,
    patients_seen: u64,
    last_vitals_time: Option<String>,
}

/// The name of the clinic with this index; a valid node name, different for each index.
#[must_use]
pub fn clinic_name(clinic_index: u32) -> String {
    let count = CLINICS.len() as u32;
    let name = CLINICS[(clinic_index % count) as usize];
    match clinic_index / count {
        0 => name.to_owned(),
        round => format!("{name}-{}", round + 1),
    }
}

impl Workload {
    /// The work of the clinic with this index; see [`clinic_name`].
    #[must_use]
    pub fn new(seed: u64, clinic_index: u32) -> Workload {
        let clinic = clinic_name(clinic_index);
        // FNV-1a of the name: clinics of one seed share nothing, whatever order they start in.
        let hash = clinic
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut random = SplitMix::new(seed ^ hash);
        let staff = ["HA", "HA", "CN", "LT"].iter().map(|role| format!("{role}{:03}", random.below(1_000))).collect();
        Workload {
            random,
            clinic,
            staff,
            patients: Vec::new(),
            visits: Vec::new(),
            day: FIRST_DAY,
            second: OPENS_AT_SECOND,
            patients_seen: 0,
            last_vitals_time: None,
        }
    }

    /// The next event: its kind (see [`KINDS`]) and one JSON object without a line end.
    pub fn next_event(&mut self) -> (u16, Vec<u8>) {
        self.pass_time();
        if self.visits.len() < VISITS_MAX && (self.visits.is_empty() || self.chance(40)) {
            self.admit();
        }
        let index = self.random.below(self.visits.len() as u64) as usize;
        let kind = self.visits[index].steps.pop().unwrap_or(2);
        let (patient, encounter) = (self.visits[index].patient.clone(), self.visits[index].encounter.clone());
        if self.visits[index].steps.is_empty() {
            self.visits.swap_remove(index);
        }
        let mut event = json!({
            "type": KINDS[usize::from(kind) - 1].1,
            "clinic": self.clinic,
            "time": self.time(),
            "by": self.staff[self.random.below(self.staff.len() as u64) as usize],
            "patient": format!("{:011}", patient.number),
            "encounter": encounter,
        });
        let details = self.details(kind, &patient);
        if let (Value::Object(event), Value::Object(details)) = (&mut event, details) {
            event.extend(details);
        }
        (kind, event.to_string().into_bytes())
    }

    fn details(&mut self, kind: u16, patient: &Patient) -> Value {
        match kind {
            1 => json!({
                "name": patient.name, "sex": patient.sex,
                "born": format!("{}-{:02}-{:02}", patient.born_year, self.from(1, 12), self.from(1, 28)),
                "village": self.pick(VILLAGES), "household": self.from(1, 400),
                "phone": format!("000{:05}", self.random.below(100_000)), "guardian": self.name(),
                "occupation": self.pick(OCCUPATIONS),
            }),
            2 => json!({
                "name": patient.name, "sex": patient.sex, "age": 2026 - patient.born_year,
                "visit": self.pick(&["new", "new", "follow-up", "review"]), "complaint": self.complaint(),
            }),
            3 => {
                self.last_vitals_time = Some(self.time());
                json!({
                    "temp_c": self.tenths(361, 394), "pulse": self.from(58, 118), "resp": self.from(12, 28),
                    "bp": format!("{}/{}", self.from(92, 168), self.from(56, 102)), "spo2": self.from(88, 100),
                    "weight_kg": self.tenths(80, 820), "height_cm": self.from(70, 182), "pain": self.from(0, 8),
                })
            }
            4 => {
                let (code, text) = self.pick(DIAGNOSES);
                json!({
                    "icd10": code, "text": text, "certainty": self.pick(&["confirmed", "suspected", "ruled out"]),
                    "note": self.note(),
                })
            }
            5 => {
                let count = self.from(1, 3);
                let items: Vec<Value> =
                    self.pick_some(DRUGS, count).into_iter().map(|drug| self.prescribed(drug)).collect();
                json!({ "items": items })
            }
            6 => {
                let count = self.from(1, 3);
                let results: Vec<Value> =
                    self.pick_some(TESTS, count).into_iter().map(|test| self.result(test)).collect();
                json!({ "sample": format!("L{:05}", self.from(1, 99_999)), "results": results, "note": self.note() })
            }
            7 => json!({
                "to": self.pick(HOSPITALS), "urgency": self.pick(&["routine", "urgent", "emergency"]),
                "transport": self.pick(&["own", "ambulance", "on foot", "taxi"]), "reason": self.complaint(),
                "summary": self.note(),
            }),
            8 => json!({
                "vaccine": self.pick(VACCINES), "dose": self.from(1, 4), "site": self.pick(SITES),
                "lot": format!("{}{:05}", self.pick(&["QA", "QB", "QX"]), self.random.below(100_000)),
                "expires": format!("2027-{:02}", self.from(1, 12)), "vvm": self.from(1, 2),
                "reaction": self.pick(&["none", "none", "sore arm", "mild fever"]),
            }),
            _ => {
                let time = self.last_vitals_time.clone().unwrap_or_else(|| self.time());
                json!({
                    "corrects": "vitals", "of": time, "field": self.pick(&["temp_c", "weight_kg", "height_cm"]),
                    "was": self.tenths(300, 999), "is": self.tenths(300, 999),
                    "reason": self.pick(&["typed wrong", "wrong patient", "scale not at zero", "units mixed up"]),
                })
            }
        }
    }

    /// A patient comes: mostly one who was here before.
    fn admit(&mut self) {
        let known = self.patients.len() as u64;
        let known_one = if self.chance(if known < 40 { 50 } else { 88 }) { self.random.below(known) } else { known };
        let is_here = |patient: &Patient| self.visits.iter().any(|visit| visit.patient.number == patient.number);
        let returning = self.patients.get(known_one as usize).filter(|patient| !is_here(patient)).cloned();
        let is_new = returning.is_none();
        let patient = returning.unwrap_or_else(|| self.new_patient());
        let mut steps = Vec::new();
        for (kind, percent) in [(9, 4), (8, 9), (7, 6), (6, 28), (5, 80), (4, 85), (3, 88), (2, 100)] {
            if self.chance(percent) {
                steps.push(kind);
            }
        }
        if is_new {
            steps.push(1);
        }
        let id = self.random.next();
        let encounter = format!("{:08x}-{:08x}", id >> 32, id & 0xffff_ffff);
        self.visits.push(Visit { patient, encounter, steps });
    }

    fn new_patient(&mut self) -> Patient {
        self.patients_seen += 1;
        let patient = Patient {
            // The leading 9 is no district's number: nobody has such a one.
            number: 90_000_000_000 + self.random.below(100) * 1_000_000 + self.patients_seen,
            name: self.name(),
            sex: self.pick(&["F", "M"]),
            born_year: self.from(1941, 2025),
        };
        if self.patients.len() < PATIENTS_MAX {
            self.patients.push(patient.clone());
        } else {
            let index = self.random.below(PATIENTS_MAX as u64) as usize;
            self.patients[index] = patient.clone();
        }
        patient
    }

    fn prescribed(&mut self, (drug, dose): (&str, &str)) -> Value {
        let (rhythm, per_day) = self.pick(&[("OD", 1), ("BD", 2), ("TDS", 3)]);
        let days = self.from(3, 14);
        json!({
            "drug": drug, "dose": dose, "often": rhythm,
            "days": days, "quantity": days * per_day,
        })
    }

    fn result(&mut self, (test, unit, low, high): (&str, &str, u64, u64)) -> Value {
        json!({ "test": test, "value": self.tenths(low, high), "unit": unit })
    }

    fn complaint(&mut self) -> String {
        let (complaints, which) = (self.pick_some(COMPLAINTS, 2), self.pick(MANNERS));
        let what = complaints[0];
        match self.from(0, 2) {
            0 => format!("{what} for {} days", self.from(2, 20)),
            1 => format!("{what} for {} weeks, {which}", self.from(1, 6)),
            _ => format!("{what} and {} since {} days, {which}", complaints[1], self.from(1, 9)),
        }
    }

    fn note(&mut self) -> String {
        let count = self.from(2, 3);
        let phrases = self.pick_some(FINDINGS, count).join(", ");
        format!("{phrases}; review after {} days", self.from(2, 30))
    }

    fn name(&mut self) -> String {
        format!("{} {}", self.pick(FIRST_NAMES), self.pick(SECOND_NAMES))
    }

    /// Some minutes pass; after closing time, the next working day begins.
    fn pass_time(&mut self) {
        self.second += self.from(20, 400);
        if self.second >= CLOSES_AT_SECOND {
            self.day += 1;
            if weekday(self.day) == SUNDAY {
                self.day += 1;
            }
            self.second = OPENS_AT_SECOND + self.from(0, 900);
        }
    }

    fn time(&self) -> String {
        let (year, month, day) = civil(self.day);
        let (hour, minute, second) = (self.second / 3_600, self.second / 60 % 60, self.second % 60);
        format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+06:00")
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// A number from `low` to `high`, both included.
    fn from(&mut self, low: u64, high: u64) -> u64 {
        low + self.random.below(high - low + 1)
    }

    fn tenths(&mut self, low: u64, high: u64) -> f64 {
        self.from(low, high) as f64 / 10.0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len() as u64) as usize]
    }

    /// Different entries of a list of at least twice as many.
    fn pick_some<T: Copy>(&mut self, list: &[T], count: u64) -> Vec<T> {
        let len = list.len() as u64;
        let (start, stride) = (self.random.below(len), self.from(1, (len / count.max(1)).max(2) - 1));
        (0..count).map(|index| list[((start + index * stride) % len) as usize]).collect()
    }
}

const SUNDAY: u64 = 0;

/// The day of the week, Sunday is 0. The first day of 1970 was a Thursday.
fn weekday(day: u64) -> u64 {
    (day + 4) % 7
}

/// Year, month and day in the Gregorian calendar of a day since 1970 (Hinnant's algorithm).
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn events(seed: u64, clinic_index: u32, count: usize) -> Vec<(u16, Vec<u8>)> {
        let mut workload = Workload::new(seed, clinic_index);
        (0..count).map(|_| workload.next_event()).collect()
    }

    #[test]
    fn one_seed_and_clinic_give_one_sequence() {
        assert_eq!(events(7, 2, 300), events(7, 2, 300));
        assert_ne!(events(7, 2, 300), events(8, 2, 300));
        assert_ne!(events(7, 2, 300), events(7, 3, 300));
    }

    #[test]
    fn events_are_json_lines_with_the_fields_of_their_kind() {
        let mut fields: [Option<Vec<String>>; 9] = Default::default();
        let mut last_time = String::new();
        for (kind, line) in events(1, 0, 3_000) {
            assert!(!line.contains(&b'\n'));
            let event: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(event["type"], KINDS[usize::from(kind) - 1].1);
            let names: Vec<String> = event.as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields[usize::from(kind) - 1].get_or_insert_with(|| names.clone()), &names);
            let time = event["time"].as_str().unwrap().to_owned();
            assert!(time > last_time, "{time} after {last_time}");
            last_time = time;
        }
        assert!(fields.iter().all(Option::is_some), "not every kind appears: {fields:?}");
        assert!(last_time.as_str() > "2026-01-20", "days do not pass: {last_time}");
    }

    #[test]
    fn events_have_the_size_of_real_records_and_repeat_as_much() {
        let events = events(1, 1, 2_000);
        let total: usize = events.iter().map(|(_, line)| line.len()).sum();
        let mean = total / events.len();
        assert!((220..340).contains(&mean), "mean size {mean}");
        assert_eq!(events.iter().collect::<BTreeSet<_>>().len(), events.len(), "two equal events");
        // Few distinct 8-byte windows would be too easy to compress, many impossible.
        let windows: BTreeSet<&[u8]> = events.iter().flat_map(|(_, line)| line.windows(8)).collect();
        let share = windows.len() * 100 / total;
        assert!((8..50).contains(&share), "{share} % of the windows are distinct");
        let patients: BTreeSet<_> = events
            .iter()
            .map(|(_, line)| serde_json::from_slice::<Value>(line).unwrap()["patient"].as_str().unwrap().to_owned())
            .collect();
        assert!((60..300).contains(&patients.len()), "{} patients", patients.len());
    }

    #[test]
    fn clinics_have_names_of_their_own() {
        let names: BTreeSet<String> = (0..100).map(clinic_name).collect();
        assert_eq!(names.len(), 100);
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(names.iter().all(|name| name.len() <= 48 && name.bytes().all(valid)));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!((civil(FIRST_DAY), weekday(FIRST_DAY)), ((2026, 1, 5), 1));
        assert_eq!(civil(FIRST_DAY + 54), (2026, 2, 28));
        assert_eq!(civil(FIRST_DAY + 55), (2026, 3, 1));
        assert_eq!(civil(0), (1970, 1, 1));
    }
}
