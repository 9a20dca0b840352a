//! When and from where tokens were last used: gathered in memory, written in batches, never on the way of a request.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Catalog;
use super::error::CatalogError;
use crate::names::TokenId;

/// A use that has not been written yet.
#[derive(Debug, Clone, Copy)]
struct Use {
    at: OffsetDateTime,
    from: Option<IpAddr>,
}

/// Last uses of tokens, gathered in memory and written in batches. At most one for each token.
#[derive(Debug, Default)]
pub(super) struct TokenUses(Mutex<HashMap<TokenId, Use>>);

impl TokenUses {
    pub fn note(&self, token: TokenId, at: OffsetDateTime, from: Option<IpAddr>) {
        self.0.lock().insert(token, Use { at, from });
    }

    fn take(&self) -> Vec<(TokenId, Use)> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }

    fn put_back(&self, noted: Vec<(TokenId, Use)>) {
        let mut uses = self.0.lock();
        for (token, one) in noted {
            uses.entry(token).or_insert(one);
        }
    }
}

impl Catalog {
    /// Writes the uses noted since the last time.
    pub(super) async fn write_token_uses(&self, conn: &mut PgConnection) -> Result<(), CatalogError> {
        let noted = self.inner.uses.take();
        if noted.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = noted.iter().map(|(id, _)| id.0).collect();
        let times: Vec<_> = noted.iter().map(|(_, one)| one.at).collect();
        let addresses: Vec<_> = noted.iter().map(|(_, one)| one.from.map(|from| from.to_string())).collect();
        let written = sqlx::query!(
            "INSERT INTO token_uses (token_id, at, address)
             SELECT use.id, use.at, use.address FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS use (id, at, address)
             JOIN tokens ON tokens.id = use.id
             ON CONFLICT (token_id) DO UPDATE SET at = excluded.at, address = excluded.address
             WHERE token_uses.at < excluded.at",
            &ids,
            &times,
            &addresses as &[Option<String>]
        )
        .execute(conn)
        .await;
        if let Err(error) = written {
            self.inner.uses.put_back(noted);
            return Err(error.into());
        }
        Ok(())
    }
}
