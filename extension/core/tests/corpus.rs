//! What the fuzzer has found worth keeping still holds. `make fuzz` looks for more.

// A panic is how a property says that it does not hold.
#[allow(clippy::expect_used, clippy::format_collect)]
#[path = "../fuzz/properties.rs"]
mod properties;

use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fs, path::Path};

#[test]
fn every_property_holds_for_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in properties::PROPERTIES {
        let packed = fs::read_to_string(corpus.join(name).with_extension("base64")).unwrap();
        assert!(!packed.is_empty(), "there is no corpus for {name}");
        for line in packed.lines() {
            // Shown when the property panics.
            println!("{name}: {line}");
            property(&STANDARD.decode(line).unwrap());
        }
    }
}
