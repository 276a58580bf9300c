//! What the fuzzer has found worth keeping still holds. `make fuzz` looks for more.

// A panic is how a property says that it does not hold.
#[allow(clippy::expect_used, clippy::format_collect)]
#[path = "../fuzz/properties.rs"]
mod properties;

use std::{fs, path::Path};

#[test]
fn every_property_holds_for_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in properties::PROPERTIES {
        let files = fs::read_dir(corpus.join(name)).unwrap().map(|file| file.unwrap().path());
        let mut inputs = files.map(|path| (path.clone(), fs::read(path).unwrap())).peekable();
        assert!(inputs.peek().is_some(), "there is no corpus for {name}");
        for (path, input) in inputs {
            // Shown when the next line panics.
            println!("{}", path.display());
            property(&input);
        }
    }
}
