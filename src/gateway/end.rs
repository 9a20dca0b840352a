//! Why a stream ended. A stream never just stops: it says one of these.

use crate::catalog::error::{AuthError, Denied};

/// The reason in `weir.end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Streams last about an hour; connect again at the given position.
    MaxLifetime,
    /// This instance stops; connect again.
    Draining,
    /// The token's time is over.
    TokenExpired,
    /// The token was revoked.
    TokenRevoked,
    /// The right to read was taken away or has run out.
    AccessRevoked,
    /// The application was suspended.
    AppSuspended,
    /// The topic was deleted.
    TopicDeleted,
    /// The topic was deleted and made again: the position belongs to the earlier one.
    TopicRecreated,
    /// The client took nothing for half a minute although there was something.
    SlowConsumer,
    /// The portal session has ended.
    SessionExpired,
    /// The `to` of the request is reached.
    ReachedTo,
    /// The `limit` of the request is reached.
    ReachedLimit,
    /// Retention removed records before they were read, and the client asked not to skip.
    CursorExpired,
    /// Stored records cannot be read.
    Damaged,
    /// The caller has as many streams open as it may.
    TooManyStreams,
    /// The request was refused before it began; the message says why.
    Refused,
}

impl EndReason {
    /// The text clients see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxLifetime => "max-lifetime",
            Self::Draining => "draining",
            Self::TokenExpired => "token-expired",
            Self::TokenRevoked => "token-revoked",
            Self::AccessRevoked => "access-revoked",
            Self::AppSuspended => "app-suspended",
            Self::TopicDeleted => "topic-deleted",
            Self::TopicRecreated => "topic-recreated",
            Self::SlowConsumer => "slow-consumer",
            Self::SessionExpired => "session-expired",
            Self::ReachedTo => "reached-to",
            Self::ReachedLimit => "reached-limit",
            Self::CursorExpired => "cursor-expired",
            Self::Damaged => "damaged",
            Self::TooManyStreams => "too-many-streams",
            Self::Refused => "refused",
        }
    }

    /// Whether the client got everything it asked for.
    #[must_use]
    pub const fn complete(self) -> bool {
        matches!(self, Self::ReachedTo | Self::ReachedLimit)
    }

    /// Whether connecting again, with the same credential and position, can succeed.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        matches!(self, Self::MaxLifetime | Self::Draining | Self::SlowConsumer | Self::TooManyStreams)
    }
}

impl From<&Denied> for EndReason {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::TopicDeleted { .. } => Self::TopicDeleted,
            Denied::NotFound { .. } | Denied::Forbidden { .. } | Denied::InsufficientScope { .. } => {
                Self::AccessRevoked
            }
            Denied::AppSuspended { .. } | Denied::Credential(AuthError::AppSuspended { .. }) => Self::AppSuspended,
            Denied::Credential(AuthError::Expired { .. }) => Self::TokenExpired,
            Denied::Credential(AuthError::Unknown | AuthError::Revoked) => Self::TokenRevoked,
            Denied::Credential(AuthError::Disabled) => Self::AccessRevoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_to_come_back_only_where_that_can_help() {
        assert!(EndReason::Draining.reconnect() && EndReason::SlowConsumer.reconnect());
        for fatal in [EndReason::TokenRevoked, EndReason::TopicDeleted, EndReason::ReachedTo, EndReason::SessionExpired]
        {
            assert!(!fatal.reconnect(), "{}", fatal.as_str());
        }
    }
}
