//! The command line.

mod backup;
mod log;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, Deps};
use crate::broker::embedded::Loss;
use crate::catalog::access::{Actor, Administer, Grant};
use crate::catalog::error::CatalogError;
use crate::catalog::model::{Scope, TokenSpec};
use crate::catalog::{Catalog, CatalogOptions};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Database, Options, Span};
use crate::demo::company;
use crate::embedded_postgres::{self, PrivatePostgres};
use crate::names::Email;
use crate::telemetry;
use std::sync::Arc;

/// Self-service, multi-tenant event streaming: portal, REST, SSE and a durable log in one program.
///
/// Without a command, weir serves. Every option can also be given in the environment (named in brackets) or in a TOML file
/// (--config), where --tls-cert is `cert` in the section `tls`. The command line wins over the environment, which wins
/// over the file.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the portal and the API (the default)
    Serve(Serve),
    /// Serve a demo company with live traffic: an airport whose departures of January 2013 are replayed
    Demo {
        /// How many seconds of the data pass in one second, 1 to 86400
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400), value_name = "N")]
        speed: u32,
    },
    /// Manage accounts from the machine that Weir runs on, beside the running server or without it
    #[command(subcommand)]
    Admin(Admin),
    /// Look at the stored records, beside the running server or without it; changes nothing
    ///
    /// Ends with 0 if what was read is sound, 1 if damage was found, 2 if there was nothing to read.
    #[command(subcommand)]
    Log(log::Log),
    /// Copy the records and the catalog to a new directory, beside the running server or without it
    ///
    /// The copy holds everything that was acknowledged before it began. It is checked when it is complete; it is complete
    /// when it has a file named BACKUP. Ends with 1 if the copy is damaged because the original is.
    Backup {
        /// A directory that does not exist or is empty
        dir: PathBuf,
    },
    /// Make a data directory, and its database, from a backup
    ///
    /// The data directory (--data-dir) must have no records, and the database (--database-url, or the private one) no tables.
    Restore {
        /// A directory that `weir backup` has made
        dir: PathBuf,
    },
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// Start although the log is damaged, without the commit groups that a refused start has named, and only without these
    #[arg(long, value_name = "GROUPS")]
    accept_loss: Option<Loss>,
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Make an account; its password is the last line of the output
    CreateUser {
        /// Address of the person
        email: Email,
        /// Let the account administer this instance
        #[arg(long)]
        admin: bool,
        /// Name to show; the part of the address before the @ if not given
        #[arg(long)]
        name: Option<String>,
    },
    /// Give an account a new password, the last line of the output, and end its sessions
    ResetPassword {
        /// Address of the account
        email: Email,
    },
    /// Make a personal token; it is the last line of the output
    CreateToken {
        /// Address of the account that the token acts for
        #[arg(long, value_name = "EMAIL")]
        user: Email,
        /// What the token may be used for; may be repeated [default: everything but admin and metrics:read]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// How long it lasts
        #[arg(long, default_value = "90d", value_name = "TIME")]
        ttl: Span,
        /// What to call it
        #[arg(long, default_value = "command line")]
        name: String,
    },
}

/// Runs the program and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("weir: {}", causes.join(": "));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // What Weir writes (records, the copy of the catalog, keys) is for its own eyes, whatever the shell's habit is.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // Variables that are not text cannot be ours.
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = Config::load(cli.options, &environment.collect())?;
    telemetry::start_logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("weir").build()?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve(Serve::default())) {
            Command::Serve(given) => Box::pin(serve(config, given, None)).await?,
            Command::Demo { speed } => Box::pin(serve(config, Serve::default(), Some(speed))).await?,
            Command::Admin(command) => Box::pin(admin(config, command)).await?,
            Command::Log(command) => return Ok(Box::pin(log::run(&config.data_dir, command)).await),
            Command::Backup { dir } => return Box::pin(backup::back_up(config, &dir)).await,
            Command::Restore { dir } => return Box::pin(backup::restore(config, &dir)).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves until SIGTERM or SIGINT; a second one does not wait for open requests and streams.
///
/// `demo_speed` fills the server with the demo's company first.
async fn serve(config: Config, given: Serve, demo_speed: Option<u32>) -> anyhow::Result<()> {
    // Listened for from the start: a signal during the start must not leave half a PostgreSQL behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start_with(config, Deps { accept_loss: given.accept_loss, ..Deps::default() }).await?;
    match demo_speed {
        None => announce(&app).await?,
        Some(speed) => demo(&app, speed).await?,
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; a second signal stops at once");
    let now = app.stop().now;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        now.cancel();
    });
    app.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Tells the person at the keyboard where to go and what to try.
async fn announce(app: &App) -> anyhow::Result<()> {
    let url = app.url();
    let mut text = format!("\n  Weir is ready at {url}\n  data in {}\n", app.data_dir().display());
    match app.setup_link().await {
        Ok(None) => {}
        Ok(Some(link)) => text.push_str(&format!(
            "\n  First run. Make the administrator's account with this one-time link:\n  {link}\n"
        )),
        Err(CatalogError::Unavailable(_)) => text.push_str(
            "\n  PostgreSQL cannot be reached. Records flow by the last known rights; signing in and changes wait for it.\n",
        ),
        Err(error) => return Err(error.into()),
    }
    let trust =
        app.certificate_file().filter(|_| url.starts_with("https://127.") || url.starts_with("https://localhost"));
    let trust = trust.map_or_else(String::new, |file| format!(" --cacert {}", file.display()));
    text.push_str(&format!("\n  Try it:\n  curl{trust} {url}/v1/status\n\n"));
    print(&text)
}

/// Fills the server with the demo's company, starts its traffic, and says how to look at it.
async fn demo(app: &App, speed: u32) -> anyhow::Result<()> {
    let password = app.start_demo(f64::from(speed)).await.context("the demo's company cannot be made")?;
    let (url, person) = (app.url(), company::SIGN_IN_AS);
    let password = password.map_or_else(
        || format!("the password of the first run (a new one: weir admin reset-password {person})"),
        |password| format!("{} (shown this once)", password.expose()),
    );
    print(&format!(
        "\n  The airport is open at {url}\n  data in {}\n\n  Sign in as {person} with {password}\n  \
         Departures leave {speed} times as fast as in 2013: look at {url}/topics/{}\n\n",
        app.data_dir().display(),
        company::DEPARTURES,
    ))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Does one thing to the catalog, beside the server that runs on the same data directory, or alone.
async fn admin(config: Config, command: Admin) -> anyhow::Result<()> {
    let (postgres, url) = open_database(config).await?;
    let catalog =
        Catalog::connect(CatalogOptions { connections: 2, ..CatalogOptions::new(url) }, Arc::new(SystemClock));
    let catalog = catalog.await.context("the catalog cannot be opened")?;
    let result = administer(&catalog, command).await;
    catalog.close().await;
    if let Some(postgres) = postgres {
        tokio::task::spawn_blocking(move || postgres.stop()).await?;
    }
    print(&result?)
}

/// The configured database, or the private one: that of the running server, or started for the moment.
async fn open_database(config: Config) -> anyhow::Result<(Option<PrivatePostgres>, String)> {
    match config.database {
        Database::Url(url) => Ok((None, url.expose().to_owned())),
        Database::Private { bin } => {
            let options = embedded_postgres::Options { bin, ..embedded_postgres::Options::new(config.data_dir) };
            let started = tokio::task::spawn_blocking(move || PrivatePostgres::share_or_start(&options));
            let postgres = started.await??;
            let url = postgres.url();
            Ok((Some(postgres), url))
        }
    }
}

async fn administer(catalog: &Catalog, command: Admin) -> anyhow::Result<String> {
    let grant: Grant<Administer> = catalog.authorize(&Actor::system(), &())?;
    match command {
        Admin::CreateUser { email, admin, name } => {
            let name = name.unwrap_or_else(|| email.as_str().split('@').next().unwrap_or_default().to_owned());
            let (user, password) = catalog.create_user(&grant, &email, &name, admin, None).await?;
            let password = password.context("the catalog made no password")?;
            let role = if user.admin { "administrator" } else { "user" };
            Ok(format!("Made the {role} {}. The password, shown this once:\n{}\n", user.email, password.expose()))
        }
        Admin::ResetPassword { email } => {
            let password = catalog.reset_password(&grant, &email, None).await?;
            let password = password.context("the catalog made no password")?;
            Ok(format!("{email} is signed out everywhere. The new password, shown this once:\n{}\n", password.expose()))
        }
        Admin::CreateToken { user, scopes, ttl, name } => {
            let spec = TokenSpec {
                name,
                scopes: scopes_or_default(scopes),
                topics: Vec::new(),
                expires_at: Some(expiry(ttl.0)?),
            };
            let (token, secret) = catalog.create_token_for(&grant, &user, &spec).await?;
            let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
            Ok(format!("Made a token for {user}: {}. Shown this once:\n{}\n", scopes.join(" "), secret.expose()))
        }
    }
}

/// What a person needs day by day. Administration and metrics are asked for by name.
fn scopes_or_default(scopes: Vec<Scope>) -> Vec<Scope> {
    if !scopes.is_empty() {
        return scopes;
    }
    Scope::ALL.iter().copied().filter(|scope| !matches!(scope, Scope::Admin | Scope::MetricsRead)).collect()
}

fn expiry(ttl: Duration) -> anyhow::Result<time::OffsetDateTime> {
    let ttl = time::Duration::try_from(ttl).ok();
    ttl.and_then(|ttl| SystemClock.now_datetime().checked_add(ttl)).context("--ttl is too long")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command_or_without_one() {
        for line in [
            vec!["weir", "--data-dir", "d"],
            vec!["weir", "serve", "--data-dir", "d"],
            vec!["weir", "--data-dir", "d", "serve"],
            vec!["weir", "serve", "--accept-loss", "17-19,25-", "--data-dir", "d"],
            vec!["weir", "log", "verify", "--data-dir", "d"],
            vec!["weir", "admin", "create-user", "ada@example.com", "--admin", "--data-dir", "d"],
        ] {
            let cli = Cli::try_parse_from(&line).unwrap();
            assert_eq!(cli.options.data_dir.unwrap().to_str(), Some("d"), "{line:?}");
        }
    }

    #[test]
    fn a_token_without_scopes_gets_the_everyday_ones() {
        let scopes = scopes_or_default(Vec::new());
        assert!(scopes.contains(&Scope::RecordsProduce) && !scopes.contains(&Scope::Admin));
        assert_eq!(scopes_or_default(vec![Scope::Admin]), [Scope::Admin]);
    }

    #[test]
    fn a_wrong_scope_is_refused_with_the_list_of_right_ones() {
        let line = ["weir", "admin", "create-token", "--user", "a@b.c", "--scope", "records:write"];
        let refused = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(refused.contains("records:produce"), "{refused}");
    }
}
