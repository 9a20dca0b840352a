//! One change of the catalog: rows, audit and revision together, or nothing.

use super::error::CatalogError;

/// An open transaction. Dropping it undoes everything.
pub struct Tx {}

impl Tx {
    /// Makes the changes lasting and waits (at most a second) until this process's view shows them. Returns the catalog's revision.
    pub async fn commit(self) -> Result<i64, CatalogError> {
        Err(super::pending())
    }
}
