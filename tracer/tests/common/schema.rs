//! The published schema, and the check of a line against it.

use std::{fs, path::PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

pub(crate) struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

pub(crate) fn docs(file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../docs", file].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn json() -> Value {
    serde_json::from_str(&docs("schema.json")).unwrap()
}

impl Schema {
    pub(crate) fn published() -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("schema.json", json()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// Fails the test unless each of `lines` is valid.
    pub(crate) fn check(&self, lines: &str) {
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Err(error) = self.schemas.validate(&value, self.index) {
                panic!("{line}\n{error:#}");
            }
        }
    }

    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }
}
