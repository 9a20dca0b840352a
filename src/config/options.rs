//! The options as the sources give them. One declaration makes the flag, the variable and the key of the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::{AddressRange, DatabaseUrl, LogFormat, Span};

/// Values of one source. `None`: this source says nothing.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Read options from this TOML file
    #[arg(long, id = "config", env = "WEIR_CONFIG", value_name = "FILE", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Keep everything below this directory [default: ./weir-data]
    #[arg(long, id = "data_dir", env = "WEIR_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Serve the portal and the API at this address [default: 127.0.0.1:8080]
    #[arg(long, id = "listen", env = "WEIR_LISTEN", value_name = "ADDR", global = true)]
    pub listen: Option<SocketAddr>,

    /// The address that people and clients use, when a proxy stands in between: `https://weir.example.com`
    #[arg(long, id = "public_url", env = "WEIR_PUBLIC_URL", value_name = "URL", global = true)]
    pub public_url: Option<String>,

    /// Also serve /metrics, without a token, at this address
    #[arg(long, id = "metrics_listen", env = "WEIR_METRICS_LISTEN", value_name = "ADDR", global = true)]
    pub metrics_listen: Option<SocketAddr>,

    /// Believe X-Forwarded-For and -Proto from these addresses or ranges, separated by commas
    #[arg(
        long,
        id = "trusted_proxies",
        env = "WEIR_TRUSTED_PROXIES",
        value_name = "RANGES",
        value_delimiter = ',',
        global = true
    )]
    #[serde(deserialize_with = "address_ranges")]
    pub trusted_proxies: Option<Vec<AddressRange>>,

    #[command(flatten)]
    pub database: DatabaseOptions,
    #[command(flatten)]
    pub pg: PgOptions,
    #[command(flatten)]
    pub tls: TlsOptions,
    #[command(flatten)]
    pub http: HttpOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// `[database]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// Use this PostgreSQL instead of a private one; the variable DATABASE_URL works too
    #[arg(long = "database-url", id = "database.url", env = "WEIR_DATABASE_URL", value_name = "URL", global = true)]
    #[arg(hide_env_values = true)]
    pub url: Option<DatabaseUrl>,
}

/// `[pg]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Database")]
pub struct PgOptions {
    /// Folder of initdb and postgres for the private PostgreSQL [default: searched for]
    #[arg(long = "pg-bin", id = "pg.bin", env = "WEIR_PG_BIN", value_name = "DIR", global = true)]
    pub bin: Option<PathBuf>,
}

/// `[tls]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// Certificate chain (PEM); a changed file is taken without a restart
    #[arg(long = "tls-cert", id = "tls.cert", env = "WEIR_TLS_CERT", value_name = "FILE", global = true)]
    pub cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long = "tls-key", id = "tls.key", env = "WEIR_TLS_KEY", value_name = "FILE", global = true)]
    pub key: Option<PathBuf>,

    /// Encrypt with a self-made certificate, kept in the data directory. For development
    #[arg(long = "dev-tls", id = "tls.dev", env = "WEIR_DEV_TLS", global = true)]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    pub dev: Option<bool>,
}

/// `[http]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Limits")]
pub struct HttpOptions {
    /// Most connections open at once [default: 20000, or what the file limit leaves]
    #[arg(long = "http-connections-max", id = "http.connections_max", env = "WEIR_HTTP_CONNECTIONS_MAX")]
    #[arg(value_name = "N", global = true, hide_short_help = true)]
    pub connections_max: Option<usize>,

    /// Most connections from one address, or from one IPv6 /64; trusted proxies are exempt [default: 10000]
    #[arg(long = "http-connections-per-address-max", id = "http.connections_per_address_max")]
    #[arg(env = "WEIR_HTTP_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N", global = true, hide_short_help = true)]
    pub connections_per_address_max: Option<usize>,

    /// Time until the head of the next request, or a TLS handshake, must be complete [default: 30s]
    #[arg(long = "http-header-timeout", id = "http.header_timeout", env = "WEIR_HTTP_HEADER_TIMEOUT")]
    #[arg(value_name = "TIME", global = true, hide_short_help = true)]
    pub header_timeout: Option<Span>,

    /// Time that requests and streams get to end at shutdown [default: 10s]
    #[arg(long = "http-drain", id = "http.drain", env = "WEIR_HTTP_DRAIN", value_name = "TIME", global = true)]
    #[arg(hide_short_help = true)]
    pub drain: Option<Span>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Logging")]
pub struct LogOptions {
    /// Look of log lines [default: text]
    #[arg(long = "log-format", id = "log.format", env = "WEIR_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or a filter like weir=debug [default: info]
    #[arg(long = "log-level", id = "log.level", env = "WEIR_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub level: Option<String>,
}

fn address_ranges<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<AddressRange>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|t| t.parse().map_err(serde::de::Error::custom)).collect::<Result<_, _>>().map(Some)
}

impl Options {
    /// These values, and those of `lower` where these say nothing.
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            config: self.config,
            data_dir: self.data_dir.or(lower.data_dir),
            listen: self.listen.or(lower.listen),
            public_url: self.public_url.or(lower.public_url),
            metrics_listen: self.metrics_listen.or(lower.metrics_listen),
            trusted_proxies: self.trusted_proxies.or(lower.trusted_proxies),
            database: DatabaseOptions { url: self.database.url.or(lower.database.url) },
            pg: PgOptions { bin: self.pg.bin.or(lower.pg.bin) },
            tls: TlsOptions {
                cert: self.tls.cert.or(lower.tls.cert),
                key: self.tls.key.or(lower.tls.key),
                dev: self.tls.dev.or(lower.tls.dev),
            },
            http: HttpOptions {
                connections_max: self.http.connections_max.or(lower.http.connections_max),
                connections_per_address_max: self
                    .http
                    .connections_per_address_max
                    .or(lower.http.connections_per_address_max),
                header_timeout: self.http.header_timeout.or(lower.http.header_timeout),
                drain: self.http.drain.or(lower.http.drain),
            },
            log: LogOptions { format: self.log.format.or(lower.log.format), level: self.log.level.or(lower.log.level) },
        }
    }
}
