//! The configuration. Every option has one name in three spellings: `--tls-cert` on the command line, `WEIR_TLS_CERT` in the
//! environment, `tls.cert` in the TOML file. The command line wins over the environment, which wins over the file.
//!
//! A key that Weir does not know is refused, with its name and what was probably meant.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{CommandFactory as _, ValueEnum};
use serde::Deserialize;

mod address_range;
mod options;

pub use address_range::AddressRange;
pub use options::{DatabaseOptions, HttpOptions, LogOptions, Options, PgOptions, TlsOptions};

/// Largest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How many letters a wrong key may differ from the one that was probably meant.
const TYPO_LETTERS_MAX: usize = 2;

/// The configuration of a running server: complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where records, the private PostgreSQL and the development certificate live.
    pub data_dir: PathBuf,
    /// Where the portal and the API listen.
    pub listen: SocketAddr,
    /// How clients reach this server, without a slash at the end; set it when a proxy stands in between.
    pub public_url: Option<String>,
    /// Where `/metrics` is served without a token.
    pub metrics_listen: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// The catalog's database.
    pub database: Database,
    /// Where PostgreSQL's programs are, if not where they are searched for.
    pub pg_bin: Option<PathBuf>,
    /// Encryption.
    pub tls: Tls,
    /// Bounds of the listener.
    pub http: Http,
    /// What is logged and how.
    pub log: Log,
}

/// Which PostgreSQL the catalog uses.
#[derive(Debug, Clone)]
pub enum Database {
    /// A server of somebody's own.
    Url(DatabaseUrl),
    /// The private one below the data directory.
    Private {
        /// Folder of the PostgreSQL programs; searched for if not given.
        bin: Option<PathBuf>,
    },
}

/// A connection string. Holds a password, so it does not print itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The text with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self(text.to_owned()))
        } else {
            Err("a database URL looks like postgres://USER:PASSWORD@HOST:5432/DATABASE".to_owned())
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: on the loopback address, or behind a proxy that does.
    Off,
    /// With this certificate chain and key, both PEM.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// With a certificate of our own making that no client trusts by itself. For development.
    Development,
}

/// Bounds of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// Connections open at once.
    pub connections_max: usize,
    /// The same, from one address (IPv6: one /64).
    pub connections_per_address_max: usize,
    /// Time until the head of the next request is complete; an idle connection ends after it too.
    pub header_timeout: Duration,
    /// Time that open requests and streams get to end at shutdown.
    pub drain: Duration,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// `info`, or a filter such as `weir=debug,sqlx=warn`.
    pub level: String,
}

/// The look of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }
    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}

/// A length of time as people write it: `500ms`, `10s`, `5m`, `12h`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a length of time such as 500ms, 10s, 5m, 12h or 90d");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = text[..digits].parse().map_err(|_| bad())?;
        let unit_ms: u64 = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        number.checked_mul(unit_ms).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(bad)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`{}", did_you_mean(probably))]
    UnknownKey {
        /// The file, or "the environment".
        place: String,
        /// The key with its path.
        key: String,
        /// What was probably meant.
        probably: Option<String>,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
}

fn did_you_mean(probably: &Option<String>) -> String {
    probably.as_ref().map_or_else(String::new, |p| format!("; did you mean `{p}`?"))
}

impl Config {
    /// Puts the sources together. `given` is what the command line and the environment say.
    pub fn load(given: Options, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        refuse_misspelt_variables(environment)?;
        let file = given.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let mut options = given.or(file);
        if options.database.url.is_none()
            && let Some(url) = environment.get("DATABASE_URL").filter(|url| !url.is_empty())
        {
            let bad =
                |_| ConfigError::Conflict("DATABASE_URL must look like postgres://USER:PASSWORD@HOST:5432/DATABASE");
            options.database.url = Some(url.parse().map_err(bad)?);
        }
        Self::from_options(options)
    }

    /// Fills in the defaults and checks what must go together.
    pub fn from_options(options: Options) -> Result<Self, ConfigError> {
        let pg_bin = options.pg.bin.clone();
        let database = match options.database.url {
            Some(url) => Database::Url(url),
            None => Database::Private { bin: options.pg.bin },
        };
        Ok(Self {
            data_dir: options.data_dir.unwrap_or_else(|| "./weir-data".into()),
            listen: options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            public_url: options.public_url.map(check_public_url).transpose()?,
            metrics_listen: options.metrics_listen,
            trusted_proxies: options.trusted_proxies.unwrap_or_default(),
            database,
            pg_bin,
            tls: options.tls.resolve()?,
            http: options.http.resolve(),
            log: Log {
                format: options.log.format.unwrap_or(LogFormat::Text),
                level: options.log.level.unwrap_or_else(|| "info".to_owned()),
            },
        })
    }
}

impl TlsOptions {
    fn resolve(self) -> Result<Tls, ConfigError> {
        match (self.cert, self.key, self.dev.unwrap_or(false)) {
            (None, None, false) => Ok(Tls::Off),
            (None, None, true) => Ok(Tls::Development),
            (Some(cert), Some(key), false) => Ok(Tls::Files { cert, key }),
            (Some(_), Some(_), true) => {
                Err(ConfigError::Conflict("--dev-tls makes its own certificate: leave out --tls-cert and --tls-key"))
            }
            _ => Err(ConfigError::Conflict("--tls-cert and --tls-key go together: give both")),
        }
    }
}

impl HttpOptions {
    fn resolve(self) -> Http {
        Http {
            connections_max: self.connections_max.unwrap_or(20_000).max(1),
            connections_per_address_max: self.connections_per_address_max.unwrap_or(10_000).max(1),
            header_timeout: self.header_timeout.map_or(Duration::from_secs(30), |s| s.0),
            drain: self.drain.map_or(Duration::from_secs(10), |s| s.0),
        }
    }
}

fn check_public_url(url: String) -> Result<String, ConfigError> {
    let bad = ConfigError::Conflict("--public-url must be like https://weir.example.com, without a path");
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => Ok(url.to_owned()),
        _ => Err(bad),
    }
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse_file(path, &text)
}

fn parse_file(path: &Path, text: &str) -> Result<Options, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid { path: path.to_owned(), message };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| invalid(e.to_string()))?;
    let known = known_keys();
    for key in leaf_keys("", &table) {
        if !known.contains(&key) {
            let probably = nearest(&key, known.iter().map(String::as_str));
            return Err(ConfigError::UnknownKey { place: path.display().to_string(), key, probably });
        }
    }
    let parsed: Result<Options, _> = serde_path_to_error::deserialize(table);
    parsed.map_err(|e| invalid(format!("`{}`: {}", e.path(), e.inner().message())))
}

/// `tls.cert`, … : every key that the file may have.
fn known_keys() -> Vec<String> {
    arguments().into_iter().map(|a| a.get_id().to_string()).filter(|id| id != "config").collect()
}

/// The declarations of all options.
pub(crate) fn arguments() -> Vec<clap::Arg> {
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        _options: Options,
    }
    Only::command().get_arguments().cloned().collect()
}

/// The path of every value that is not a table; an empty table counts as a value, so that a wrong section is noticed.
fn leaf_keys(prefix: &str, table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => keys.extend(leaf_keys(&key, inner)),
            toml::Value::Table(_) if known_keys().iter().any(|k| k.starts_with(&format!("{key}."))) => {}
            _ => keys.push(key),
        }
    }
    keys
}

/// A variable that differs from one of ours by a letter or two is a mistake that would otherwise go unnoticed. Others that
/// begin with `WEIR_` are somebody's own: orchestrators make `WEIR_SERVICE_HOST` for a service called weir.
fn refuse_misspelt_variables(environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let known: Vec<String> = arguments().iter().filter_map(|a| a.get_env()?.to_str().map(str::to_owned)).collect();
    for name in environment.keys().filter(|name| name.starts_with("WEIR_") && !known.contains(name)) {
        if let Some(probably) = nearest(name, known.iter().map(String::as_str)) {
            return Err(ConfigError::UnknownKey {
                place: "the environment".to_owned(),
                key: name.clone(),
                probably: Some(probably),
            });
        }
    }
    Ok(())
}

fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|k| (strsim::damerau_levenshtein(wrong, k), k))
        .filter(|(distance, _)| *distance <= TYPO_LETTERS_MAX)
        .min()
        .map(|(_, k)| k.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn file(text: &str) -> Result<Options, ConfigError> {
        parse_file(Path::new("weir.toml"), text)
    }

    #[test]
    fn every_option_has_the_same_name_in_all_three_places() {
        for argument in arguments() {
            let id = argument.get_id().as_str();
            // --dev-tls reads better than --tls-dev; all others follow the rule.
            let words = if id == "tls.dev" { "dev-tls".to_owned() } else { id.replace(['.', '_'], "-") };
            assert_eq!(argument.get_long(), Some(words.as_str()));
            let variable = format!("WEIR_{}", words.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|e| e.to_str()), Some(variable.as_str()), "{id}");
            assert!(argument.get_help().is_some(), "{id} has no help");
        }
    }

    #[test]
    fn every_key_of_the_file_is_read() {
        let options = file(
            "data_dir = '/d'\nlisten = '[::1]:1'\npublic_url = 'https://w.example'\nmetrics_listen = '127.0.0.1:2'\n\
             trusted_proxies = ['10.0.0.0/8']\n[database]\nurl = 'postgres://u@h/d'\n[pg]\nbin = '/b'\n\
             [tls]\ncert = 'c'\nkey = 'k'\ndev = true\n[http]\nconnections_max = 5\nconnections_per_address_max = 4\n\
             header_timeout = '2s'\ndrain = '3m'\n[log]\nformat = 'json'\nlevel = 'debug'\n",
        )
        .unwrap();
        let text = format!("{options:?}");
        let unread = text.matches("None").count();
        assert_eq!(unread, 1, "only `config` itself is not in the file: {text}");
        assert_eq!(options.http.drain, Some(Span(Duration::from_secs(180))));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name_and_what_was_meant() {
        let text = file("[tls]\ncertt = 'x'").unwrap_err().to_string();
        assert_eq!(text, "weir.toml: unknown key `tls.certt`; did you mean `tls.cert`?");
        let text = file("[quux]\na = 1").unwrap_err().to_string();
        assert_eq!(text, "weir.toml: unknown key `quux.a`");
        assert!(file("[quux]").unwrap_err().to_string().contains("`quux`"));
        assert!(file("[tls]").is_ok());
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_path_of_its_key() {
        let text = file("[http]\ndrain = 'soon'").unwrap_err().to_string();
        assert!(text.contains("`http.drain`") && text.contains("500ms"), "{text}");
        let text = file("listen = 8080").unwrap_err().to_string();
        assert!(text.contains("`listen`"), "{text}");
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_a_strangers_is_not() {
        let refused = Config::load(Options::default(), &environment("WEIR_LISTN", "x")).unwrap_err().to_string();
        assert_eq!(refused, "the environment: unknown key `WEIR_LISTN`; did you mean `WEIR_LISTEN`?");
        for name in ["WEIR_SERVICE_HOST", "WEIR_TOKEN", "WEIR_URL"] {
            assert!(Config::load(Options::default(), &environment(name, "x")).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_the_file_over_the_default() {
        let given = Options { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9))), ..Options::default() };
        let merged =
            Config::from_options(given.or(file("listen = '127.0.0.1:7'\n[log]\nlevel = 'warn'").unwrap())).unwrap();
        assert_eq!(merged.listen.port(), 9);
        assert_eq!(merged.log.level, "warn");
        assert_eq!(merged.data_dir, PathBuf::from("./weir-data"));
    }

    #[test]
    fn the_well_known_variable_names_the_database_and_its_password_is_not_printed() {
        let url = "postgres://u:hunter2@h/d";
        let config = Config::load(Options::default(), &environment("DATABASE_URL", url)).unwrap();
        assert!(matches!(&config.database, Database::Url(found) if found.expose() == url));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(Config::load(Options::default(), &environment("DATABASE_URL", "mysql://x")).is_err());
    }

    #[test]
    fn half_a_pair_and_two_kinds_of_tls_are_refused() {
        let tls = |cert: bool, key: bool, dev| {
            let path = |given: bool| given.then(|| PathBuf::from("f"));
            TlsOptions { cert: path(cert), key: path(key), dev: Some(dev) }.resolve()
        };
        assert!(tls(true, false, false).is_err() && tls(false, true, false).is_err() && tls(true, true, true).is_err());
        assert_eq!(tls(false, false, true).unwrap(), Tls::Development);
        assert_eq!(tls(false, false, false).unwrap(), Tls::Off);
    }

    #[test]
    fn a_public_address_has_a_scheme_and_no_path() {
        assert_eq!(check_public_url("https://w.example:8443/".to_owned()).unwrap(), "https://w.example:8443");
        for bad in ["w.example", "ftp://w", "https://", "https://w/x", "https://u@w"] {
            assert!(check_public_url(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_need_a_unit() {
        assert_eq!("90d".parse(), Ok(Span(Duration::from_secs(90 * 86_400))));
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        for bad in ["", "10", "s", "-1s", "1.5s", "10 s", "99999999999999999999d", "18446744073709551615d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
