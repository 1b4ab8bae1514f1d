//! From positions in what ran to positions in what the author wrote.

use sourcemap::SourceMap;

/// A decoded source map.
pub struct Positions {
    map: Option<SourceMap>,
}

impl Positions {
    /// Reads a source map; one that cannot be read maps nothing.
    pub fn new(source_map_json: &str) -> Self {
        Self {
            map: SourceMap::from_slice(source_map_json.as_bytes()).ok(),
        }
    }

    /// The author's line and column, both from 1, of those that ran.
    pub fn map(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let (line, column) = (line.checked_sub(1)?, column.saturating_sub(1));
        let token = self.map.as_ref()?.lookup_token(line, column)?;
        if token.get_dst_line() != line || token.get_src_line() == u32::MAX {
            return None;
        }
        Some((token.get_src_line() + 1, token.get_src_col() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{ContentType, compile};

    #[test]
    fn a_position_leads_back_to_the_source() {
        let source = "interface A {\n  x: number;\n}\nexport const pipeline = (a: A) => {\n  throw new Error(String(a.x));\n};\n";
        let program = compile("a.ts", ContentType::Ts, source, &Default::default()).unwrap();
        let (at, line) = program
            .javascript
            .lines()
            .enumerate()
            .find(|(_, line)| line.contains("throw"))
            .unwrap();
        let column = line.find("throw").unwrap();
        let positions = Positions::new(&program.source_map);
        assert_eq!(
            positions.map(at as u32 + 1, column as u32 + 1),
            Some((5, 3))
        );
    }

    #[test]
    fn a_bad_map_maps_nothing() {
        for bad in ["", "{}", "{\"version\":3}", "nonsense"] {
            assert_eq!(Positions::new(bad).map(1, 1), None);
            assert_eq!(Positions::new(bad).map(0, 0), None);
        }
    }
}
