//! The view: an immutable snapshot of everything that authorisation and lists need, replaced as a whole when the catalog
//! changes. Reading it takes no lock and no database.
//!
//! Tables are sorted vectors of shared rows: a lookup is a binary search, a page is a slice, and making the next snapshot
//! copies pointers, not rows; tables that a change does not touch are shared between snapshots.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use time::OffsetDateTime;
use uuid::Uuid;

use super::access::TokenUse;
use super::entity::{Delta, Entity, EntityKind, GrantAbout, GrantRow, Member, TokenHash, TokenRow};
use super::model::{AccessGrant, Application, GrantTarget, Membership, Operation, Team, TeamRole, Topic, User};
use crate::names::{AppId, AppName, TeamId, TeamName, TokenId, TopicName, UserId};

/// How exact "last used" is.
const NOTED_EVERY_SECONDS: u64 = 10;

/// A token as requests meet it: what it allows is made once, not for each request.
#[derive(Debug)]
pub(super) struct TokenEntry {
    pub row: Arc<TokenRow>,
    pub usable: Arc<TokenUse>,
    /// When a use was last noted, in seconds since 1970.
    noted: AtomicI64,
}

impl TokenEntry {
    fn new(row: &Arc<TokenRow>) -> Self {
        let token = &row.token;
        let usable = TokenUse {
            id: token.id,
            name: token.name.clone(),
            scopes: token.scopes.clone(),
            topics: token.topics.clone(),
            expires_at: token.expires_at,
        };
        Self { row: Arc::clone(row), usable: Arc::new(usable), noted: AtomicI64::new(0) }
    }

    /// Whether the last noted use is some seconds ago: the hot path takes the lock of the notes no more often.
    pub fn is_worth_noting(&self, now: OffsetDateTime) -> bool {
        let now = now.unix_timestamp();
        if now.abs_diff(self.noted.load(Relaxed)) < NOTED_EVERY_SECONDS {
            return false;
        }
        self.noted.store(now, Relaxed);
        true
    }
}

/// A row of a sorted table.
trait Row {
    fn order(&self, other: &Self) -> Ordering;
    fn id(&self) -> Uuid;
}

/// A topic with what a search looks at: its words in lower case.
#[derive(Debug)]
struct TopicRow {
    topic: Arc<Topic>,
    words: String,
}

/// Rows sorted by key.
#[derive(Debug)]
struct Table<T>(Vec<Arc<T>>);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Row> Table<T> {
    fn remove(&mut self, ids: &HashSet<Uuid>) {
        self.0.retain(|row| !ids.contains(&row.id()));
    }

    /// Replaces and adds rows; sorted once at the end by [`Self::sort`].
    fn push(&mut self, row: T) {
        self.0.push(Arc::new(row));
    }

    fn sort(&mut self) {
        // Stable, and fast on what is nearly sorted already.
        self.0.sort_by(|a, b| a.order(b));
    }
}

impl Row for User {
    fn order(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for Team {
    fn order(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for Member {
    fn order(&self, other: &Self) -> Ordering {
        self.team.cmp(&other.team).then(self.membership.user.cmp(&other.membership.user))
    }

    fn id(&self) -> Uuid {
        self.id
    }
}

impl Row for Application {
    fn order(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for TopicRow {
    fn order(&self, other: &Self) -> Ordering {
        self.topic.name.cmp(&other.topic.name)
    }

    fn id(&self) -> Uuid {
        self.topic.id.0
    }
}

impl Row for GrantRow {
    fn order(&self, other: &Self) -> Ordering {
        self.grant.app.cmp(&other.grant.app).then(self.grant.id.cmp(&other.grant.id))
    }

    fn id(&self) -> Uuid {
        self.grant.id.0
    }
}

impl Row for TokenRow {
    fn order(&self, other: &Self) -> Ordering {
        self.token.id.cmp(&other.token.id)
    }

    fn id(&self) -> Uuid {
        self.token.id.0
    }
}

/// The snapshot. Nothing in it is filtered by rights: faces ask [`super::Catalog`], which does.
#[derive(Debug, Clone, Default)]
pub struct View {
    revision: i64,
    users: Arc<Table<User>>,
    teams: Arc<Table<Team>>,
    members: Arc<Table<Member>>,
    apps: Arc<Table<Application>>,
    topics: Arc<Table<TopicRow>>,
    grants: Arc<Table<GrantRow>>,
    grants_about: Arc<HashMap<GrantAbout, Vec<Arc<GrantRow>>>>,
    tokens: Arc<Table<TokenRow>>,
    tokens_by_hash: Arc<HashMap<TokenHash, TokenEntry>>,
}

impl View {
    /// The catalog's revision that this snapshot shows.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Every topic, deleted ones included, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.0.iter().map(|row| &row.topic)
    }

    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Arc<Topic>> {
        find(&self.topics, |row| row.topic.name.cmp(name)).map(|row| &row.topic)
    }

    /// Topics whose names begin so, deleted ones included.
    pub(super) fn topics_with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Topic>> {
        let start = self.topics.0.partition_point(|row| row.topic.name.as_str() < prefix);
        let topics = self.topics.0[start..].iter().map(|row| &row.topic);
        topics.take_while(move |topic| topic.name.as_str().starts_with(prefix))
    }

    /// Every application, by name.
    pub fn apps(&self) -> impl ExactSizeIterator<Item = &Arc<Application>> {
        self.apps.0.iter()
    }

    #[must_use]
    pub fn app(&self, name: &AppName) -> Option<&Arc<Application>> {
        find(&self.apps, |row| row.name.cmp(name))
    }

    /// Every team, by name.
    pub fn teams(&self) -> impl ExactSizeIterator<Item = &Arc<Team>> {
        self.teams.0.iter()
    }

    #[must_use]
    pub fn team(&self, name: &TeamName) -> Option<&Arc<Team>> {
        find(&self.teams, |row| row.name.cmp(name))
    }

    #[must_use]
    pub fn user(&self, id: UserId) -> Option<&Arc<User>> {
        find(&self.users, |row| row.id.cmp(&id))
    }

    /// The person's role in the team.
    #[must_use]
    pub fn role(&self, user: UserId, team: TeamId) -> Option<TeamRole> {
        find(&self.members, |row| row.team.cmp(&team).then(row.membership.user.cmp(&user)))
            .map(|row| row.membership.role)
    }

    /// The members of a team.
    pub fn members(&self, team: TeamId) -> impl Iterator<Item = &Membership> {
        let start = self.members.0.partition_point(|row| row.team < team);
        self.members.0[start..].iter().take_while(move |row| row.team == team).map(|row| &row.membership)
    }

    /// Grants that mention the topic by name or by a prefix of it, expired ones included.
    pub fn grants_on<'a>(&'a self, topic: &'a Topic) -> impl Iterator<Item = &'a AccessGrant> {
        let literal = self.grants_about.get(&GrantAbout::Topic(topic.id)).into_iter().flatten();
        let prefixes = self.grants_about.get(&GrantAbout::Owner(topic.app_id)).into_iter().flatten();
        literal.chain(prefixes.filter(|row| covers(&row.grant.target, topic))).map(|row| &row.grant)
    }

    /// Every grant an application holds.
    pub fn grants_of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a AccessGrant> {
        let start = self.grants.0.partition_point(|row| row.grant.app < *app);
        self.grants.0[start..].iter().map(|row| &row.grant).take_while(move |grant| grant.app == *app)
    }

    /// Prefix grants among the topics of an owner.
    pub fn prefix_grants(&self, owner: AppId) -> impl Iterator<Item = &AccessGrant> {
        self.grants_about.get(&GrantAbout::Owner(owner)).into_iter().flatten().map(|row| &row.grant)
    }

    /// Whether the grant gives the operation now.
    pub(super) fn gives(grant: &AccessGrant, operation: Operation, now: OffsetDateTime) -> bool {
        grant.operations.contains(&operation) && grant.expires_at.is_none_or(|end| end > now)
    }

    pub(super) fn token(&self, id: TokenId) -> Option<&Arc<TokenRow>> {
        find(&self.tokens, |row| row.token.id.cmp(&id))
    }

    pub(super) fn token_by_hash(&self, hash: &TokenHash) -> Option<&TokenEntry> {
        self.tokens_by_hash.get(hash)
    }

    /// Topics from a name on, each with its words for search.
    pub(super) fn topics_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<Topic>, &str)> {
        let start = after.map_or(0, |after| self.topics.0.partition_point(|row| row.topic.name.as_str() <= after));
        self.topics.0[start..].iter().map(|row| (&row.topic, row.words.as_str()))
    }

    pub(super) fn apps_after(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<Application>> {
        let start = after.map_or(0, |after| self.apps.0.partition_point(|row| row.name.as_str() <= after));
        self.apps.0[start..].iter()
    }

    pub(super) fn teams_after(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<Team>> {
        let start = after.map_or(0, |after| self.teams.0.partition_point(|row| row.name.as_str() <= after));
        self.teams.0[start..].iter()
    }

    /// The next snapshot.
    pub(super) fn apply(&self, delta: Delta) -> Self {
        let mut next = if delta.whole { Self::default() } else { self.clone() };
        let mut touched: Vec<EntityKind> = delta.gone.iter().map(|(kind, _)| *kind).collect();
        if !delta.whole {
            let mut outdated: HashMap<EntityKind, HashSet<Uuid>> = HashMap::new();
            for (kind, id) in delta.gone.iter().copied().chain(delta.rows.iter().map(Entity::key)) {
                outdated.entry(kind).or_default().insert(id);
            }
            for (kind, ids) in &outdated {
                next.remove(*kind, ids);
            }
        }
        for row in delta.rows {
            touched.push(row.key().0);
            next.add(row);
        }
        touched.sort_unstable();
        touched.dedup();
        next.finish(&touched);
        next.revision = delta.revision;
        next
    }

    fn remove(&mut self, kind: EntityKind, ids: &HashSet<Uuid>) {
        match kind {
            EntityKind::User => Arc::make_mut(&mut self.users).remove(ids),
            EntityKind::Team => Arc::make_mut(&mut self.teams).remove(ids),
            EntityKind::Member => Arc::make_mut(&mut self.members).remove(ids),
            EntityKind::App => Arc::make_mut(&mut self.apps).remove(ids),
            EntityKind::Topic => Arc::make_mut(&mut self.topics).remove(ids),
            EntityKind::Grant => Arc::make_mut(&mut self.grants).remove(ids),
            EntityKind::Token => Arc::make_mut(&mut self.tokens).remove(ids),
        }
    }

    fn add(&mut self, row: Entity) {
        match row {
            Entity::User(row) => Arc::make_mut(&mut self.users).push(row),
            Entity::Team(row) => Arc::make_mut(&mut self.teams).push(row),
            Entity::Member(row) => Arc::make_mut(&mut self.members).push(row),
            Entity::App(row) => Arc::make_mut(&mut self.apps).push(row),
            Entity::Topic(row) => {
                let words = words_of(&row);
                Arc::make_mut(&mut self.topics).push(TopicRow { topic: Arc::new(row), words });
            }
            Entity::Grant(row) => Arc::make_mut(&mut self.grants).push(row),
            Entity::Token(row) => Arc::make_mut(&mut self.tokens).push(row),
        }
    }

    /// Sorts what was touched and makes the indexes that hang on it.
    fn finish(&mut self, touched: &[EntityKind]) {
        for kind in touched {
            match kind {
                EntityKind::User => Arc::make_mut(&mut self.users).sort(),
                EntityKind::Team => Arc::make_mut(&mut self.teams).sort(),
                EntityKind::Member => Arc::make_mut(&mut self.members).sort(),
                EntityKind::App => Arc::make_mut(&mut self.apps).sort(),
                EntityKind::Topic => Arc::make_mut(&mut self.topics).sort(),
                EntityKind::Grant => {
                    Arc::make_mut(&mut self.grants).sort();
                    let mut about: HashMap<_, Vec<_>> = HashMap::new();
                    for row in &self.grants.0 {
                        about.entry(row.about).or_default().push(Arc::clone(row));
                    }
                    self.grants_about = Arc::new(about);
                }
                EntityKind::Token => {
                    Arc::make_mut(&mut self.tokens).sort();
                    let by_hash = self.tokens.0.iter().map(|row| (row.hash, TokenEntry::new(row))).collect();
                    self.tokens_by_hash = Arc::new(by_hash);
                }
            }
        }
        if touched.iter().any(|kind| matches!(kind, EntityKind::Team | EntityKind::Member | EntityKind::App)) {
            self.count_teams();
        }
    }

    fn count_teams(&mut self) {
        let mut counts: HashMap<TeamId, (i64, i64)> = HashMap::new();
        for member in &self.members.0 {
            counts.entry(member.team).or_default().0 += 1;
        }
        for app in &self.apps.0 {
            counts.entry(app.team_id).or_default().1 += 1;
        }
        for team in &mut Arc::make_mut(&mut self.teams).0 {
            let (members, applications) = counts.get(&team.id).copied().unwrap_or_default();
            if (team.members, team.applications) != (members, applications) {
                let team = Arc::make_mut(team);
                team.members = members;
                team.applications = applications;
            }
        }
    }
}

fn find<T>(table: &Table<T>, compare: impl Fn(&T) -> Ordering) -> Option<&Arc<T>> {
    table.0.binary_search_by(|row| compare(row)).ok().map(|at| &table.0[at])
}

fn covers(target: &GrantTarget, topic: &Topic) -> bool {
    match target {
        GrantTarget::Topic(name) => *name == topic.name,
        GrantTarget::Prefix { owner, prefix } => {
            *owner == topic.app && topic.name.as_str().starts_with(prefix.as_str())
        }
    }
}

fn words_of(topic: &Topic) -> String {
    let mut words = format!("{} {} {} {}", topic.name, topic.app, topic.team, topic.description);
    for (key, value) in &topic.labels {
        words.push(' ');
        words.push_str(key);
        words.push('=');
        words.push_str(value);
    }
    words.to_lowercase()
}
