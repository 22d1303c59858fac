//! Answers `/metrics`, `/healthz` and `/readyz` over HTTP/1.
//!
//! Each connection serves one request within a time limit, and the number of connections is bounded: a scraper cannot
//! slow the process down. `/healthz` is 200 while the process works and 503 once it has failed; `/readyz` is 503 before
//! the process is ready and while the process drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Latch, Metrics};
use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::shutdown::Shutdown;

/// Connections served at once: a few scrapers and probes.
const CONNECTIONS_MAX: usize = 32;

/// A request's head must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection ends after this time, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// The delay after an accept failed, for example for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the server reports.
#[derive(Clone, Debug)]
pub struct Probes {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether the process can take work.
    pub ready: Latch,
    /// Whether it has failed.
    pub failed: Latch,
    /// Whether it drains.
    pub shutdown: Shutdown,
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    probes: Probes,
}

impl Server {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, probes: Probes) -> Result<Self> {
        let refused = |source| {
            Error::refused(format!(
                "cannot serve metrics on `{address}`: {source}: choose another address with `--metrics`"
            ))
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Server {
            listener,
            address,
            probes,
        })
    }

    /// The address that it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            // Both cancel-safe: a dropped accept has accepted nothing, a dropped join has taken nothing.
            let accepted = tokio::select! {
                biased;
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((connection, _)) = accepted else {
                clock::sleep(ACCEPT_RETRY).await;
                continue;
            };
            // At the bound the connection is closed at once: the scraper sees it and tries again.
            if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
                debug_assert!(free.available_permits() < CONNECTIONS_MAX);
                let probes = self.probes.clone();
                connections.spawn(async move {
                    answer(connection, &probes).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn answer(connection: TcpStream, probes: &Probes) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), probes);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(connection), service);
    // Ignore the error of a client that hangs up or is too slow.
    drop(tokio::time::timeout(CONNECTION_TIMEOUT, served).await);
}

fn respond(method: &Method, path: &str, probes: &Probes) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    let (status, kind, body) = if method != Method::GET && method != Method::HEAD {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET\n".to_owned(),
        )
    } else {
        let probe = |good: bool, why: &str| match good {
            true => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        };
        match path {
            "/metrics" => (StatusCode::OK, PROMETHEUS, probes.metrics.render()),
            "/healthz" => probe(!probes.failed.is_set(), "failed"),
            "/readyz" if probes.shutdown.is_draining() => probe(false, "draining"),
            "/readyz" => probe(probes.ready.is_set(), "starting"),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT,
                "only /metrics, /healthz and /readyz\n".to_owned(),
            ),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use hydrant_core::budget::Budget;
    use hydrant_core::shutdown::Phase;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    async fn started() -> (SocketAddr, Probes) {
        let probes = Probes {
            metrics: Metrics::install(&Budget::new(1 << 20)).unwrap(),
            ready: Latch::default(),
            failed: Latch::default(),
            shutdown: Shutdown::new(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, probes.clone()).await.unwrap();
        let address = server.address();
        tokio::spawn(server.serve());
        (address, probes)
    }

    #[tokio::test]
    async fn probes_follow_the_life_of_the_process() {
        let (address, probes) = started().await;
        let status = async |path: &str| get(address, path).await[9..12].to_owned();
        assert_eq!(status("/healthz").await, "200");
        assert_eq!(status("/readyz").await, "503");
        probes.ready.set();
        assert_eq!(status("/readyz").await, "200");
        probes.shutdown.advance(Phase::Draining);
        assert_eq!(status("/readyz").await, "503");
        assert_eq!(status("/healthz").await, "200");
        probes.failed.set();
        assert_eq!(status("/healthz").await, "503");
        assert_eq!(status("/other").await, "404");
        let metrics = get(address, "/metrics").await;
        assert!(
            metrics.contains("hydrant_process_uptime_seconds"),
            "{metrics}"
        );
        let posted = ask(
            address,
            "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
        assert!(posted.contains("allow: GET, HEAD"), "{posted}");
    }

    #[tokio::test]
    async fn idle_connections_are_bounded_and_do_not_stop_the_server() {
        let (address, _probes) = started().await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let answer = refused.read(&mut byte).await;
        assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
        drop(idle);
        loop {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
            let mut answer = Vec::new();
            if connection.write_all(request).await.is_ok()
                && connection.read_to_end(&mut answer).await.is_ok()
                && answer.starts_with(b"HTTP/1.1 200")
            {
                break;
            }
        }
    }
}
