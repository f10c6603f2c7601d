//! A pooler in front of a PostgreSQL server, as some run it: it answers the start of a session by itself, and gives each transaction whichever of
//! its own sessions with the server is free.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What becomes of the settings that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// They reach the server.
    Passed,
    /// Nobody hears of them.
    Dropped,
    /// Whoever asks for any is turned away, in pgbouncer's words.
    Refused,
}

/// What the pooler does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) settings: Asked,
    /// A session of the server's goes to another client after each transaction.
    pub(crate) by_transaction: bool,
}

/// Ends when it is dropped.
pub(crate) struct Pooler {
    pub(crate) port: u16,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A session with the server: its messages as they come.
struct Backend {
    writer: OwnedWriteHalf,
    messages: mpsc::Receiver<Vec<u8>>,
    /// What the server said until it was ready for the first time.
    greeting: Vec<Vec<u8>>,
}

type Idle = Arc<Mutex<Vec<Backend>>>;

impl Pooler {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(upstream: u16, manner: Manner) -> Pooler {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let idle = Idle::default();
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream, manner, Arc::clone(&idle)));
            }
        });
        Pooler { port, listener }
    }
}

fn taken(idle: &Idle) -> Option<Backend> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// A first message has no kind, only a length.
async fn first_message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?, 0);
    from.read_exact(message.get_mut(4..)?).await.ok()?;
    Some(message)
}

async fn next_message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let kind = from.read_u8().await.ok()?;
    let mut message = vec![kind];
    message.extend(first_message(from).await?);
    Some(message)
}

/// Reads in a task of its own: a message half read is not lost when something else happens first.
fn messages(mut from: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(message) = next_message(&mut from).await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The first message of a session, without the settings that the client asks for.
fn without_settings(start: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = start[8..].split(|byte| *byte == 0).take_while(|part| !part.is_empty()).collect();
    let kept = parts.chunks(2).filter(|pair| [&b"user"[..], b"database", b"client_encoding"].contains(&pair[0]));
    let body: Vec<u8> = kept.flatten().flat_map(|part| [part, &b"\0"[..]].concat()).chain([0]).collect();
    let length = u32::try_from(body.len() + 8).expect("a short message").to_be_bytes();
    [&length[..], &start[4..8], &body].concat()
}

async fn open(upstream: u16, start: &[u8]) -> Option<Backend> {
    let (reader, mut writer) = TcpStream::connect(("127.0.0.1", upstream)).await.ok()?.into_split();
    writer.write_all(start).await.ok()?;
    let (mut messages, mut greeting) = (messages(reader), Vec::new());
    while greeting.last().is_none_or(|message: &Vec<u8>| message[0] != b'Z') {
        greeting.push(messages.recv().await?);
    }
    Some(Backend { writer, messages, greeting })
}

async fn serve(mut client: TcpStream, upstream: u16, manner: Manner, idle: Idle) -> Option<()> {
    let start = first_message(&mut client).await?;
    if manner.settings == Asked::Refused {
        let says = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter in options: row_security\0\0";
        let length = u32::try_from(says.len() + 4).expect("a short message").to_be_bytes();
        client.write_all(&[b"E", &length[..], says].concat()).await.ok()?;
        return None;
    }
    let start = if manner.settings == Asked::Passed { start } else { without_settings(&start) };
    let mut backend = match taken(&idle) {
        Some(backend) => backend,
        None => open(upstream, &start).await?,
    };
    let (reader, mut client) = client.into_split();
    client.write_all(&backend.greeting.concat()).await.ok()?;
    let mut asked = messages(reader);
    if !manner.by_transaction {
        while transaction(&mut asked, None, &mut client, &mut backend).await.is_some() {}
        return None;
    }
    loop {
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(backend);
        let first = asked.recv().await?;
        backend = match taken(&idle) {
            Some(backend) => backend,
            None => open(upstream, &start).await?,
        };
        transaction(&mut asked, Some(first), &mut client, &mut backend).await?;
    }
}

/// Passes messages until the server is ready and in no transaction.
async fn transaction(
    asked: &mut mpsc::Receiver<Vec<u8>>,
    mut first: Option<Vec<u8>>,
    client: &mut OwnedWriteHalf,
    backend: &mut Backend,
) -> Option<()> {
    let mut owed = 0_u32;
    loop {
        if let Some(message) = first.take() {
            // A client that goes takes no session of the pooler's with it.
            if message[0] == b'X' {
                return None;
            }
            owed += u32::from(matches!(message[0], b'S' | b'Q'));
            backend.writer.write_all(&message).await.ok()?;
        }
        tokio::select! {
            message = asked.recv() => first = Some(message?),
            answer = backend.messages.recv() => {
                let answer = answer?;
                client.write_all(&answer).await.ok()?;
                if answer[0] == b'Z' {
                    owed = owed.saturating_sub(1);
                    if owed == 0 && answer.last() == Some(&b'I') {
                        return Some(());
                    }
                }
            }
        }
    }
}
