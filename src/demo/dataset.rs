//! The flights, the weather and the reference data of New York's airports, read from the files in `data/nycflights13`
//! and turned into events.
//!
//! The files are part of the binary. What is missing in the data (`NA`) is missing in the event, never an invented value.

use std::io::Read;

use flate2::read::GzDecoder;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const FLIGHTS: &[u8] = include_bytes!("../../data/nycflights13/flights.csv.gz");
const WEATHER: &[u8] = include_bytes!("../../data/nycflights13/weather.csv.gz");
const AIRLINES: &[u8] = include_bytes!("../../data/nycflights13/airlines.csv.gz");
const AIRPORTS: &[u8] = include_bytes!("../../data/nycflights13/airports.csv.gz");
const PLANES: &[u8] = include_bytes!("../../data/nycflights13/planes.csv.gz");

/// Upper bound of one unpacked file, in bytes. The largest has 620 KB.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The data could not be read: the binary was built from damaged files.
#[derive(Debug, thiserror::Error)]
#[error("the demo data {file} cannot be read")]
pub struct DatasetError {
    file: &'static str,
    #[source]
    source: csv::Error,
}

/// One event: a key, a JSON value, and when it happened in the data's own time.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Key of the record.
    pub key: String,
    /// JSON object.
    pub value: String,
    /// The data's time; `None` for reference data.
    pub at: Option<OffsetDateTime>,
}

/// Everything the demo sends.
#[derive(Debug)]
pub struct Dataset {
    /// Departures in the order of their scheduled time, keyed by carrier and flight number.
    pub departures: Vec<Event>,
    /// Hourly observations in order of time, keyed by airport.
    pub weather: Vec<Event>,
    /// Keyed by the carrier's code.
    pub airlines: Vec<Event>,
    /// Keyed by the FAA code.
    pub airports: Vec<Event>,
    /// Keyed by tail number.
    pub planes: Vec<Event>,
}

impl Dataset {
    /// Reads what is built in.
    pub fn load() -> Result<Self, DatasetError> {
        let mut departures: Vec<Event> =
            rows::<Flight>("flights", FLIGHTS)?.into_iter().map(|flight| event(flight.departure())).collect();
        departures.sort_by_key(|event| event.at);
        let mut weather: Vec<Event> =
            rows::<Weather>("weather", WEATHER)?.into_iter().map(|row| event(row.observation())).collect();
        weather.sort_by_key(|event| event.at);
        Ok(Self {
            departures,
            weather,
            airlines: rows::<Airline>("airlines", AIRLINES)?.iter().map(|row| reference(&row.carrier, row)).collect(),
            airports: rows::<Airport>("airports", AIRPORTS)?.iter().map(|row| reference(&row.faa, row)).collect(),
            planes: rows::<Plane>("planes", PLANES)?.iter().map(|row| reference(&row.tailnum, row)).collect(),
        })
    }
}

fn rows<T: for<'de> Deserialize<'de>>(file: &'static str, packed: &[u8]) -> Result<Vec<T>, DatasetError> {
    csv::Reader::from_reader(GzDecoder::new(packed).take(FILE_BYTES_MAX))
        .into_deserialize()
        .collect::<Result<Vec<T>, _>>()
        .map_err(|source| DatasetError { file, source })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("rows are plain structures of texts and finite numbers")
}

fn event((key, at, value): (String, OffsetDateTime, String)) -> Event {
    Event { key, value, at: Some(at) }
}

fn reference(key: &str, row: &impl Serialize) -> Event {
    Event { key: key.to_owned(), value: json(row), at: None }
}

/// `NA`, R's word for a missing value, becomes `None`.
fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    if text == "NA" || text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Flight {
    #[serde(deserialize_with = "known")]
    dep_delay: Option<f64>,
    #[serde(deserialize_with = "known")]
    arr_delay: Option<f64>,
    carrier: String,
    flight: u32,
    #[serde(deserialize_with = "known")]
    tailnum: Option<String>,
    origin: String,
    dest: String,
    #[serde(deserialize_with = "known")]
    air_time: Option<f64>,
    distance: f64,
    minute: f64,
    #[serde(deserialize_with = "moment")]
    time_hour: OffsetDateTime,
}

#[derive(Serialize)]
struct Departure {
    flight: String,
    carrier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tail_number: Option<String>,
    origin: String,
    destination: String,
    #[serde(with = "time::serde::rfc3339")]
    scheduled: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    departed: Option<OffsetDateTime>,
    cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    departure_delay_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival_delay_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    air_time_min: Option<f64>,
    distance_miles: f64,
}

impl Flight {
    fn departure(self) -> (String, OffsetDateTime, String) {
        let scheduled = self.time_hour + time::Duration::seconds_f64(self.minute * 60.0);
        let flight = format!("{}{}", self.carrier, self.flight);
        let departure = Departure {
            departed: self.dep_delay.map(|late| scheduled + time::Duration::seconds_f64(late * 60.0)),
            cancelled: self.dep_delay.is_none(),
            departure_delay_min: self.dep_delay,
            arrival_delay_min: self.arr_delay,
            air_time_min: self.air_time,
            carrier: self.carrier,
            tail_number: self.tailnum,
            origin: self.origin,
            destination: self.dest,
            distance_miles: self.distance,
            flight: flight.clone(),
            scheduled,
        };
        (flight, scheduled, json(&departure))
    }
}

#[derive(Deserialize)]
struct Weather {
    origin: String,
    #[serde(deserialize_with = "known")]
    temp: Option<f64>,
    #[serde(deserialize_with = "known")]
    humid: Option<f64>,
    #[serde(deserialize_with = "known")]
    wind_dir: Option<f64>,
    #[serde(deserialize_with = "known")]
    wind_speed: Option<f64>,
    #[serde(deserialize_with = "known")]
    precip: Option<f64>,
    #[serde(deserialize_with = "known")]
    pressure: Option<f64>,
    #[serde(deserialize_with = "known")]
    visib: Option<f64>,
    #[serde(deserialize_with = "moment")]
    time_hour: OffsetDateTime,
}

#[derive(Serialize)]
struct Observation {
    airport: String,
    #[serde(with = "time::serde::rfc3339")]
    observed: OffsetDateTime,
    temperature_f: Option<f64>,
    humidity_percent: Option<f64>,
    wind_direction_deg: Option<f64>,
    wind_speed_mph: Option<f64>,
    precipitation_in: Option<f64>,
    pressure_mbar: Option<f64>,
    visibility_miles: Option<f64>,
}

impl Weather {
    fn observation(self) -> (String, OffsetDateTime, String) {
        let observation = Observation {
            airport: self.origin.clone(),
            observed: self.time_hour,
            temperature_f: self.temp,
            humidity_percent: self.humid,
            wind_direction_deg: self.wind_dir,
            wind_speed_mph: self.wind_speed.map(|speed| (speed * 100.0).round() / 100.0),
            precipitation_in: self.precip,
            pressure_mbar: self.pressure,
            visibility_miles: self.visib,
        };
        (self.origin, self.time_hour, json(&observation))
    }
}

#[derive(Deserialize, Serialize)]
struct Airline {
    carrier: String,
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Airport {
    faa: String,
    name: String,
    lat: f64,
    lon: f64,
    alt: f64,
    tzone: String,
}

#[derive(Deserialize, Serialize)]
struct Plane {
    tailnum: String,
    #[serde(deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    year: Option<u16>,
    r#type: String,
    manufacturer: String,
    model: String,
    engines: u8,
    seats: u16,
    engine: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_week_of_2013_is_all_there() {
        let data = Dataset::load().unwrap();
        assert_eq!(data.departures.len(), 6_099);
        assert_eq!(data.weather.len(), 498);
        assert_eq!((data.airlines.len(), data.airports.len(), data.planes.len()), (16, 93, 1_729));
        assert!(data.departures.is_sorted_by_key(|event| event.at));
    }

    #[test]
    fn the_first_departure_is_the_one_in_the_file() {
        let data = Dataset::load().unwrap();
        let first = &data.departures[0];
        assert_eq!(first.key, "UA1545");
        assert_eq!(
            first.value,
            r#"{"flight":"UA1545","carrier":"UA","tail_number":"N14228","origin":"EWR","destination":"IAH","#
                .to_owned()
                + r#""scheduled":"2013-01-01T10:15:00Z","departed":"2013-01-01T10:17:00Z","cancelled":false,"#
                + r#""departure_delay_min":2.0,"arrival_delay_min":11.0,"air_time_min":227.0,"distance_miles":1400.0}"#
        );
    }

    #[test]
    fn a_flight_without_a_departure_is_cancelled_and_has_no_invented_times() {
        let data = Dataset::load().unwrap();
        let cancelled: Vec<_> = data.departures.iter().filter(|e| e.value.contains(r#""cancelled":true"#)).collect();
        assert!(!cancelled.is_empty());
        for event in cancelled {
            assert!(!event.value.contains("departed") && !event.value.contains("departure_delay_min"));
        }
    }
}
