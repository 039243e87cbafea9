//! Words and marks in a figure, in one line each.

use plotters::{
    coord::Shift,
    drawing::DrawingArea,
    element::{Circle, PathElement, Polygon, Rectangle},
    style::{
        FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use plotters_backend::DrawingBackend;

use super::{Drawn, FONT, PlotError, canvas, font, palette::BLACK};

/// A place in a figure.
pub(crate) type Place = (i32, i32);

/// An area to draw on, with the colour and the side of a place on which words stand.
pub(crate) struct Sketch<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    color: RGBColor,
    anchor: HPos,
    turned: bool,
}

impl<'a, B: DrawingBackend> Sketch<'a, B> {
    /// Black, words in the middle of their place.
    pub(crate) fn on(area: &'a DrawingArea<B, Shift>) -> Self {
        Self { area, color: BLACK, anchor: HPos::Center, turned: false }
    }

    /// In this colour.
    pub(crate) fn color(&self, color: RGBColor) -> Self {
        Self { color, ..*self }
    }

    /// Words begin at their place.
    pub(crate) fn left_aligned(&self) -> Self {
        Self { anchor: HPos::Left, ..*self }
    }

    /// Words end at their place.
    pub(crate) fn right_aligned(&self) -> Self {
        Self { anchor: HPos::Right, ..*self }
    }

    /// Words run upwards.
    pub(crate) fn turned(&self) -> Self {
        Self { turned: true, ..*self }
    }

    /// Words, their small letters centred on the place's height.
    pub(crate) fn text(&self, text: &str, at: Place, size: u32) -> Drawn {
        let font = (FONT, size).into_font();
        let font = if self.turned { font.transform(FontTransform::Rotate270) } else { font };
        let style = TextStyle::from(font).color(&self.color).pos(Pos::new(self.anchor, VPos::Center));
        Ok(self.area.draw_text(text, &style, at)?)
    }

    /// A full rectangle.
    pub(crate) fn block(&self, from: Place, to: Place) -> Drawn {
        Ok(self.area.draw(&Rectangle::new([from, to], ShapeStyle::from(&self.color).filled()))?)
    }

    /// The outline of one, as wide to both sides of it. Four full ones: plotters has no width for it in SVG.
    pub(crate) fn frame(&self, from: Place, to: Place, width: i32) -> Drawn {
        let (before, behind) = (width / 2, width - width / 2);
        let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
        corners.windows(2).try_for_each(|side| {
            let [(ax, ay), (bx, by)] = [side[0], side[1]];
            self.block((ax.min(bx) - before, ay.min(by) - before), (ax.max(bx) + behind, ay.max(by) + behind))
        })
    }

    /// A line through places.
    pub(crate) fn line(&self, places: impl Into<Vec<Place>>, width: u32) -> Drawn {
        let style = ShapeStyle::from(&self.color).stroke_width(width);
        Ok(self.area.draw(&PathElement::new(places.into(), style))?)
    }

    /// A full disc.
    pub(crate) fn disc(&self, at: Place, radius: u32) -> Drawn {
        Ok(self.area.draw(&Circle::new(at, radius, ShapeStyle::from(&self.color).filled()))?)
    }

    /// A ring.
    pub(crate) fn ring(&self, at: Place, radius: u32, width: u32) -> Drawn {
        let style = ShapeStyle::from(&self.color).stroke_width(width);
        Ok(self.area.draw(&Circle::new(at, radius, style))?)
    }

    /// A full triangle that points up.
    pub(crate) fn triangle(&self, (x, y): Place, radius: i32) -> Drawn {
        let corners = vec![(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)];
        Ok(self.area.draw(&Polygon::new(corners, ShapeStyle::from(&self.color).filled()))?)
    }

    /// A square on its side, full.
    pub(crate) fn square(&self, (x, y): Place, radius: i32) -> Drawn {
        self.block((x - radius, y - radius), (x + radius, y + radius))
    }

    /// ×
    pub(crate) fn cross(&self, (x, y): Place, radius: i32) -> Drawn {
        self.line([(x - radius, y - radius), (x + radius, y + radius)], 2)?;
        self.line([(x - radius, y + radius), (x + radius, y - radius)], 2)
    }

    /// –
    pub(crate) fn dash(&self, (x, y): Place, radius: i32) -> Drawn {
        self.block((x - radius, y - 1), (x + radius, y + 1))
    }
}

/// How wide a text is.
pub(crate) fn text_width(text: &str, size: u32) -> Result<i32, PlotError> {
    Ok(canvas::width(&font()?, text, size).cast_signed())
}
