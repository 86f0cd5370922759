//! Checks lines against `docs/schema.json`.

use std::{collections::HashMap, fmt};

use boon::{Compiler, SchemaIndex, Schemas, ValidationError};
use serde_json::Value;

/// A name for the schema; nothing is read from there.
const URL: &str = "schema.json";

/// The definition of the lines of lives in a compact stream.
const COMPACT: &str = "/$defs/compactTimeline";

/// What the schema says, by kind of line: a line is compared with that of its kind only.
pub(super) struct Schema {
    schemas: Schemas,
    /// By `event.action`, and whether it is a compact line.
    kinds: HashMap<(String, bool), SchemaIndex>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("kinds", &self.kinds.len()).finish_non_exhaustive()
    }
}

impl Schema {
    /// From a schema whose alternatives differ in `event.action`; fails at one that is none.
    pub(super) fn new(root: Value) -> Result<Self, String> {
        let alternatives = root["oneOf"].as_array().map_or(0, Vec::len);
        let actions: Vec<(String, bool)> =
            (0..alternatives).map(|index| action(&root, index)).collect::<Option<_>>().ok_or("no action")?;
        let mut compiler = Compiler::new();
        compiler.add_resource(URL, root).map_err(|error| error.to_string())?;
        let mut schemas = Schemas::new();
        let mut kinds = HashMap::new();
        for (index, action) in actions.into_iter().enumerate() {
            let place = format!("{URL}#/oneOf/{index}");
            let kind = compiler.compile(&place, &mut schemas).map_err(|error| error.to_string())?;
            kinds.insert(action, kind);
        }
        Ok(Self { schemas, kinds })
    }

    /// Checks a line of a kind, in a stream that is compact or not; the error says where it differs.
    pub(super) fn check(&self, action: &str, is_compact: bool, line: &Value) -> Result<(), String> {
        let kind = |is_compact| self.kinds.get(&(action.to_owned(), is_compact));
        let Some(&kind) = kind(is_compact).or_else(|| kind(false)) else {
            return Err(format!("{action} is no kind of line"));
        };
        self.schemas.validate(line, kind).map_err(|error| {
            let first = first_cause(&error);
            format!("{}: {}", first.instance_location, first.kind)
        })
    }
}

/// The kind of line that an alternative is for, and whether that is compact.
fn action(root: &Value, alternative: usize) -> Option<(String, bool)> {
    let target = root["oneOf"][alternative]["$ref"].as_str()?.strip_prefix('#')?;
    let action = root.pointer(target)?.pointer("/properties/event/properties/action/const")?;
    Some((action.as_str()?.to_owned(), target == COMPACT))
}

/// What the others follow from.
fn first_cause<'e, 's, 'v>(error: &'e ValidationError<'s, 'v>) -> &'e ValidationError<'s, 'v> {
    error.causes.first().map_or(error, first_cause)
}
