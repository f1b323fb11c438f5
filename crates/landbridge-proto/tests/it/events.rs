//! A reader of event streams, written from the WHATWG text and not from our writer.
//!
//! Odd: it takes whole frames, since what it reads is what one poll of a stream gave.

/// One block of a stream: what stood before an empty line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) comments: usize,
}

/// Everything in `text`; what is not closed by an empty line is no event.
pub(crate) fn read(text: &[u8]) -> Vec<Event> {
    let text = std::str::from_utf8(text).expect("a stream is UTF-8").replace("\r\n", "\n").replace('\r', "\n");
    let mut blocks: Vec<&str> = text.split("\n\n").collect();
    blocks.pop();
    blocks.into_iter().map(block).collect()
}

fn block(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => event.comments += 1,
            "id" => event.id = Some(value.to_owned()),
            "event" => event.name = Some(value.to_owned()),
            "retry" => event.retry = value.parse().ok(),
            "data" => {
                let data = event.data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            _ => {}
        }
    }
    event
}
