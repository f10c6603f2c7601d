//! Which of librdkafka's properties a user may set.

/// Security, timeouts and sizes. What loads code, runs a program, or decides where reading starts and what is committed is not here.
const ALLOWED: [&str; 47] = [
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.type",
    "connections.max.idle.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.sigalgs.list",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Whether a property may be set; if not, what to do instead.
pub(super) fn is_allowed(name: &str) -> Result<(), String> {
    if ALLOWED.contains(&name) {
        return Ok(());
    }
    let ours = ["group.id", "bootstrap.servers", "metadata.broker.list", "enable.auto.commit", "auto.offset.reset", "isolation.level"];
    if ours.contains(&name) {
        return Err("entail sets it itself: the ledger decides what is read and committed".to_owned());
    }
    Err(match crate::rules::suggest::nearest(name, ALLOWED.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "only properties of security, timeouts and sizes may be set here; none that load code or run a program".to_owned(),
    })
}

/// Whether its value is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(name, "sasl.password" | "ssl.key.password")
}
