//! The two text formats, and which one a client asks for.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What the answer says it is.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that an `Accept` header prefers (RFC 9110, 12.5.1); of several that it likes as much, the
    /// one it names first. A client that takes neither gets Prometheus' format all the same, as from
    /// Prometheus' own libraries: it is text, and better than an error.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0, Self::Prometheus);
        for range in accept.split(',') {
            if let Some((format, weight)) = media_range(range)
                && weight > best.0
            {
                best = (weight, format);
            }
        }
        best.1
    }
}

/// What a media range asks for, and its weight in thousandths; `None` where it is none of ours.
fn media_range(range: &str) -> Option<(Format, u32)> {
    let mut parts = range.split(';').map(str::trim);
    let (format, version) = match &*parts.next()?.to_ascii_lowercase() {
        "application/openmetrics-text" => (Format::OpenMetrics, "1.0.0"),
        "text/plain" => (Format::Prometheus, "0.0.4"),
        "text/*" | "*/*" => (Format::Prometheus, ""),
        _ => return None,
    };
    let mut weight = 1000;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match &*name.trim().to_ascii_lowercase() {
            "version" if value != version => return None,
            "q" => weight = thousandths(value)?,
            // Of `charset` and `escaping` there is one that fits all.
            _ => {}
        }
    }
    Some((format, weight))
}

/// A weight: 0 to 1, with at most three digits after the point.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 3;
    let thousandths = format!("{fraction:0<3}").parse::<u32>().ok().filter(|_| digits)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;version=1.0.0", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Prometheus),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Prometheus),
            // Prometheus 2.42, and 3 with its escaping.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.3", Format::Prometheus),
            ("text/plain;q=0.25, application/openmetrics-text;q=0.3", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, */*;q=0.1", Format::Prometheus),
            ("text/plain, application/openmetrics-text", Format::Prometheus),
            ("application/openmetrics-text, text/plain", Format::OpenMetrics),
            ("application/openmetrics-text;q=7, text/plain;q=0.1", Format::Prometheus),
            (",;q=,=;;\u{7f}", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn weights() {
        assert_eq!(["0", "0.5", "1", "1.000"].map(thousandths), [0, 500, 1000, 1000].map(Some));
        assert_eq!(["", "2", "1.1", "0.1234", "-1", "0.x", ".5"].map(thousandths), [None; 7]);
    }
}
