//! Where plotters draws to: SVG whose shapes have classes in the place of colours, so that the style sheet colours them, in light, dark and
//! in print. No font is loaded: the page's own counts.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::rc::Rc;

use maud::{Render as _, html};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// What a shape is, in a chart. Plotters knows it as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    Frame,
    Grid,
    Words,
    Path,
    Goal,
    Measured,
    Bounds,
    Untold,
}

const ROLES: [(Role, &str); 8] = [
    (Role::Frame, "frame"),
    (Role::Grid, "grid"),
    (Role::Words, "words"),
    (Role::Path, "path"),
    (Role::Goal, "goal"),
    (Role::Measured, "measured"),
    (Role::Bounds, "bounds"),
    (Role::Untold, "untold"),
];

impl Role {
    pub(super) fn colour(self) -> RGBColor {
        RGBColor(self as u8, 0, 0)
    }
}

fn class(colour: BackendColor) -> &'static str {
    ROLES.iter().find(|(role, _)| *role as u8 == colour.rgb.0).map_or("frame", |(_, class)| class)
}

/// The inside of an `<svg>`. Plotters keeps what it draws to, so who reads it shares it.
pub(super) struct Drawing {
    pub(super) size: (u32, u32),
    pub(super) inside: Rc<RefCell<String>>,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Drawing {
    fn path(&mut self, points: impl IntoIterator<Item = BackendCoord>, colour: BackendColor, (close, filled): (bool, bool)) -> Drawn {
        if colour.alpha == 0.0 {
            return Ok(());
        }
        let mut d = String::new();
        for (x, y) in points {
            let _ = write!(d, "{}{x} {y}", if d.is_empty() { "M" } else { "L" });
        }
        if close {
            d.push('Z');
        }
        html! { path.(class(colour)).filled[filled] d=(d) {} }.render_to(&mut self.inside.borrow_mut());
        Ok(())
    }
}

impl DrawingBackend for Drawing {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        self.path([(x, y), (x + 1, y)], colour, (false, false))
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.path([from, to], style.color(), (false, false))
    }

    fn draw_rect<S: BackendStyle>(&mut self, (left, top): BackendCoord, (right, bottom): BackendCoord, style: &S, fill: bool) -> Drawn {
        self.path([(left, top), (right, top), (right, bottom), (left, bottom)], style.color(), (true, fill))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.path(path, style.color(), (false, false))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        self.path(corners, style.color(), (true, true))
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        html! { circle.(class(style.color())).filled[fill] cx=(x) cy=(y) r=(radius) {} }.render_to(&mut self.inside.borrow_mut());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        if text.is_empty() {
            return Ok(());
        }
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Right => "end",
            HPos::Center => "middle",
        };
        let down = match style.anchor().v_pos {
            VPos::Top => "0.8em",
            VPos::Center => "0.35em",
            VPos::Bottom => "-0.2em",
        };
        html! { text.(class(style.color())) x=(x) y=(y) dy=(down) text-anchor=(anchor) { (text) } }
            .render_to(&mut self.inside.borrow_mut());
        Ok(())
    }

    /// About half an em a letter: nobody here knows the reader's font.
    fn estimate_text_size<S: BackendTextStyle>(&self, text: &str, style: &S) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let letters = text.chars().fold(0.0, |sum, _| sum + 0.55);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixels of a label")]
        Ok(((letters * style.size()).ceil() as u32, style.size().ceil() as u32))
    }
}
