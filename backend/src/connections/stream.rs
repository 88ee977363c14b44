//! A TCP stream whose writes fail if they make no progress, and which detects that its client has disconnected.

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

/// How often a connection with unread bytes is polled, and how long hyper has to notice its end.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Unsent bytes that the system buffers per client (`TCP_NOTSENT_LOWAT`). With a larger buffer, a slow client's progress would show
/// only after megabytes, and a client that reads nothing would hold that much memory. Bytes in flight do not count, so fast clients
/// with high latency are not slowed down.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 64 * 1024;

/// A client's TCP stream.
pub struct ClientStream {
    tcp: Arc<TcpStream>,
    write_timeout: Duration,
    /// Runs while a write waits for the client to read.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    /// Writes that make no progress for `write_timeout` fail.
    pub fn new(tcp: TcpStream, write_timeout: Duration) -> Self {
        // If this fails, the system buffers more.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
        Self { tcp: Arc::new(tcp), write_timeout, deadline: None }
    }

    /// Waits until the client has closed its side, and one interval more.
    ///
    /// hyper notices this itself, unless there are unread bytes after the request, such as a pipelined request.
    pub fn client_left(&self) -> impl Future<Output = ()> + use<> {
        let tcp = Arc::clone(&self.tcp);
        async move {
            while let Ok(ready) = tcp.ready(Interest::READABLE).await
                && !ready.is_read_closed()
            {
                // The stream stays readable as long as there are unread bytes.
                sleep(POLL_INTERVAL).await;
            }
            sleep(POLL_INTERVAL).await;
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
            // The client closed the connection first.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
