//! The README tells the truth: its curl blocks run, in order, in one shell.

use std::process::Command;

use crate::harness::Weir;

/// The fenced blocks of the language `bash`. Blocks of `sh` are set-up and are not run here.
fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match (&mut open, line) {
            (None, "```bash") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_blocks_of_the_readme_run_one_after_the_other() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let blocks = blocks(include_str!("../../README.md"));
    assert!(blocks.len() >= 6, "the walk-through is there");
    let count = blocks.len();
    let script = format!("set -euo pipefail\n{}", blocks.join("\necho '--- next block'\n"));
    let (url, token) = (weir.url(""), ada.secret().to_owned());
    let run = tokio::task::spawn_blocking(move || {
        Command::new("bash")
            .args(["-c", &script])
            .env("WEIR", url.trim_end_matches('/'))
            .env("TOKEN", token)
            .output()
            .expect("bash is there")
    });
    let output = run.await.unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    assert_eq!(told.matches("--- next block").count(), count - 1, "{told}");
    for expected in
        ["\"offset\":", "UA1545", "weir.end", "reached-limit", "departure-board", "access.", "malformed-json"]
    {
        assert!(told.contains(expected), "{expected} is missing in\n{told}");
    }
}
