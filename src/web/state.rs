//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::security::AddressRange;
use crate::broker::engine::Engine;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::provision::Provisioner;

/// Tells everything that runs long to end, and lets the process wait until it has.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled when the process should stop: streams say `weir.end draining` and close.
    pub token: CancellationToken,
    /// Streams and background tasks; the process waits for them.
    pub tasks: TaskTracker,
    /// How long streams may take to end.
    pub drain: Duration,
}

/// The state of the web faces. Cheap to clone, which happens several times a request.
#[derive(Clone)]
pub struct WebState(Arc<WebParts>);

impl From<WebParts> for WebState {
    fn from(parts: WebParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for WebState {
    type Target = WebParts;

    fn deref(&self) -> &WebParts {
        &self.0
    }
}

/// What a [`WebState`] is made of.
pub struct WebParts {
    pub catalog: Catalog,
    pub gateway: Gateway,
    /// Called after a topic was made or changed, before the answer.
    pub provision: Provisioner,
    /// For health and figures; records go through the gateway.
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    /// Where clients reach this server, if configured: `https://weir.example.com`.
    pub public_url: Option<Arc<str>>,
    /// Proxies whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<AddressRange>,
}
