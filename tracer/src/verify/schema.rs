//! Checks lines against `docs/schema.json`, with as much of JSON Schema as that uses. A schema with more in it is
//! refused, so that nothing is taken for checked that is not.

use std::{collections::HashMap, fmt};

use serde_json::{Map, Value};

use super::pattern::Pattern;

/// What the schema says, by kind of line.
#[derive(Debug)]
pub(super) struct Schema {
    nodes: Vec<Node>,
    kinds: HashMap<String, usize>,
}

/// What a value must be; what is not said may be anything.
#[derive(Debug, Default)]
struct Node {
    types: Option<Vec<Type>>,
    minimum: Option<i128>,
    maximum: Option<i128>,
    pattern: Option<Pattern>,
    one_of: Option<Vec<Value>>,
    fields: Option<Fields>,
    items: Option<usize>,
    max_items: Option<usize>,
    unique_items: bool,
    any_of: Option<Vec<usize>>,
}

#[derive(Debug)]
struct Fields {
    known: HashMap<String, usize>,
    required: Vec<String>,
    /// What fields of other names must be; `None`: there must be none.
    other: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Object,
    Array,
    Text,
    Integer,
    Boolean,
    Null,
}

impl Type {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::Text,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            "null" => Self::Null,
            _ => return None,
        })
    }

    /// The type of a value; `None` for a number that is no integer of 64 bits, which no field is.
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Object(_) => Self::Object,
            Value::Array(_) => Self::Array,
            Value::String(_) => Self::Text,
            Value::Number(number) if number.is_i64() || number.is_u64() => Self::Integer,
            Value::Number(_) => return None,
            Value::Bool(_) => Self::Boolean,
            Value::Null => Self::Null,
        })
    }
}

/// Where a line is not as the schema says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// From the innermost field outwards.
    path: Vec<String>,
    what: &'static str,
}

impl Mismatch {
    fn new(what: &'static str) -> Self {
        Self { path: Vec::new(), what }
    }

    fn at(mut self, field: impl Into<String>) -> Self {
        self.path.push(field.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.path.iter().rev().enumerate() {
            write!(f, "{}{field}", if index > 0 { "." } else { "" })?;
        }
        write!(f, "{}{}", if self.path.is_empty() { "" } else { " " }, self.what)
    }
}

impl Schema {
    /// Takes a schema apart whose alternatives differ in `event.action`; fails at what it does not know.
    pub(super) fn new(root: &Value) -> Result<Self, String> {
        let mut compiler = Compiler { root, nodes: Vec::new(), named: HashMap::new() };
        let alternatives = root["oneOf"].as_array().ok_or("the schema has no oneOf")?;
        let mut kinds = HashMap::new();
        for alternative in alternatives {
            let target = compiler.target(alternative)?;
            let action = target.pointer("/properties/event/properties/action/const").and_then(Value::as_str);
            let action = action.ok_or_else(|| format!("{alternative} has no action"))?;
            kinds.insert(action.to_owned(), compiler.node(alternative)?);
        }
        Ok(Self { nodes: compiler.nodes, kinds })
    }

    /// Checks a line of a kind.
    pub(super) fn check(&self, action: &str, line: &Value) -> Result<(), Mismatch> {
        match self.kinds.get(action) {
            Some(&node) => self.check_node(node, line),
            None => Err(Mismatch::new("is no kind of line").at("action").at("event")),
        }
    }

    fn check_node(&self, node: usize, value: &Value) -> Result<(), Mismatch> {
        let node = &self.nodes[node];
        let expect = |holds: bool, what| if holds { Ok(()) } else { Err(Mismatch::new(what)) };
        if let Some(types) = &node.types {
            expect(Type::of(value).is_some_and(|of| types.contains(&of)), "is not of its type")?;
        }
        if let Some(values) = &node.one_of {
            expect(values.contains(value), "is none of its values")?;
        }
        if let Some(nodes) = &node.any_of {
            let mut results = nodes.iter().map(|&node| self.check_node(node, value));
            // The first alternative says what should be there, the others when it need not be.
            let first = results.next().unwrap_or(Ok(()));
            if first.is_err() && !results.any(|result| result.is_ok()) {
                return first;
            }
        }
        match value {
            Value::Number(number) => {
                let number = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                let is_at = |holds: fn(i128, i128) -> bool, limit: Option<i128>| {
                    limit.zip(number).is_none_or(|(limit, number)| holds(number, limit))
                };
                expect(is_at(|n, limit| n >= limit, node.minimum), "is too small")?;
                expect(is_at(|n, limit| n <= limit, node.maximum), "is too great")
            }
            Value::String(text) => {
                expect(node.pattern.as_ref().is_none_or(|p| p.matches(text)), "is not of its form")
            }
            Value::Array(items) => self.check_items(node, items),
            Value::Object(map) => {
                node.fields.as_ref().map_or(Ok(()), |fields| self.check_fields(fields, map))
            }
            Value::Bool(_) | Value::Null => Ok(()),
        }
    }

    fn check_items(&self, node: &Node, items: &[Value]) -> Result<(), Mismatch> {
        if node.max_items.is_some_and(|max| items.len() > max) {
            return Err(Mismatch::new("has too many items"));
        }
        if node.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
            return Err(Mismatch::new("has an item twice"));
        }
        let Some(of) = node.items else { return Ok(()) };
        items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| self.check_node(of, item).map_err(|e| e.at(i.to_string())))
    }

    fn check_fields(&self, fields: &Fields, map: &Map<String, Value>) -> Result<(), Mismatch> {
        if let Some(missing) = fields.required.iter().find(|name| !map.contains_key(*name)) {
            return Err(Mismatch::new("is missing").at(missing));
        }
        for (name, value) in map {
            match fields.known.get(name).copied().or(fields.other) {
                Some(node) => self.check_node(node, value).map_err(|error| error.at(name))?,
                None => return Err(Mismatch::new("is not in the schema").at(name)),
            }
        }
        Ok(())
    }
}

struct Compiler<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    /// Definitions by their reference.
    named: HashMap<&'a str, usize>,
}

impl<'a> Compiler<'a> {
    /// What a reference refers to; anything else is itself.
    fn target(&self, schema: &'a Value) -> Result<&'a Value, String> {
        let Some(name) = schema["$ref"].as_str() else { return Ok(schema) };
        let target = name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        target.ok_or_else(|| format!("{name} is not defined"))
    }

    /// The node of a schema. Definitions are entered once; none may contain itself.
    fn node(&mut self, schema: &'a Value) -> Result<usize, String> {
        let Some(name) = schema["$ref"].as_str() else {
            let node = self.compile(schema)?;
            self.nodes.push(node);
            return Ok(self.nodes.len() - 1);
        };
        if let Some(&node) = self.named.get(name) {
            return Ok(node);
        }
        let target = self.target(schema)?;
        let node = self.node(target)?;
        self.named.insert(name, node);
        Ok(node)
    }

    fn compile(&mut self, schema: &'a Value) -> Result<Node, String> {
        let map = schema.as_object().ok_or_else(|| format!("{schema} is no object"))?;
        let mut node = Node::default();
        for (keyword, value) in map {
            let unknown = || format!("{keyword}: {value} is not known");
            match keyword.as_str() {
                "type" => {
                    let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                    let types = names.iter().map(|name| Type::named(name.as_str()?)).collect::<Option<_>>();
                    node.types = Some(types.ok_or_else(unknown)?);
                }
                "minimum" => node.minimum = Some(value.as_i64().ok_or_else(unknown)?.into()),
                "maximum" => node.maximum = Some(value.as_i64().ok_or_else(unknown)?.into()),
                "pattern" => {
                    let pattern = value.as_str().and_then(Pattern::new).ok_or_else(unknown)?;
                    node.pattern = Some(pattern);
                }
                "enum" => node.one_of = Some(value.as_array().ok_or_else(unknown)?.clone()),
                "const" => node.one_of = Some(vec![value.clone()]),
                "items" => node.items = Some(self.node(value)?),
                "maxItems" => {
                    let max = value.as_u64().and_then(|max| usize::try_from(max).ok());
                    node.max_items = Some(max.ok_or_else(unknown)?);
                }
                "uniqueItems" => node.unique_items = value.as_bool().ok_or_else(unknown)?,
                "anyOf" => {
                    let nodes = value.as_array().ok_or_else(unknown)?.iter().map(|one| self.node(one));
                    node.any_of = Some(nodes.collect::<Result<_, _>>()?);
                }
                "properties" | "required" | "additionalProperties" => {}
                // It says what the text means; its form has a pattern.
                "contentEncoding" => {}
                _ => return Err(unknown()),
            }
        }
        if node.types.as_ref().is_some_and(|types| types.contains(&Type::Object)) {
            node.fields = Some(self.fields(map)?);
        }
        Ok(node)
    }

    fn fields(&mut self, map: &'a Map<String, Value>) -> Result<Fields, String> {
        let mut known = HashMap::new();
        for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            known.insert(name.clone(), self.node(property)?);
        }
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        let other = match map.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(schema @ Value::Object(_)) => Some(self.node(schema)?),
            _ => return Err(format!("an object of {:?} is open", known.keys())),
        };
        Ok(Fields { known, required: required.filter_map(Value::as_str).map(String::from).collect(), other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(of_x: Value) -> Result<Schema, String> {
        Schema::new(&json!({
            "oneOf": [{"$ref": "#/$defs/it"}],
            "$defs": {"it": {
                "type": "object",
                "properties": {
                    "event": {
                        "type": "object",
                        "properties": {"action": {"const": "it"}},
                        "additionalProperties": false
                    },
                    "x": of_x
                },
                "required": ["x"],
                "additionalProperties": false
            }}
        }))
    }

    #[test]
    fn the_published_schema_is_understood() {
        Schema::new(&serde_json::from_str(super::super::SCHEMA).unwrap()).unwrap();
    }

    #[test]
    fn each_keyword_is_checked() {
        for (keywords, good, bad, says) in [
            (json!({"type": ["integer", "null"]}), json!(null), json!(true), "x is not of its type"),
            (json!({"type": "integer"}), json!(u64::MAX), json!(1e30), "x is not of its type"),
            (json!({"minimum": 0}), json!(0), json!(-1), "x is too small"),
            (json!({"maximum": 7}), json!(7), json!(u64::MAX), "x is too great"),
            (json!({"pattern": "^a+$"}), json!("aa"), json!("ab"), "x is not of its form"),
            (json!({"enum": ["a", null]}), json!(null), json!("b"), "x is none of its values"),
            (json!({"const": 1}), json!(1), json!(2), "x is none of its values"),
            (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1]), "x.1 is not of its type"),
            (json!({"maxItems": 1}), json!([1]), json!([1, 2]), "x has too many items"),
            (json!({"uniqueItems": true}), json!([1, 2]), json!([1, 1]), "x has an item twice"),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
                json!(null),
                json!(1),
                "x is not of its type",
            ),
            (
                json!({"type": "object", "additionalProperties": {"minimum": 1}}),
                json!({"a": 1}),
                json!({"a": 0}),
                "x.a is too small",
            ),
            (
                json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false}),
                json!({"a": 1}),
                json!({"b": 1}),
                "x.b is not in the schema",
            ),
            (
                json!({"type": "object", "required": ["a"], "additionalProperties": {}}),
                json!({"a": 1}),
                json!({}),
                "x.a is missing",
            ),
        ] {
            let schema = schema(keywords.clone()).unwrap();
            assert_eq!(schema.check("it", &json!({"x": good})), Ok(()), "{keywords}");
            let error = schema.check("it", &json!({"x": bad})).unwrap_err();
            assert_eq!(error.to_string(), says, "{keywords}");
        }
        let error = schema(json!({})).unwrap().check("other", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "event.action is no kind of line");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for keywords in [
            json!({"exclusiveMinimum": 0}),
            json!({"type": "number"}),
            json!({"type": "object"}),
            json!({"pattern": "a|b"}),
            json!({"$ref": "#/$defs/nowhere"}),
        ] {
            assert!(schema(keywords.clone()).is_err(), "{keywords}");
        }
    }
}
