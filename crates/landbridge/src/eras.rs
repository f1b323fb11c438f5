//! Who speaks what: calls counted by the wires of their client and of their server, so that an operator
//! knows when an era can be switched off.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use landbridge_proto::front::session::Transport;
use landbridge_proto::version::Revision;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The standard streams of a process.
    Stdio,
    /// HTTP+SSE (2024-11-05).
    Sse,
    /// Streamable HTTP, with a session or stateless.
    Http,
    /// None: it is in this process.
    Local,
}

impl Wire {
    const ALL: [Wire; 4] = [Wire::Stdio, Wire::Sse, Wire::Http, Wire::Local];

    /// Its name in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Wire::Stdio => "stdio",
            Wire::Sse => "sse",
            Wire::Http => "http",
            Wire::Local => "local",
        }
    }
}

impl From<Transport> for Wire {
    fn from(transport: Transport) -> Wire {
        match transport {
            Transport::Stdio => Wire::Stdio,
            Transport::Local => Wire::Local,
            Transport::Sse => Wire::Sse,
            Transport::Streamable => Wire::Http,
        }
    }
}

/// One end of a call.
pub type End = (Wire, Revision);

const ENDS: usize = Wire::ALL.len() * Revision::ALL.len();

/// Calls, by both of their ends.
#[derive(Debug)]
pub struct Eras(Box<[AtomicU64]>);

impl Default for Eras {
    fn default() -> Eras {
        Eras((0..ENDS * ENDS).map(|_| AtomicU64::new(0)).collect())
    }
}

fn number((wire, revision): End) -> usize {
    wire as usize * Revision::ALL.len() + revision as usize
}

fn end(number: usize) -> End {
    (Wire::ALL[number / Revision::ALL.len()], Revision::ALL[number % Revision::ALL.len()])
}

impl Eras {
    /// A call of such a client reached such a server.
    pub fn count(&self, client: End, server: End) {
        self.0[number(client) * ENDS + number(server)].fetch_add(1, Ordering::Relaxed);
    }

    /// Every pair of ends that had calls, and how many: client, server, calls.
    pub fn counted(&self) -> impl Iterator<Item = (End, End, u64)> {
        let all = self.0.iter().enumerate().map(|(at, calls)| (end(at / ENDS), end(at % ENDS), calls.load(Ordering::Relaxed)));
        all.filter(|(.., calls)| *calls > 0)
    }

    /// As counters of Prometheus.
    pub fn write(&self, out: &mut String) {
        out.push_str("# HELP landbridge_calls_total Calls that reached a server, by what client and server speak.\n");
        out.push_str("# TYPE landbridge_calls_total counter\n");
        for ((client, client_revision), (server, server_revision), calls) in self.counted() {
            let _ = writeln!(
                out,
                "landbridge_calls_total{{client_transport=\"{}\",client_revision=\"{client_revision}\",server_transport=\"{}\",server_revision=\"{server_revision}\"}} {calls}",
                client.as_str(),
                server.as_str()
            );
        }
    }

    /// The same in the log.
    pub fn log(&self) {
        for ((client, client_revision), (server, server_revision), calls) in self.counted() {
            tracing::info!(
                client = format!("{} {client_revision}", client.as_str()),
                server = format!("{} {server_revision}", server.as_str()),
                calls,
                "calls by what client and server speak"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_ends_has_a_count_of_its_own() {
        let eras = Eras::default();
        let ends = || Wire::ALL.into_iter().flat_map(|wire| Revision::ALL.map(|revision| (wire, revision)));
        for (n, (client, server)) in ends().flat_map(|client| ends().map(move |server| (client, server))).enumerate() {
            (0..n % 7).for_each(|_| eras.count(client, server));
        }
        for (n, (client, server)) in ends().flat_map(|client| ends().map(move |server| (client, server))).enumerate() {
            let found = eras.counted().find(|(c, s, _)| (*c, *s) == (client, server)).map_or(0, |(.., calls)| calls);
            assert_eq!(found, n as u64 % 7, "{client:?} {server:?}");
        }
    }

    #[test]
    fn metrics_are_as_prometheus_reads_them() {
        let eras = Eras::default();
        eras.count((Wire::Sse, Revision::V2024_11_05), (Wire::Stdio, Revision::V2026_07_28));
        let mut out = String::new();
        eras.write(&mut out);
        let line = "landbridge_calls_total{client_transport=\"sse\",client_revision=\"2024-11-05\",server_transport=\"stdio\",server_revision=\"2026-07-28\"} 1";
        assert_eq!(out.lines().nth(2), Some(line));
    }
}
