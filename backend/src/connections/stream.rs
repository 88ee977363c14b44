//! A TCP stream whose writes end with an error when they make no progress, and which tells when its client has left.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How often a connection with unread bytes is looked at, and how long after its end hyper gets to notice it.
const LOOK: Duration = Duration::from_secs(1);

/// Unsent bytes that the system buffers for a client. With more, megabytes would have to be sent before a slow client's progress
/// shows, and a client that reads nothing would hold that much memory. What is on its way does not count, so that a fast client
/// far away is not slowed down.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;

/// See the module.
pub struct ClientStream {
    tcp: Arc<TcpStream>,
    write_timeout: Duration,
    /// Runs while a write waits for the client to read.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    /// Writes that make no progress for `write_timeout` fail.
    pub fn new(tcp: TcpStream, write_timeout: Duration) -> Self {
        // Where it fails, the system buffers more.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT);
        Self { tcp: Arc::new(tcp), write_timeout, deadline: None }
    }

    /// Waits until the client has closed its side, and a moment more.
    ///
    /// hyper notices this by itself, except where bytes after the request, such as a pipelined one, are in the way.
    pub fn client_left(&self) -> impl Future<Output = ()> + use<> {
        let tcp = Arc::clone(&self.tcp);
        async move {
            while let Ok(ready) = tcp.ready(Interest::READABLE).await
                && !ready.is_read_closed()
            {
                // It stays readable as long as there are unread bytes.
                sleep(LOOK).await;
            }
            sleep(LOOK).await;
        }
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.tcp.poll_write_ready(cx)? {
                Poll::Ready(()) => match write(&self.tcp) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    written => {
                        self.deadline = None;
                        return Poll::Ready(written);
                    }
                },
                Poll::Pending => {
                    let timeout = self.write_timeout;
                    let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
                    ready!(deadline.as_mut().poll(cx));
                    let message = format!("the client read nothing for {} s", timeout.as_secs_f64());
                    return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, message)));
                }
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        slices: &[IoSlice],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A TCP stream has no buffer of its own.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&*self.tcp).shutdown(Shutdown::Write) {
            // The client was faster.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
