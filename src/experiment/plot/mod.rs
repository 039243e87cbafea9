//! Figures: drawn once, kept as SVG and as PNG that show the same.
//!
//! Lengths are in units of the figure: one unit is one pixel of the SVG at its own size. The font is built in, so
//! that a figure does not depend on what is installed; the SVG names it, and fonts that are as wide.

pub(super) mod axes;
mod canvas;
pub(super) mod palette;
pub(super) mod sketch;

use ab_glyph::FontRef;
use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea},
};
use plotters_backend::DrawingBackend;

use self::canvas::{Canvas, SCALE};

/// The name of the font in the SVG. Plotters itself sets no letters: the canvas does.
const FONT: &str = "DejaVu Sans";

/// See `font/LICENSE-DejaVu`.
const FONT_BYTES: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlotError {
    /// The drawing library refused something.
    #[error("{0}")]
    Drawing(String),
    /// The bitmap could not be encoded.
    #[error(transparent)]
    Png(#[from] png::EncodingError),
    /// The built-in font is not one.
    #[error("the built-in font cannot be used")]
    Font,
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Drawing(error.to_string())
    }
}

/// What drawing returns.
pub(super) type Drawn = Result<(), PlotError>;

/// Something that can be drawn.
pub(super) trait Figure {
    /// What it shows, in one line, for readers that do not see it.
    fn title(&self) -> String;
    /// Width and height.
    fn size(&self) -> (u32, u32);
    /// Draws it on a white area of its size.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn;
}

/// The figure as a document of its own.
pub(super) fn svg(figure: &impl Figure) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, figure.size()).into_drawing_area();
        draw(figure, &area)?;
    }
    // Where the font is not installed, Verdana and its like have letters of nearly the same width.
    let families = format!("font-family=\"{FONT}, Bitstream Vera Sans, Verdana, sans-serif\"");
    let text = text.replace(&format!("font-family=\"{FONT}\""), &families);
    let title = format!(">\n<title>{}</title>", escaped(&figure.title()));
    Ok(text.replacen('>', &title, 1))
}

/// The figure as a bitmap.
pub(super) fn png(figure: &impl Figure) -> Result<Vec<u8>, PlotError> {
    let (width, height) = figure.size();
    let (wide, high) = (width * SCALE, height * SCALE);
    let bytes = usize::try_from(u64::from(wide) * u64::from(high) * 3).unwrap_or(usize::MAX);
    let mut pixels = vec![255; bytes];
    {
        let area = Canvas::new(&mut pixels, (width, height), font()?).into_drawing_area();
        draw(figure, &area)?;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, wide, high);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

fn draw<B: DrawingBackend>(figure: &impl Figure, area: &DrawingArea<B, Shift>) -> Drawn {
    area.fill(&palette::WHITE)?;
    figure.draw(area)?;
    area.present()?;
    Ok(())
}

fn font() -> Result<FontRef<'static>, PlotError> {
    FontRef::try_from_slice(FONT_BYTES).map_err(|_| PlotError::Font)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{sketch::Sketch, *};

    struct Words;

    impl Figure for Words {
        fn title(&self) -> String {
            "a < b & c".into()
        }

        fn size(&self) -> (u32, u32) {
            (120, 40)
        }

        fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
            Sketch::on(area).text("µ ≤ 1", (60, 20), 16)
        }
    }

    #[test]
    fn both_forms_are_whole_and_white_where_nothing_is() {
        let text = svg(&Words).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
        assert!(text.contains("<title>a &lt; b &amp; c</title>") && text.contains("µ ≤ 1"), "{text}");
        assert!(text.contains("DejaVu Sans, "));
        let file = png(&Words).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (240, 80));
        assert_eq!(pixels[..3], [255, 255, 255]);
        assert!(pixels.chunks(3).any(|pixel| pixel == [0, 0, 0]), "letters are black");
    }

    #[test]
    fn the_font_has_every_letter_that_figures_use() {
        use ab_glyph::Font;
        let font = font().unwrap();
        for letter in ('!'..='~').chain("µ²×·–−≤≥≈".chars()) {
            assert_ne!(font.glyph_id(letter).0, 0, "{letter}");
        }
    }
}
