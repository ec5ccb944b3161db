//! What `/healthz`, `/readyz` and `/metrics` answer, on a thread of its own: a stage that blocks must not make the
//! process look dead. It answers until the process ends, so that draining can be watched.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::{Failure, Health, Outcome};

/// Binds the address and serves it; gives the address bound, which differs for port 0.
pub(crate) fn serve(address: SocketAddr, health: Health) -> Outcome<SocketAddr> {
    let failed =
        |error: std::io::Error| Failure::definite("LISTEN", format!("cannot listen on {address}")).source(error);
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let run = move || {
        let outcome =
            runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes(health)).await });
        if let Err(error) = outcome {
            tracing::error!("health and metrics are no longer served: {error}");
        }
    };
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(run)
        .map_err(failed)?;
    Ok(bound)
}

fn routes(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { readiness(&health) }))
        .route("/metrics", get(|| async { metrics() }))
}

fn readiness(health: &Health) -> (StatusCode, String) {
    let (ready, lines) = health.report();
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        lines,
    )
}

fn metrics() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        crate::metrics::render(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn answers_health_readiness_and_metrics() {
        let health = Health::new();
        let address = serve("127.0.0.1:0".parse().unwrap(), health.clone()).unwrap();
        health.set_status("shop", "snapshot");
        crate::metrics::counter("test_served_total", "Served.", &["kind"])
            .with_label_values(&["a"])
            .inc();
        assert!(fetch(address, "/healthz").starts_with("HTTP/1.1 200"));
        let waiting = fetch(address, "/readyz");
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("shop not ready: snapshot"),
            "{waiting}"
        );
        health.set_ready("shop", true);
        assert!(fetch(address, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/metrics").contains("test_served_total{kind=\"a\"} 1"));
        assert_eq!(serve(address, health).err().map(|f| f.code), Some("LISTEN"));
    }
}
