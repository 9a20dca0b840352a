//! Without the database: rights are answered from the view and its local copy; nothing is lost with the copy (I13).

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::catalog::access::Produce;
use crate::catalog::error::{CatalogError, ConnectError};
use crate::embedded_postgres::{Options, PrivatePostgres};

/// A PostgreSQL that a test can stop, and a folder for the local view.
struct Machine {
    folder: TempDir,
    clock: ManualClock,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("weir-outage-").tempdir().unwrap();
        // PostgreSQL runs as another user when the tests run as root.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder, clock: ManualClock::at(Timestamp(1_795_000_000_000)) }
    }

    fn local(&self) -> std::path::PathBuf {
        self.folder.path().join("view")
    }

    async fn postgres(&self) -> PrivatePostgres {
        let mut options = Options::new(self.folder.path().join("data"));
        options.durable = false;
        tokio::task::spawn_blocking(move || PrivatePostgres::start(&options).unwrap()).await.unwrap()
    }

    async fn connect(&self, url: &str) -> Result<Catalog, ConnectError> {
        let options = CatalogOptions {
            local_view: Some(self.local()),
            acquire_timeout: Duration::from_secs(1),
            ..CatalogOptions::new(url)
        };
        Catalog::connect(options, Arc::new(self.clock.clone())).await
    }
}

async fn stop(postgres: PrivatePostgres) {
    tokio::task::spawn_blocking(move || postgres.stop()).await.unwrap();
}

/// One application with one topic and one token.
async fn furnish(catalog: &Catalog) -> Secret {
    let system = Actor::system();
    let mut tx = catalog.begin(&system).await.unwrap();
    let team = catalog.authorize::<PutTeam>(&system, &name("payments")).unwrap();
    tx.put_team(&team, &TeamSpec::default(), Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let target = AppTarget { name: name("checkout"), team: name("payments") };
    let grant = catalog.authorize::<PutApp>(&system, &target).unwrap();
    let mut tx = catalog.begin(&system).await.unwrap();
    tx.put_app(&grant, &AppSpec::new(name("payments")), Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let target = TopicTarget { name: name("orders"), app: name("checkout") };
    let topic = catalog.authorize::<PutTopic>(&system, &target).unwrap();
    let tokens = catalog.authorize::<ManageAppTokens>(&system, &name("checkout")).unwrap();
    let mut tx = catalog.begin(&system).await.unwrap();
    tx.put_topic(&topic, &TopicSpec::new(name("checkout")), Precondition::None).await.unwrap();
    let (_, secret) = tx.create_app_token(&tokens, &every_scope()).await.unwrap();
    tx.commit().await.unwrap();
    secret
}

fn produces(catalog: &Catalog, secret: &Secret) -> bool {
    let Ok(parts) = catalog.authenticate_token(secret.expose(), None) else { return false };
    let (principal, token) = (parts.principal, Some(parts.token));
    let actor = Arc::new(Actor { principal, token, address: None, request_id: None });
    catalog.authorize::<Produce>(&actor, &name("orders")).is_ok()
}

/// Until a change can be made again.
async fn comes_back(catalog: &Catalog) {
    let back = async {
        while catalog.begin(&Actor::system()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.expect("the catalog finds its database again");
}

#[tokio::test]
async fn rights_are_answered_while_the_database_is_away_and_changes_when_it_is_back() {
    let machine = Machine::new();
    let postgres = machine.postgres().await;
    let url = postgres.url();
    let catalog = machine.connect(&url).await.unwrap();
    let secret = furnish(&catalog).await;
    assert!(catalog.healthy().await);

    stop(postgres).await;
    assert!(produces(&catalog, &secret));
    assert!(!catalog.healthy().await);
    assert!(matches!(catalog.begin(&Actor::system()).await, Err(CatalogError::Unavailable(_))));
    assert!(matches!(catalog.session("cookie").await, Err(CatalogError::Unavailable(_))));
    catalog.close().await;

    // A start without the database, from the copy.
    let catalog = machine.connect(&url).await.unwrap();
    assert!(produces(&catalog, &secret));
    assert!(matches!(catalog.begin(&Actor::system()).await, Err(CatalogError::Unavailable(_))));

    let postgres = machine.postgres().await;
    comes_back(&catalog).await;
    let system = Actor::system();
    let grant = catalog.authorize::<ManageApp>(&system, &name("checkout")).unwrap();
    let mut tx = catalog.begin(&system).await.unwrap();
    tx.suspend_app(&grant, "").await.unwrap();
    let revision = tx.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), catalog.refreshed(revision)).await.expect("follows again");
    assert!(!produces(&catalog, &secret));
    catalog.close().await;
    stop(postgres).await;
}

#[tokio::test]
async fn a_lost_or_damaged_copy_costs_nothing_while_there_is_a_database() {
    let machine = Machine::new();
    let postgres = machine.postgres().await;
    let url = postgres.url();
    let catalog = machine.connect(&url).await.unwrap();
    let secret = furnish(&catalog).await;
    catalog.close().await;

    for damage in [remove as fn(&Path), overwrite, truncate] {
        damage(&machine.local());
        let catalog = machine.connect(&url).await.unwrap();
        assert!(produces(&catalog, &secret));
        catalog.close().await;
    }
    // The copy that was made anew stands in again.
    stop(postgres).await;
    let catalog = machine.connect(&url).await.unwrap();
    assert!(produces(&catalog, &secret));
    catalog.close().await;

    // Without database and without copy there is nothing to work from, and it says so.
    remove(&machine.local());
    assert!(matches!(machine.connect(&url).await, Err(ConnectError::Unreachable(_))));
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_leaves_the_copy_alone() {
    let machine = Machine::new();
    let postgres = machine.postgres().await;
    let catalog = machine.connect(&postgres.url()).await.unwrap();
    let secret = furnish(&catalog).await;
    let second = machine.connect(&postgres.url()).await.unwrap();
    assert!(produces(&second, &secret));
    second.close().await;
    let url = postgres.url();
    catalog.close().await;
    stop(postgres).await;
    let catalog = machine.connect(&url).await.unwrap();
    assert!(produces(&catalog, &secret), "the first one's copy is whole");
    catalog.close().await;
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
}

fn overwrite(folder: &Path) {
    each_file(folder, |bytes| bytes.iter_mut().for_each(|byte| *byte = 0x5a));
}

fn truncate(folder: &Path) {
    each_file(folder, |bytes| bytes.truncate(bytes.len() / 2));
}

fn each_file(folder: &Path, change: impl Fn(&mut Vec<u8>)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}
