//! The few shapes that the pictures are made of.

use std::fmt::Write as _;

/// A rectangle, in pixels from the upper left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) w: f64,
    pub(super) h: f64,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) colour: &'a str,
    pub(super) size: f64,
    pub(super) bold: bool,
    /// It ends where it is placed, instead of beginning there.
    pub(super) end: bool,
    /// Its middle is where it is placed.
    pub(super) middle: bool,
}

/// Plain text.
pub(super) const TEXT: Text<'_> =
    Text { colour: super::TEXT, size: 13.0, bold: false, end: false, middle: false };

/// A picture under way.
#[derive(Debug)]
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Inter, Roboto, Helvetica, Arial, \
             sans-serif\">\n"
        ))
    }

    pub(super) fn finish(self) -> String {
        self.0 + "</svg>\n"
    }

    /// One element; writing to a string does not fail.
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        let _infallible = self.0.write_fmt(element);
        self.0.push('\n');
    }

    pub(super) fn rect(&mut self, Area { x, y, w, h }: Area, fill: &str, border: Option<&str>) {
        let border = border.map_or(String::new(), |colour| format!(" stroke=\"{colour}\""));
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"2\" \
             fill=\"{fill}\"{border}/>"
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, look: &Text<'_>) {
        let anchor = match (look.end, look.middle) {
            (true, _) => " text-anchor=\"end\"",
            (_, true) => " text-anchor=\"middle\"",
            _ => "",
        };
        let weight = if look.bold { " font-weight=\"600\"" } else { "" };
        let (text, size, colour) = (escaped(text), look.size, look.colour);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" \
             fill=\"{colour}\"{weight}{anchor}>{text}</text>"
        ));
    }

    /// A line through points, or with `fill` an area.
    pub(super) fn path(
        &mut self,
        points: &[(f64, f64)],
        stroke: &str,
        fill: Option<&str>,
        dashed: bool,
    ) {
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let dashed = if dashed { " stroke-dasharray=\"6 6\"" } else { "" };
        let (path, fill) = (path.join("L"), fill.unwrap_or("none"));
        self.add(format_args!(
            "<path d=\"M{path}\" stroke=\"{stroke}\" fill=\"{fill}\" stroke-width=\"1.5\"{dashed}/>"
        ));
    }

    pub(super) fn circle(&mut self, x: f64, y: f64, radius: f64, fill: &str) {
        self.add(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{fill}\" \
             fill-opacity=\"0.7\" stroke=\"{fill}\"/>"
        ));
    }
}

/// Names come from packets and files.
fn escaped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |text, c| match c {
        '&' => text + "&amp;",
        '<' => text + "&lt;",
        '>' => text + "&gt;",
        '"' => text + "&quot;",
        c => text + c.encode_utf8(&mut [0; 4]),
    })
}

/// About how wide a text is, in pixels.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let of = |c| match c {
        'i' | 'l' | 'j' | '.' | ',' | ':' | '\'' | '|' | '!' | 'I' | '(' | ')' | ' ' => 0.32,
        'm' | 'w' | 'M' | 'W' | '@' => 0.85,
        c if char::is_uppercase(c) => 0.68,
        _ => 0.56,
    };
    text.chars().map(of).sum::<f64>() * size
}

/// As much of a text as there is room for.
pub(super) fn fitting(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while !short.is_empty() && width(&short, size) + size > room {
        short.pop();
    }
    short.trim_end().to_owned() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_markup() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text(0.0, 0.0, "<script>&\"\x1b", &TEXT);
        assert!(svg.finish().contains(">&lt;script&gt;&amp;&quot;</text>"));
    }

    #[test]
    fn a_long_text_is_cut_to_its_room() {
        assert_eq!(fitting("short", 100.0, 12.0), "short");
        let cut = fitting("IDC, China Telecommunications Corporation", 100.0, 12.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 106.0, "{cut}");
    }
}
