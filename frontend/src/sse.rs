//! Parser of server-sent events (`text/event-stream`, HTML Living Standard, section 9.2.6).
//!
//! Only the data of messages is returned. Names and ids repeat what the JSON in the data says, and a name that this page
//! does not know must not hide an event, which is why the browser's `EventSource` is not used: it delivers known names only.

/// Longest message in bytes. The largest event holds the prefix of 32 images, well below this.
const MAX_MESSAGE: usize = 8 << 20;

/// An event stream that has been read up to some byte.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Option<String>,
    after_return: bool,
}

/// A message longer than the page accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Parser {
    /// Takes the next bytes, which may end anywhere, and returns the data of the messages that they complete.
    ///
    /// # Errors
    /// A message longer than 8 MiB.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            // `\r\n` is one line end.
            let second_half = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_MESSAGE {
                return Err(TooLong);
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What axum sends: advice to reconnect, a comment that keeps the connection open, and two events.
    const STREAM: &str = "retry: 1000\n\n:\n\nid: 0\nevent: started\ndata: {\"seq\":0}\n\n\
                          id: 1\nevent: a name of the future\ndata: {\"ü\":\ndata: 1}\n\nid: 2\ndata: unfinished";

    #[test]
    fn messages_are_the_same_wherever_the_bytes_are_cut() {
        for stream in [STREAM.to_owned(), STREAM.replace('\n', "\r\n"), STREAM.replace('\n', "\r")] {
            let bytes = stream.as_bytes();
            for cut in 0..=bytes.len() {
                let mut parser = Parser::default();
                let mut messages = parser.feed(&bytes[..cut]).unwrap();
                messages.extend(parser.feed(&bytes[cut..]).unwrap());
                assert_eq!(messages, ["{\"seq\":0}", "{\"ü\":\n1}"], "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_field_without_a_colon_has_no_value_and_one_space_is_not_part_of_it() {
        let mut parser = Parser::default();
        assert_eq!(
            parser.feed(b"data\n\ndata:  x\n\ndatum: y\n\n"),
            Ok(vec![String::new(), " x".to_owned()])
        );
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        let refused = (0..16).any(|_| parser.feed(line.as_bytes()) == Err(TooLong));
        assert!(refused);
    }
}
