//! The accept loop: connections in, requests to the router.
//!
//! Our own instead of `axum::serve`, because ten thousand open streams should cost ten kilobytes each, and because the
//! framework's bounds nothing: not the number of connections, not those of one address, not the time a head may take.
//!
//! Every bound refuses the connection that is over it; the loop itself never waits for anybody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::security::{AddressRange, Peer};
use super::sse::STALL_MAX;
use super::stall::StallGuard;
use super::tls::Tls;
use crate::config;

/// Largest head of a request in bytes; also what an open connection keeps for reading.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most bytes waiting to be written to one HTTP/2 stream.
const H2_SEND_BYTES_MAX: usize = 64 << 10;
/// Most requests at once on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 256;
/// How often a silent HTTP/2 peer is asked whether it lives, and how long it has to answer.
const H2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Most TLS handshakes at once: each costs about a millisecond of processor time.
const HANDSHAKES_MAX: usize = 32;
/// Pause after the system had no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// When a silent TCP peer is asked whether it lives: after, then every; it is given up after as many answers missing.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// What a client that speaks HTTP/2 without TLS says first.
const H2_PREFACE_START: &[u8] = b"PRI ";

/// A bound listener that serves a router until it is told to stop.
pub struct Server {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
}

/// What the server holds connections to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Numbers and times.
    pub http: config::Http,
    /// Addresses whose number of connections is not bounded: many clients stand behind them.
    pub trusted_proxies: Arc<[AddressRange]>,
}

/// Tells a server to stop: first kindly, then not.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// No new connections; open ones end after their present answer.
    pub gently: CancellationToken,
    /// Everything ends now.
    pub now: CancellationToken,
}

impl Server {
    /// Takes the address.
    pub async fn bind(address: SocketAddr, router: Router, limits: Limits, tls: Option<Tls>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, router, limits, tls })
    }

    /// The address it listens at, with the port that port 0 became.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop.gently`, then until the last connection has ended or `stop.now`.
    pub async fn run(self, stop: Stop) {
        let gate = Arc::new(Gate::new(self.limits));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.gently.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_if_exhausted(&error).await;
                    continue;
                }
            };
            let Some(pass) = gate.admit(peer.ip()) else { continue };
            prepare(&stream);
            let connection = Connection {
                router: self.router.clone(),
                peer: peer.ip(),
                header_timeout: gate.limits.http.header_timeout,
                stop: stop.clone(),
                _pass: pass,
            };
            match &self.tls {
                Some(tls) => {
                    let (tls, handshakes) = (tls.clone(), Arc::clone(&handshakes));
                    connections.spawn(async move { connection.run_encrypted(stream, &tls, &handshakes).await });
                }
                None => {
                    connections.spawn(connection.run_plain(stream));
                }
            }
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// A connection that was never accepted is the client's affair; no descriptor left is ours, and trying again at once
/// would only burn the processor.
async fn pause_if_exhausted(error: &io::Error) {
    let harmless = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !harmless {
        tracing::error!(%error, "cannot accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Small answers leave at once, and a peer that vanished is found out.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let (idle, interval, count) = KEEPALIVE;
    let set = || -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(stream, true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, idle)?;
        sockopt::set_tcp_keepintvl(stream, interval)?;
        sockopt::set_tcp_keepcnt(stream, count)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "cannot set the options of a socket");
    }
}

/// One accepted connection.
struct Connection {
    router: Router,
    peer: IpAddr,
    header_timeout: Duration,
    stop: Stop,
    _pass: Pass,
}

impl Connection {
    async fn run_encrypted(self, stream: TcpStream, tls: &Tls, handshakes: &Semaphore) {
        let handshake = async {
            let _turn = handshakes.acquire().await;
            tls.acceptor().accept(stream).await
        };
        let stream = match tokio::time::timeout(self.header_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, peer = %self.peer, "TLS handshake failed"),
            Err(_) => return tracing::debug!(peer = %self.peer, "TLS handshake took too long"),
        };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if h2 { Box::pin(self.run_h2(stream, true)).await } else { self.run_h1(stream, true).await }
    }

    async fn run_plain(self, stream: TcpStream) {
        let mut first = [0; H2_PREFACE_START.len()];
        let peek = tokio::time::timeout(self.header_timeout, stream.peek(&mut first));
        let Ok(Ok(length)) = peek.await else { return };
        let h2 = length == first.len() && first == H2_PREFACE_START;
        if h2 { Box::pin(self.run_h2(stream, false)).await } else { self.run_h1(stream, false).await }
    }

    async fn run_h1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, tls: bool) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(HEAD_BYTES_MAX);
        let service = self.service(tls);
        let connection = http.serve_connection(TokioIo::new(StallGuard::new(stream, STALL_MAX)), service);
        drive(connection, &self.stop, |c| c.graceful_shutdown()).await;
    }

    async fn run_h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, tls: bool) {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_send_buf_size(H2_SEND_BYTES_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(H2_PING.0)
            .keep_alive_timeout(H2_PING.1);
        let service = self.service(tls);
        let connection = http.serve_connection(TokioIo::new(StallGuard::new(stream, STALL_MAX)), service);
        drive(connection, &self.stop, |c| c.graceful_shutdown()).await;
    }

    /// Hands requests to the router with what only the connection knows.
    fn service(
        &self,
        tls: bool,
    ) -> impl hyper::service::HttpService<Incoming, ResBody = Body, Error = std::convert::Infallible, Future: Send> + use<>
    {
        let router = self.router.clone();
        let peer = Peer { address: self.peer, tls };
        service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().call(request)
        })
    }
}

/// Runs a connection to its end, kindly asked to end at `stop.gently`, dropped at `stop.now`.
async fn drive<C, E>(connection: C, stop: &Stop, end: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.gently.cancelled() => {
            end(connection.as_mut());
            tokio::select! {
                result = connection.as_mut() => result,
                () = stop.now.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Counts open connections, in all and by address.
struct Gate {
    limits: Limits,
    free: Arc<Semaphore>,
    /// As many entries as there are open connections at most.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place. Dropping it makes room.
struct Pass {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
    _place: OwnedSemaphorePermit,
}

impl Gate {
    fn new(limits: Limits) -> Self {
        Self { free: Arc::new(Semaphore::new(limits.http.connections_max)), limits, by_address: Mutex::default() }
    }

    /// `None`: over a bound; the connection is closed without a word, because words cost what is missing.
    fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Pass> {
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            metrics::counter!("weir_connections_refused_total", "bound" => "all").increment(1);
            return None;
        };
        let trusted = self.limits.trusted_proxies.iter().any(|range| range.contains(peer));
        let address = (!trusted).then(|| client_network(peer));
        if let Some(address) = address {
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(address).or_insert(0);
            if *count >= self.limits.http.connections_per_address_max {
                metrics::counter!("weir_connections_refused_total", "bound" => "address").increment(1);
                return None;
            }
            *count += 1;
        }
        metrics::gauge!("weir_connections").increment(1);
        Some(Pass { gate: Arc::clone(self), address, _place: place })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        metrics::gauge!("weir_connections").decrement(1);
        let Some(address) = self.address else { return };
        let mut by_address = self.gate.by_address.lock();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 client has to itself.
fn client_network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn limits(connections_max: usize, per_address: usize, header_timeout: Duration) -> Limits {
        let http = config::Http {
            connections_max,
            connections_per_address_max: per_address,
            header_timeout,
            drain: Duration::from_secs(1),
        };
        Limits { http, trusted_proxies: Arc::from([]) }
    }

    async fn start(limits: Limits) -> (SocketAddr, Stop, tokio::task::JoinHandle<()>) {
        let router = Router::new().route("/", get(|| async { "hello" }));
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), router, limits, None).await.unwrap();
        let (address, stop) = (server.address().unwrap(), Stop::default());
        (address, stop.clone(), tokio::spawn(server.run(stop)))
    }

    async fn everything(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up() {
        let (address, _stop, _task) = start(limits(10, 10, Duration::from_millis(100))).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        assert_eq!(everything(slow).await, "");
        let silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(everything(silent).await, "");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let (address, _stop, _task) = start(limits(10, 10, Duration::from_secs(5))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(2 * HEAD_BYTES_MAX));
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = everything(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn connections_over_a_bound_are_closed_and_room_comes_back() {
        let (address, _stop, _task) = start(limits(10, 1, Duration::from_secs(5))).await;
        let first = TcpStream::connect(address).await.unwrap();
        let ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut second = TcpStream::connect(address).await.unwrap();
        let _ = second.write_all(ask).await;
        assert_eq!(everything(second).await, "");
        drop(first);
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            let _ = third.write_all(ask).await;
            let answer = everything(third).await;
            if answer.ends_with("hello") {
                break;
            }
            assert_eq!(answer, "", "refused until the server has noticed the end of the first");
        }
    }

    #[tokio::test]
    async fn a_gentle_stop_waits_for_open_connections_and_the_other_does_not() {
        let (address, stop, task) = start(limits(10, 10, Duration::from_secs(60))).await;
        let mut open = TcpStream::connect(address).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(everything(second).await.ends_with("hello"), "so the first is accepted as well");
        stop.now.cancel();
        stop.gently.cancel();
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let a = client_network("2001:db8:1:2::1".parse().unwrap());
        assert_eq!(a, client_network("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_ne!(a, client_network("2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(client_network("::ffff:1.2.3.4".parse().unwrap()), "1.2.3.4".parse::<IpAddr>().unwrap());
    }
}
