//! A bitmap that is drawn on as the SVG is: the same coordinates, the same places of letters, at a higher resolution.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use plotters::backend::BitMapBackend;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
    text_anchor::{HPos, VPos},
};

/// Pixels of the bitmap for each unit of the figure, both ways.
pub(super) const SCALE: u32 = 2;

/// What plotters calls a font's size is this many times the size of SVG and CSS.
const SIZE_RATIO: f64 = 1.24;

/// Height of an x, as a part of the font's size.
const X_HEIGHT: f32 = 0.547;

/// The bitmap as a backend of plotters.
pub(super) struct Canvas<'a> {
    inner: BitMapBackend<'a>,
    font: FontRef<'static>,
    size: (u32, u32),
}

impl<'a> Canvas<'a> {
    /// Over a buffer of three bytes for each pixel, which are [`SCALE`] times as many as `size` says, both ways.
    pub(super) fn new(buffer: &'a mut [u8], size: (u32, u32), font: FontRef<'static>) -> Self {
        Self { inner: BitMapBackend::with_buffer(buffer, (size.0 * SCALE, size.1 * SCALE)), font, size }
    }
}

fn scaled((x, y): BackendCoord) -> BackendCoord {
    let scale = SCALE.cast_signed();
    (x * scale, y * scale)
}

/// A style whose lines are as much wider.
struct Wide(BackendColor, u32);

impl Wide {
    fn of(style: &impl BackendStyle) -> Self {
        Self(style.color(), style.stroke_width() * SCALE)
    }
}

impl BackendStyle for Wide {
    fn color(&self) -> BackendColor {
        self.0
    }

    fn stroke_width(&self) -> u32 {
        self.1
    }
}

/// What drawing on it returns. It never fails of itself.
type Drawn<E> = Result<(), DrawingErrorKind<E>>;

impl DrawingBackend for Canvas<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn<Self::ErrorType> {
        self.inner.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<Self::ErrorType> {
        self.inner.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<Self::ErrorType> {
        self.inner.draw_rect(scaled(at), scaled((at.0 + 1, at.1 + 1)), &color, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        lower_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_rect(scaled(upper_left), scaled(lower_right), &Wide::of(style), fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_path(path.into_iter().map(scaled), &Wide::of(style))
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.inner.draw_circle(scaled(center), radius * SCALE, &Wide::of(style), fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.inner.fill_polygon(corners.into_iter().map(scaled), &Wide::of(style))
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        pos: BackendCoord,
    ) -> Drawn<Self::ErrorType> {
        #[expect(clippy::cast_possible_truncation, reason = "sizes of letters are small")]
        let em = (style.size() / SIZE_RATIO) as f32 * f32_of(SCALE);
        let Typeset { glyphs, width } = typeset(&self.font, text, em);
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        let baseline = match style.anchor().v_pos {
            VPos::Top => 0.76 * em,
            VPos::Center => 0.5 * X_HEIGHT * em,
            VPos::Bottom => -0.5 * X_HEIGHT * em,
        };
        let (color, transform, origin) = (style.color(), style.transform(), scaled(pos));
        let (width_max, height_max) = self.inner.get_size();
        for mut glyph in glyphs {
            glyph.position.x += left;
            glyph.position.y += baseline;
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            let mut drawn = Ok(());
            outline.draw(|x, y, coverage| {
                let local = (whole(corner.x) + x.cast_signed(), whole(corner.y) + y.cast_signed());
                let (x, y) = match transform {
                    FontTransform::None => local,
                    FontTransform::Rotate90 => (-local.1, local.0),
                    FontTransform::Rotate180 => (-local.0, -local.1),
                    FontTransform::Rotate270 => (local.1, -local.0),
                };
                let at = (origin.0 + x, origin.1 + y);
                let inside = |at: i32, end: u32| u32::try_from(at).is_ok_and(|at| at < end);
                if drawn.is_ok() && inside(at.0, width_max) && inside(at.1, height_max) {
                    drawn = self.inner.draw_pixel(at, color.mix(f64::from(coverage)));
                }
            });
            drawn?;
        }
        Ok(())
    }
}

/// Letters side by side, beginning at the origin, on the baseline.
struct Typeset {
    glyphs: Vec<Glyph>,
    width: f32,
}

fn typeset(font: &FontRef<'static>, text: &str, em: f32) -> Typeset {
    let units = font.units_per_em().unwrap_or(1.0);
    let scale = PxScale::from(em * font.height_unscaled() / units);
    let measure = font.as_scaled(scale);
    let mut glyphs: Vec<Glyph> = Vec::new();
    let mut width = 0.0;
    for letter in text.chars() {
        let id = font.glyph_id(letter);
        if let Some(last) = glyphs.last() {
            width += measure.kern(last.id, id);
        }
        glyphs.push(id.with_scale_and_position(scale, point(width, 0.0)));
        width += measure.h_advance(id);
    }
    Typeset { glyphs, width }
}

/// Width of a text in units of the figure, at a size of plotters.
pub(super) fn width(font: &FontRef<'static>, text: &str, size: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "sizes of letters are small")]
    let em = (f64::from(size) / SIZE_RATIO) as f32;
    whole(typeset(font, text, em).width.ceil()).unsigned_abs()
}

#[expect(clippy::cast_possible_truncation, reason = "places in a figure are small, and already whole")]
fn whole(value: f32) -> i32 {
    value as i32
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn f32_of(value: u32) -> f32 {
    value as f32
}
