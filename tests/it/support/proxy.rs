//! A TCP proxy in front of a PostgreSQL server, which cuts, holds and slows connections as networks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where a connection is cut at its next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of it.
    Before,
    /// The server has committed, and its answer is lost (H45).
    After,
}

/// What the connections are told.
#[derive(Default)]
struct State {
    cuts_before: AtomicU64,
    cuts_after: AtomicU64,
    done_before: AtomicU64,
    done_after: AtomicU64,
    /// Nothing passes, and nobody is told (a half-open connection).
    is_held: watch::Sender<bool>,
    /// Milliseconds by which each piece is late.
    delay: AtomicU64,
    /// At how many writing statements from now on nothing passes any more; 0: at none.
    fail_in: AtomicU64,
    /// The writing statement at which that happened.
    failing: watch::Sender<Option<String>>,
}

/// The proxy. Its connections end when it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
    drops: watch::Sender<u64>,
    listener: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let (state, drops) = (Arc::<State>::default(), watch::Sender::new(0));
        let (shared, signal) = (Arc::clone(&state), drops.clone());
        let listener = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (state, mut dropped) = (Arc::clone(&shared), signal.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, upstream, &state) => {}
                        _ = dropped.changed() => {}
                    }
                });
            }
        });
        Proxy { port, state, drops, listener }
    }

    /// Cuts the next connection that commits.
    pub(crate) fn cut(&self, cut: Cut) {
        let armed = match cut {
            Cut::Before => &self.state.cuts_before,
            Cut::After => &self.state.cuts_after,
        };
        armed.fetch_add(1, Ordering::SeqCst);
    }

    /// Cuts all connections now.
    pub(crate) fn drop_all(&self) {
        self.drops.send_modify(|drops| *drops += 1);
    }

    /// Lets nothing pass, or everything again.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state.is_held.send_replace(is_held);
    }

    /// Lets nothing pass from the nth writing statement on, itself included: 1 is the next.
    pub(crate) fn fail_at(&self, nth: u64) {
        self.state.failing.send_replace(None);
        self.state.fail_in.store(nth, Ordering::SeqCst);
    }

    /// The writing statement at which nothing passed any more.
    pub(crate) fn failing(&self) -> Option<String> {
        self.state.failing.borrow().clone()
    }

    /// Makes each piece late.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.delay.store(u64::try_from(delay.as_millis()).expect("a short delay"), Ordering::SeqCst);
    }

    /// Passes everything, at once, from now on.
    pub(crate) fn heal(&self) {
        self.hold(false);
        self.delay(Duration::ZERO);
        self.fail_at(0);
        self.state.cuts_before.store(0, Ordering::SeqCst);
        self.state.cuts_after.store(0, Ordering::SeqCst);
    }

    /// Connections that were cut at a COMMIT so far: before and after the server had heard of it.
    pub(crate) fn cuts(&self) -> (u64, u64) {
        (self.state.done_before.load(Ordering::SeqCst), self.state.done_after.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.drop_all();
    }
}

fn take(armed: &AtomicU64) -> bool {
    armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl State {
    /// Waits as long as nothing may pass, and then as long as a piece is late.
    async fn wait(&self) {
        // The sender is ours, so it is there.
        drop(self.is_held.subscribe().wait_for(|is_held| !is_held).await);
        let delay = self.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Counts a writing statement; at the one that is armed everything is held before it passes.
    fn count(&self, statement: String) {
        if take(&self.fail_in) && self.fail_in.load(Ordering::SeqCst) == 0 {
            self.is_held.send_replace(true);
            self.failing.send_replace(Some(statement));
        }
    }
}

/// The statement of a message, if it is one that writes. A client that keeps no prepared statements sends the text each time.
fn writing(bytes: &[u8]) -> Option<&str> {
    const WRITING: [&str; 6] = ["INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "COMMIT"];
    let body = match bytes.first()? {
        b'Q' => bytes.get(5..)?,
        // A name comes first.
        b'P' => bytes.get(5..)?.splitn(2, |byte| *byte == 0).nth(1)?,
        _ => return None,
    };
    let text = std::str::from_utf8(body.split(|byte| *byte == 0).next()?).ok()?.trim_start();
    WRITING.iter().any(|word| text.starts_with(word)).then_some(text)
}

/// The database that a connection asks for.
fn database(bytes: &[u8]) -> Option<String> {
    let mut parts = bytes.get(8..)?.split(|byte| *byte == 0).skip_while(|part| *part != b"database");
    parts.nth(1).map(|name| String::from_utf8_lossy(name).into_owned())
}

/// Passes the bytes of one connection until it ends or is cut; then both sides are closed.
async fn pass(mut client: TcpStream, upstream: u16, state: &State) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut name = None;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &asked[..length];
                name = name.or_else(|| database(bytes));
                if let Some(statement) = writing(bytes) {
                    state.count(format!("{}: {statement}", name.as_deref().unwrap_or_default()));
                }
                state.wait().await;
                let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
                if commits && take(&state.cuts_before) {
                    state.done_before.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
                if commits && take(&state.cuts_after) {
                    // The answer is there: it has committed.
                    if server.read(&mut answered).await.is_ok() {
                        state.done_after.fetch_add(1, Ordering::SeqCst);
                    }
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                state.wait().await;
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
