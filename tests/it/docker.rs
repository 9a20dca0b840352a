//! The container files, held against the program: every option, path and port they use exists.

use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_serde::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// What the program says about its options, long form.
fn help() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The instructions of a Dockerfile, continued lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

fn of<'a>(instructions: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    instructions.iter().filter(move |(n, _)| n == name).map(|(_, rest)| rest.as_str())
}

fn environment(instructions: &[(String, String)]) -> Vec<(String, String)> {
    let pairs = of(instructions, "ENV").flat_map(str::split_whitespace);
    pairs.map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap()).collect()
}

#[track_caller]
fn assert_known(variable: &str, help: &str) {
    let known = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {variable}{end}")));
    assert!(known, "weir does not know {variable}");
}

#[test]
fn the_image_is_built_from_files_that_exist_and_options_that_are_known() {
    let instructions = instructions(&file("Dockerfile"));
    let help = help();
    let variables = environment(&instructions);
    assert!(!variables.is_empty());
    for (name, _) in &variables {
        assert_known(name, &help);
    }
    for copy in of(&instructions, "COPY").filter(|copy| !copy.starts_with("--from=")) {
        let (sources, _) = copy.rsplit_once(' ').unwrap();
        for source in sources.split_whitespace() {
            assert!(root().join(source).exists(), "COPY {source}");
        }
    }
    let ignored = file(".dockerignore");
    for needed in
        ["Cargo.toml", "Cargo.lock", "src", "templates", "static", "migrations", ".sqlx", ".cargo", "tests", "benches"]
    {
        assert!(
            !ignored.lines().any(|line| line.trim_start_matches('/') == needed),
            "{needed} is left out of the build"
        );
    }
    let stages: Vec<&str> = of(&instructions, "FROM").collect();
    let named = stages.iter().filter_map(|stage| stage.split_once(" AS ").map(|(_, name)| name));
    for name in named {
        assert!(
            of(&instructions, "COPY").any(|copy| copy.contains(&format!("--from={name}"))),
            "nothing comes from {name}"
        );
    }
}

#[test]
fn the_image_runs_as_an_ordinary_user_on_the_port_it_exposes() {
    let instructions = instructions(&file("Dockerfile"));
    let variables = environment(&instructions);
    let value = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap();
    let exposed: Vec<&str> = of(&instructions, "EXPOSE").collect();
    assert_eq!(exposed, [value("WEIR_LISTEN").rsplit(':').next().unwrap()]);
    let volumes: Vec<&str> = of(&instructions, "VOLUME").collect();
    assert_eq!(volumes, [value("WEIR_DATA_DIR")]);
    let user = of(&instructions, "USER").last().unwrap();
    assert_ne!(user, "root");
    assert!(of(&instructions, "RUN").any(|run| run.contains("useradd") && run.ends_with(user)), "the user is made");
    let help = help();
    for command in of(&instructions, "CMD") {
        let words: Vec<String> = serde_json::from_str(command).unwrap();
        assert!(help.contains(&format!("\n  {} ", words[0])), "weir has no command {words:?}");
    }
    let rust = of(&instructions, "FROM").next().unwrap();
    let wanted = file("Cargo.toml")
        .lines()
        .find_map(|l| l.strip_prefix("rust-version = ").map(|v| v.trim_matches('"').to_owned()));
    assert!(rust.starts_with(&format!("rust:{}-", wanted.unwrap())), "{rust} is not the Rust of Cargo.toml");
}

#[test]
fn the_services_fit_together() {
    let compose: Value = yaml_serde::from_str(&file("docker-compose.yml")).unwrap();
    let services = &compose["services"];
    let weir = &services["weir"];
    let help = help();
    for (name, _) in weir["environment"].as_mapping().unwrap() {
        assert_known(name.as_str().unwrap(), &help);
    }
    let dockerfile = Path::new(weir["build"].as_str().unwrap()).join("Dockerfile");
    assert!(root().join(dockerfile).exists());

    let instructions = instructions(&file("Dockerfile"));
    let exposed = of(&instructions, "EXPOSE").next().unwrap();
    for port in weir["ports"].as_sequence().unwrap() {
        let inner = port.as_str().unwrap().rsplit(':').next().unwrap();
        assert_eq!(inner, exposed);
    }
    let data = of(&instructions, "VOLUME").next().unwrap();
    for service in ["weir", "postgres"] {
        for volume in services[service]["volumes"].as_sequence().unwrap() {
            let (name, _) = volume.as_str().unwrap().split_once(':').unwrap();
            assert!(compose["volumes"].get(name).is_some(), "{name} is not declared");
        }
    }
    assert!(weir["volumes"][0].as_str().unwrap().ends_with(data));

    let postgres = &services["postgres"]["environment"];
    let url = weir["environment"]["WEIR_DATABASE_URL"].as_str().unwrap();
    let user = postgres["POSTGRES_USER"].as_str().unwrap();
    assert!(url.starts_with(&format!("postgres://{user}:")), "{url}");
    assert!(url.contains(postgres["POSTGRES_PASSWORD"].as_str().unwrap()), "{url}");
    assert!(url.ends_with(&format!("@postgres:5432/{}", postgres["POSTGRES_DB"].as_str().unwrap())), "{url}");
    for (dependency, _) in weir["depends_on"].as_mapping().unwrap() {
        assert!(services[dependency.as_str().unwrap()].get("healthcheck").is_some());
    }
    let command = weir["command"][0].as_str().unwrap();
    assert!(help.contains(&format!("\n  {command} ")), "weir has no command {command}");
}
