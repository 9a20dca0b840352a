use super::*;

fn options(dir: &Path) -> Options {
    Options { durable: false, ..Options::new(dir) }
}

async fn count_after_insert(url: &str) -> i64 {
    use sqlx::{Connection as _, PgConnection};
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    let count = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

/// As root a temporary folder is closed to others, so this takes the way through the user namespace; the harness of the
/// integration tests takes the other way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = PrivatePostgres::start(&options(dir.path())).unwrap();
    assert_eq!(count_after_insert(&first.url()).await, 1);
    first.stop();
    let second = PrivatePostgres::start(&options(dir.path())).unwrap();
    assert_eq!(count_after_insert(&second.url()).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_path_a_killed_server_and_a_second_user_are_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(100));
    let own = PrivatePostgres::start(&Options::new(&long)).unwrap();
    assert_eq!(count_after_insert(&own.url()).await, 1);

    let shared = PrivatePostgres::share_or_start(&options(&long)).unwrap();
    assert!(own.is_own() && !shared.is_own());
    assert_eq!(count_after_insert(&shared.url()).await, 2);

    let before = own.process_id().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(before.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    while own.process_id() == Some(before) {
        pause();
    }
    assert_eq!(count_after_insert(&own.url()).await, 3);
    own.stop();

    let alone = PrivatePostgres::share_or_start(&options(&long)).unwrap();
    assert!(alone.is_own());
    let socket_dir = alone.socket_dir.clone();
    alone.stop();
    fs::remove_dir_all(socket_dir).unwrap();
}

#[test]
fn an_unfinished_cluster_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(&dir.path().canonicalize().unwrap());
    fs::create_dir_all(layout.unfinished_cluster()).unwrap();
    fs::write(layout.unfinished_cluster().join("PG_VERSION"), "15").unwrap();
    let postgres = PrivatePostgres::start(&options(dir.path())).unwrap();
    assert!(postgres.process_id().is_some());
    assert!(!layout.unfinished_cluster().exists());
}

#[test]
fn a_socket_directory_is_part_of_the_url_whatever_its_characters() {
    assert_eq!(percent_encode("/a b/ü-1_2.3~"), "%2Fa%20b%2F%C3%BC-1_2.3~");
}
