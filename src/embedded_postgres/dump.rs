//! A copy of the catalog's database in one file, by PostgreSQL's own `pg_dump` and `pg_restore`.
//!
//! The dump is one snapshot, whatever happens meanwhile. Restoring is one transaction, into a database without tables.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Installation, StartError, program_succeeded, version_of};

/// Writes the database at `url` to `file`. `bin` and `data_dir` say where programs of the right version are.
pub fn dump(url: &str, bin: Option<&Path>, data_dir: &Path, file: &Path) -> Result<(), StartError> {
    let mut command = program("pg_dump", url, bin, data_dir);
    command.args(["--format=custom", "--no-owner", "--no-privileges", "--file"]).arg(file);
    run("pg_dump", command)
}

/// Puts what [`dump`] has written into the database at `url`: everything or nothing.
pub fn restore(url: &str, bin: Option<&Path>, data_dir: &Path, file: &Path) -> Result<(), StartError> {
    let mut command = program("pg_restore", url, bin, data_dir);
    command.args(["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]).arg(file);
    run("pg_restore", command)
}

fn run(program: &'static str, mut command: Command) -> Result<(), StartError> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| StartError::Program {
        program,
        detail: format!(
            "{e}. It is part of PostgreSQL's client programs (Debian: apt-get install postgresql-client); --pg-bin DIR says \
             where they are."
        ),
    })?;
    program_succeeded(program, &output)
}

/// The program of the cluster's version, or the one on the path; with the password where nobody else can see it.
fn program(name: &str, url: &str, bin: Option<&Path>, data_dir: &Path) -> Command {
    let cluster = super::Layout::new(data_dir).cluster();
    let found = Installation::find(bin, &cluster, version_of(&cluster).as_deref()).ok();
    let near = found.map(|found| found.bin.join(name)).filter(|path| path.is_file());
    let mut command = Command::new(near.unwrap_or_else(|| PathBuf::from(name)));
    let (url, password) = without_password(url);
    command.arg("--dbname").arg(url);
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    command
}

/// Splits the password off `postgres://USER:PASSWORD@HOST/…`: command lines can be seen by everybody on the machine.
fn without_password(url: &str) -> (String, Option<String>) {
    let split = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        let (credentials, host) = authority.rsplit_once('@')?;
        let (user, password) = credentials.split_once(':')?;
        let after = &rest[authority.len()..];
        Some((format!("{scheme}://{user}@{host}{after}"), percent_decode(password)?))
    };
    split().map_or_else(|| (url.to_owned(), None), |(url, password)| (url, Some(password)))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_reach_the_command_line() {
        let (url, password) = without_password("postgres://weir:s%40cr%2Ft@db:5432/weir?sslmode=require");
        assert_eq!(
            (url.as_str(), password.as_deref()),
            ("postgres://weir@db:5432/weir?sslmode=require", Some("s@cr/t"))
        );
        for plain in ["postgres://weir@localhost/weir?host=%2Ftmp", "postgres://db/weir", "nonsense"] {
            assert_eq!(without_password(plain), (plain.to_owned(), None));
        }
    }
}
