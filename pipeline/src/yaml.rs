//! YAML as data: to JSON text and back.

use serde_json::Value;

/// Largest document, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// The document as JSON text; aliases are expanded, within the parser's budget against documents that explode.
///
/// # Errors
/// A sentence that names line and column.
pub fn to_json(text: &str) -> Result<String, String> {
    if text.len() > MAX_BYTES {
        return Err(format!(
            "the document has {} bytes, more than {MAX_BYTES}",
            text.len()
        ));
    }
    let options = serde_saphyr::Options::default();
    let value: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    serde_json::to_string(&value).map_err(|error| error.to_string())
}

/// JSON text as a YAML document.
///
/// # Errors
/// The text is no JSON.
pub fn from_json(json: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let json = r#"{"a":[1,2.5,null,true,"x: y","- no","","null","1"],"b":{"c":"line\nbreak"}}"#;
        let yaml = from_json(json).unwrap();
        let back: Value = serde_json::from_str(&to_json(&yaml).unwrap()).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(json).unwrap(), "{yaml}");
    }

    #[test]
    fn aliases_merge_and_types_are_the_core_schemas() {
        let yaml = "base: &b {x: 1}\nother: *b\nyes: yes\nno: false\ntext: '1'\nlist:\n- a\n- b: 2\nempty:\n";
        let json = to_json(yaml).unwrap();
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["other"]["x"], 1);
        assert_eq!(value["no"], false);
        assert_eq!(value["text"], "1");
        assert_eq!(value["empty"], Value::Null);
        assert_eq!(value["list"][1]["b"], 2);
    }

    #[test]
    fn a_fault_names_its_place_and_a_bomb_is_refused() {
        let told = to_json("a: [1,\nb: }").unwrap_err();
        assert!(told.contains("line"), "{told}");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for depth in 1..12 {
            let before = vec![format!("*a{}", depth - 1); 10].join(", ");
            bomb.push_str(&format!("a{depth}: &a{depth} [{before}]\n"));
        }
        assert!(to_json(&bomb).is_err());
    }
}
