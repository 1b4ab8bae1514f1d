//! A TCP proxy whose links can be cut, emptied into a black hole, delayed and throttled while connections are open.
//!
//! A [`Front`] listens for one process and passes each connection on over one of its [`Link`]s, as a load balancer does:
//! the first that is open and answers. A black hole keeps connections and reads nothing, so that bytes come late, in
//! order, when it ends, as they do on a real network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// How long a connection to the other side may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What a link does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on.
    Open,
    /// Open connections are reset, new ones too.
    Cut,
    /// Nothing arrives; connections stay and new ones wait.
    BlackHole,
    /// Like [`Mode::BlackHole`] towards the process that opened the connection; the other way is open.
    Deaf,
    /// Each piece waits so long.
    Delay(Duration),
    /// So many bytes a second in each direction.
    Throttle(u32),
}

/// Between two processes.
pub struct Link {
    /// For messages.
    pub name: String,
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Connections opened over it so far.
    opened: AtomicUsize,
    /// Those up to this number are forgotten.
    forgotten: AtomicUsize,
}

impl Link {
    /// An open link to `upstream`.
    pub fn new(name: String, upstream: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            name,
            upstream,
            mode: watch::Sender::new(Mode::Open),
            opened: AtomicUsize::new(0),
            forgotten: AtomicUsize::new(0),
        })
    }

    /// From now on, for open connections too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections opened over it so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Swallows what comes over the connections that are open now, for ever, and tells nobody: a router on the way has
    /// lost its memory. New ones are not concerned.
    pub fn forget(&self) {
        self.forgotten.store(self.opened(), Ordering::Relaxed);
        // Wakes the open ones.
        self.set(self.mode());
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }
}

/// A listener with the links behind it; everything ends when it is dropped.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// In the order in which they are tried.
    pub links: Vec<Arc<Link>>,
    _task: JoinSet<()>,
}

impl Front {
    /// Listens on a free port of `ip`.
    pub async fn start(ip: Ipv4Addr, links: Vec<Arc<Link>>) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut task = JoinSet::new();
        let behind = links.clone();
        task.spawn(async move {
            // Connections are owned by the listener's task: dropping the front ends them.
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        open.spawn(pass_on(stream, behind.clone()));
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self {
            address,
            links,
            _task: task,
        }
    }

    /// All its links.
    pub fn set(&self, mode: Mode) {
        for link in &self.links {
            link.set(mode);
        }
    }
}

async fn pass_on(stream: TcpStream, links: Vec<Arc<Link>>) {
    let _ = stream.set_nodelay(true);
    match choose(&links).await {
        Some((link, upstream)) => {
            let number = link.opened.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = upstream.set_nodelay(true);
            carry(&link, number, stream, upstream).await;
        }
        None => reset(&stream),
    }
}

/// The first link that is open and whose other side answers. A black hole is chosen only if nothing better is there.
async fn choose(links: &[Arc<Link>]) -> Option<(Arc<Link>, TcpStream)> {
    let swallows = |link: &&Arc<Link>| matches!(link.mode(), Mode::BlackHole | Mode::Deaf);
    let open = links.iter().filter(|link| !swallows(link));
    for link in open.chain(links.iter().filter(swallows)) {
        if link.mode() == Mode::Cut {
            continue;
        }
        let mut mode = link.mode.subscribe();
        // SYN is lost as everything else.
        if mode
            .wait_for(|mode| *mode != Mode::BlackHole)
            .await
            .is_err()
        {
            return None;
        }
        let connecting = TcpStream::connect(link.upstream);
        if let Ok(Ok(upstream)) = tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            return Some((link.clone(), upstream));
        }
    }
    None
}

fn reset(stream: &TcpStream) {
    // Closing with unsent data thrown away sends RST; without it the end would look orderly.
    let _ = stream.set_zero_linger();
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the process that opened the connection.
    Up,
    /// To it.
    Down,
}

async fn carry(link: &Link, number: usize, mut client: TcpStream, mut server: TcpStream) {
    let mut cut = link.mode.subscribe();
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let was_cut = tokio::select! {
        ended = async { tokio::try_join!(
            pump(link, number, Way::Up, client_read, server_write),
            pump(link, number, Way::Down, server_read, client_write),
        ) } => ended.is_err(),
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => true,
    };
    if was_cut {
        reset(&client);
        reset(&server);
    }
}

/// One side broke the connection: the other side is told at once, in both directions.
struct Broken;

/// Until its end or an error.
async fn pump(
    link: &Link,
    number: usize,
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), Broken> {
    let mut mode = link.mode.subscribe();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let flows = |mode: &Mode| {
            let known = number > link.forgotten.load(Ordering::Relaxed);
            known
                && match mode {
                    Mode::BlackHole => false,
                    Mode::Deaf => way == Way::Up,
                    Mode::Open | Mode::Cut | Mode::Delay(_) | Mode::Throttle(_) => true,
                }
        };
        if mode.wait_for(flows).await.is_err() {
            return Ok(());
        }
        let count = tokio::select! {
            read = from.read(&mut piece) => match read {
                Ok(count) => count,
                Err(_) => return Err(Broken),
            },
            // Look at the new mode first.
            _ = mode.changed() => continue,
        };
        let wait = match *mode.borrow() {
            Mode::Delay(wait) => wait,
            Mode::Throttle(rate) => Duration::from_secs_f64(count as f64 / f64::from(rate.max(1))),
            Mode::Open | Mode::Cut | Mode::BlackHole | Mode::Deaf => Duration::ZERO,
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        // The hole may have opened meanwhile.
        if mode.wait_for(flows).await.is_err() || count == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return Err(Broken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::address;

    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                open.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, tasks)
    }

    async fn said(stream: &mut TcpStream, word: &[u8; 4]) -> std::io::Result<[u8; 4]> {
        stream.write_all(word).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_resets_open_and_new_connections_until_it_heals() {
        let (upstream, _echo) = echo().await;
        let link = Link::new("x".into(), upstream);
        let front = Front::start(address::fresh(), vec![link.clone()]).await;
        let mut open = TcpStream::connect(front.address).await.unwrap();
        assert_eq!(&said(&mut open, b"one!").await.unwrap(), b"one!");
        link.set(Mode::Cut);
        assert_eq!(open.read(&mut [0; 4]).await.unwrap_or(0), 0);
        let mut new = TcpStream::connect(front.address).await.unwrap();
        assert!(said(&mut new, b"two!").await.is_err());
        link.set(Mode::Open);
        let mut again = TcpStream::connect(front.address).await.unwrap();
        assert_eq!(&said(&mut again, b"tri!").await.unwrap(), b"tri!");
    }

    #[tokio::test]
    async fn what_went_into_a_black_hole_comes_late_and_in_order() {
        let (upstream, _echo) = echo().await;
        let link = Link::new("x".into(), upstream);
        let front = Front::start(address::fresh(), vec![link.clone()]).await;
        let mut open = TcpStream::connect(front.address).await.unwrap();
        assert_eq!(&said(&mut open, b"one!").await.unwrap(), b"one!");
        link.set(Mode::BlackHole);
        open.write_all(b"two!").await.unwrap();
        let mut answer = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(200), open.read_exact(&mut answer));
        assert!(early.await.is_err(), "nothing comes out");
        link.set(Mode::Open);
        open.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two!");
    }

    #[tokio::test]
    async fn a_front_goes_to_the_next_link_when_the_first_does_not_answer() {
        let (upstream, _echo) = echo().await;
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = dead.local_addr().unwrap();
        drop(dead);
        let links = vec![
            Link::new("gone".into(), gone),
            Link::new("there".into(), upstream),
        ];
        let front = Front::start(address::fresh(), links).await;
        let mut open = TcpStream::connect(front.address).await.unwrap();
        assert_eq!(&said(&mut open, b"one!").await.unwrap(), b"one!");
        assert_eq!((front.links[0].opened(), front.links[1].opened()), (0, 1));
    }
}
