//! What the architecture says, held against the source. Each table is the rule; change the architecture there, on purpose.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file before its tests.
const LINES_MAX: usize = 600;

/// Which modules a module may use. The order is the one of dependence: everything points to the right or downwards.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "broker", "catalog", "clock", "config", "demo", "embedded_postgres", "names", "telemetry"]),
    (
        "app",
        &[
            "broker",
            "catalog",
            "clock",
            "config",
            "demo",
            "embedded_postgres",
            "gateway",
            "names",
            "provision",
            "telemetry",
            "web",
        ],
    ),
    ("demo", &["broker", "catalog", "clock", "gateway", "names", "provision"]),
    ("web", &["broker", "catalog", "clock", "config", "gateway", "names", "provision", "telemetry"]),
    ("gateway", &["broker", "catalog", "clock", "names"]),
    ("provision", &["broker", "catalog", "clock", "names"]),
    ("catalog", &["clock", "names"]),
    ("broker", &["clock", "names"]),
    ("telemetry", &["config"]),
    ("embedded_postgres", &[]),
    ("config", &[]),
    ("names", &[]),
    ("clock", &[]),
];

/// Where files are opened.
const FILES_IN: &[&str] = &[
    "src/broker/disk/",
    "src/config.rs",
    "src/embedded_postgres",
    "src/web/tls.rs",
    "src/demo/dataset.rs",
    "src/cli/backup.rs",
];

/// In which files something may appear, as beginnings of paths, and why only there.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "sqlx::",
        &["src/catalog/", "src/names.rs", "src/lib.rs"],
        "the catalog alone speaks to the database; names are stored as they are",
    ),
    ("axum::", &["src/web/"], "HTTP ends at the web"),
    ("hyper::", &["src/web/server.rs"], "connections are the accept loop's"),
    ("askama::", &["src/web/"], "pages are the portal's"),
    ("sled::", &["src/catalog/local_view.rs"], "it holds only what can be thrown away (I13)"),
    ("std::fs", FILES_IN, "files are opened by the engine's disk, at the start, and for backups (I8)"),
    ("File::open", FILES_IN, "files are opened by the engine's disk, at the start, and for backups (I8)"),
    ("now_utc(", &["src/clock.rs"], "time enters by the clock (I8)"),
    ("SystemTime::now", &["src/clock.rs"], "time enters by the clock (I8)"),
    ("SystemClock", &["src/clock.rs", "src/app.rs", "src/cli"], "which clock it is, is decided at the start (I8)"),
    ("unsafe {", &["src/embedded_postgres/identity.rs"], "only between fork and exec of a child"),
    ("mpsc::unbounded", &[], "every queue has a bound (I7)"),
    ("unbounded_channel", &[], "every queue has a bound (I7)"),
    ("#[allow(", &[], "#[expect] goes away with its reason"),
    ("todo!(", &[], "what is landed is done"),
    ("unimplemented!(", &[], "what is landed is done"),
    ("Grant { actor", &["src/catalog/access.rs"], "only the authoriser makes grants (I5)"),
];

struct Source {
    /// `src/web/api/topics.rs`
    path: String,
    /// Without the unit tests at its end and without comments.
    code: String,
    lines: usize,
}

impl Source {
    fn module(&self) -> &str {
        let below = self.path.trim_start_matches("src/");
        below.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_test_support(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || name.ends_with("tests.rs") || matches!(name, "testing.rs" | "conformance.rs")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files_below(&root().join("src"), "rs", &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = before_tests.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let path = path.strip_prefix(root()).unwrap().display().to_string();
    Source { path, code, lines: before_tests.lines().count() }
}

fn without_comment(line: &str) -> &str {
    // "//" inside of an address in a string is no comment.
    let start = line.match_indices("//").find(|(at, _)| *at == 0 || line[..*at].ends_with(char::is_whitespace));
    start.map_or(line, |(at, _)| &line[..at])
}

/// The modules that a file names after `crate::`, also in `use crate::{a, b::c}`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let parts = match after.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![after],
        };
        for part in parts {
            let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.starts_with(|c: char| c.is_lowercase()) {
                used.insert(name);
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.module() != "lib" && !s.is_test_support()) {
        let row = MAY_USE.iter().find(|(module, _)| *module == source.module());
        let Some((module, allowed)) = row else {
            wrong.push(format!("{}: the module is not in the table", source.path));
            continue;
        };
        for used in used_modules(&source.code) {
            if used != *module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses crate::{used}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_and_dangers_stay_in_their_files() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test_support()) {
        for (what, places, why) in ONLY_IN {
            let at_home = places.iter().any(|place| source.path.starts_with(place));
            if !at_home && source.code.contains(what) {
                wrong.push(format!("{} has `{what}`: {why}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One handler that calls another is two requests in one; what both need lies in the catalog, the gateway, or in a file
/// beside them that has no handlers.
#[test]
fn the_files_of_a_face_do_not_call_each_other() {
    let mut wrong = Vec::new();
    for face in ["src/web/api/", "src/web/ui/"] {
        let files: Vec<Source> = sources().into_iter().filter(|s| s.path.starts_with(face)).collect();
        let name_of = |file: &Source| file.path.trim_start_matches(face).trim_end_matches(".rs").to_owned();
        let with_handlers: BTreeSet<String> =
            files.iter().filter(|file| file.code.contains("pub fn router(")).map(name_of).collect();
        for file in files.iter().filter(|file| !file.path.ends_with("/mod.rs")) {
            let module = face.trim_start_matches("src/").replace('/', "::");
            for name in with_handlers.iter().filter(|name| **name != name_of(file)) {
                // In a folder of its own, `super` is that folder.
                let neighbour = file.path.matches('/').count() == 3 && file.code.contains(&format!("super::{name}::"));
                if neighbour || file.code.contains(&format!("crate::{module}{name}::")) {
                    wrong.push(format!("{} calls {name}", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_be_read_in_one_go() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|s| s.lines > LINES_MAX && !s.is_test_support())
        .map(|s| format!("{}: {} lines", s.path, s.lines))
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_promises() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|s| !matches!(s.path.as_str(), "src/main.rs") && !s.path.ends_with("/tests.rs"))
        .filter(|s| !fs::read_to_string(root().join(&s.path)).unwrap().starts_with("//!"))
        .map(|s| s.path)
        .collect();
    assert!(silent.is_empty(), "no //! at the top of:\n{}", silent.join("\n"));
}

/// The page of the architecture lists the invariants with the tests that hold them. A test that was renamed or removed is
/// missed here.
#[test]
fn every_invariant_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| I") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut paths = Vec::new();
    files_below(&root().join("src"), "rs", &mut paths);
    files_below(&root().join("tests"), "rs", &mut paths);
    let all: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for (number, row) in (1..).zip(&rows) {
        assert_eq!(row[0], format!("I{number}"), "the invariants are numbered in order");
        let tests: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{} names no test", row[0]);
        for test in tests.iter().map(|t| t.rsplit("::").next().unwrap_or(t)) {
            let known = all.contains(&format!("fn {test}(")) || root().join(test).exists();
            assert!(known, "{}: there is no test {test}", row[0]);
        }
    }
    assert_eq!(rows.len(), 15, "fifteen invariants");
}

#[test]
fn queries_are_checked_by_the_compiler() {
    for source in sources().iter().filter(|s| s.path.starts_with("src/catalog/") && !s.is_test_support()) {
        for unchecked in ["sqlx::query(", "sqlx::query_as(", "sqlx::query_scalar(", "AssertSqlSafe"] {
            assert!(!source.code.contains(unchecked), "{} has {unchecked}: use the macro", source.path);
        }
    }
}

/// The table of options in the operations manual is the one of the program.
#[test]
fn the_manual_lists_every_option_with_its_three_names() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let variables: BTreeSet<&str> =
        help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap_or_default()).collect();
    assert!(variables.len() > 10, "{variables:?}");
    let rows: Vec<Vec<&str>> = manual
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(listed, variables);
    for row in &rows {
        let flag = row[0].split(' ').next().unwrap_or_default();
        assert!(help.contains(flag), "{flag}");
        let variable = format!("WEIR_{}", flag.trim_start_matches("--").replace('-', "_").to_uppercase());
        assert_eq!(row[1], variable);
    }
}
