//! The schema, the field reference and the lines say the same.

mod common;

use std::{collections::BTreeSet, fs, path::PathBuf};

use common::schema::{self, Schema};
use serde_json::{Value, json};

fn golden_files() -> Vec<(String, String)> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden"].iter().collect();
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_golden_line_is_valid_and_every_kind_is_among_them() {
    let schema = Schema::published();
    let mut actions = BTreeSet::new();
    for (name, lines) in golden_files() {
        assert!(!lines.is_empty(), "{name}");
        schema.check(&lines);
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            actions.insert(value["event"]["action"].as_str().unwrap().to_owned());
        }
    }
    let expected = [
        "bye",
        "cow",
        "exec",
        "exec_failed",
        "exit",
        "fork",
        "fork_failed",
        "heartbeat",
        "hello",
        "lost",
        "reap",
        "reparent",
        "thread",
        "timeline",
    ];
    assert_eq!(Vec::from_iter(actions), expected);
}

#[test]
fn a_field_more_or_less_is_not_valid() {
    let schema = Schema::published();
    let lines = &golden_files()[0].1;
    let mut value: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    assert!(schema.accepts(&value));
    value["tracer"]["cow"]["surprise"] = json!(1);
    assert!(!schema.accepts(&value));
    value["tracer"]["cow"].as_object_mut().unwrap().remove("surprise");
    assert!(schema.accepts(&value));
    value["tracer"].as_object_mut().unwrap().remove("cow");
    assert!(!schema.accepts(&value));
}

/// Adds the paths of all fields that `schema` describes, those of objects not counted.
fn collect(root: &Value, schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("the definition is there");
        return collect(root, target, path, paths);
    }
    if let Some(alternatives) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        for alternative in alternatives.iter().filter(|a| a["type"] != "null") {
            collect(root, alternative, path, paths);
        }
        return;
    }
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            collect(root, property, &below(name), paths);
        }
    } else if schema["additionalProperties"].is_object() {
        collect(root, &schema["additionalProperties"], &below("*"), paths);
    } else if schema["items"]["properties"].is_object() {
        collect(root, &schema["items"], &format!("{path}[]"), paths);
    } else {
        paths.insert(path.to_owned());
    }
}

/// `a.{b,c}` is `a.b` and `a.c`.
fn expand(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (names, tail) = rest.split_once('}').expect("the brace is closed");
    names.split(',').flat_map(|name| expand(&format!("{head}{name}{tail}"))).collect()
}

#[test]
fn the_field_reference_names_each_field_of_the_schema_and_no_other() {
    let schema = schema::json();
    let mut described = BTreeSet::new();
    collect(&schema, &schema, "", &mut described);
    let documented: Vec<String> = schema::docs("records.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .flat_map(|(path, _)| expand(path))
        .collect();
    let documented_once: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(documented.len(), documented_once.len(), "a field is explained twice");
    let missing: Vec<_> = described.difference(&documented_once).collect();
    let stale: Vec<_> = documented_once.difference(&described).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in docs/records.md: {missing:#?}\nnot in docs/schema.json: {stale:#?}"
    );
}

/// Adds the paths of all fields that an object of `schema` may lack, those of objects too.
fn collect_optional(root: &Value, schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("the definition is there");
        return collect_optional(root, target, path, paths);
    }
    if let Some(alternatives) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return alternatives.iter().for_each(|schema| collect_optional(root, schema, path, paths));
    }
    if schema["items"].is_object() {
        return collect_optional(root, &schema["items"], &format!("{path}[]"), paths);
    }
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !required.iter().any(|required| required == name) {
            paths.insert(below.clone());
        }
        collect_optional(root, property, &below, paths);
    }
}

#[test]
fn the_field_reference_says_which_fields_a_line_may_lack() {
    let schema = schema::json();
    let mut optional = BTreeSet::new();
    collect_optional(&schema, &schema, "", &mut optional);
    let (mut wrong, mut silent) = (Vec::new(), Vec::new());
    for row in schema::docs("records.md").lines().filter_map(|line| line.strip_prefix("| `")) {
        let Some((path, cells)) = row.split_once('`') else { continue };
        let last = cells.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        for path in expand(path) {
            // A field, or an object that it is in.
            let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
            let may_lack = ends.into_iter().any(|end| optional.contains(path[..end].trim_end_matches("[]")));
            if last.contains("*0*") && !optional.contains(&path)
                || last.contains("*absent* when") && !may_lack
            {
                wrong.push(path);
            } else if optional.contains(&path)
                && !["*0*", "*absent*", "as `", "likewise"].iter().any(|says| last.contains(says))
            {
                silent.push(path);
            }
        }
    }
    assert!(wrong.is_empty(), "absent says docs/records.md, required docs/schema.json: {wrong:#?}");
    assert!(silent.is_empty(), "required says docs/records.md, not so docs/schema.json: {silent:#?}");
}

/// All objects are closed: a line with a field that nobody described is not valid.
#[test]
fn no_object_of_the_schema_is_open() {
    fn check(schema: &Value, path: &str) {
        match schema {
            Value::Object(map) => {
                if map.get("type") == Some(&json!("object")) {
                    let more = map.get("additionalProperties");
                    let is_map = more.is_some_and(Value::is_object) && !map.contains_key("properties");
                    assert!(more == Some(&json!(false)) || is_map, "{path}");
                }
                for (name, value) in map {
                    check(value, &format!("{path}/{name}"));
                }
            }
            Value::Array(values) => values.iter().for_each(|value| check(value, path)),
            _ => {}
        }
    }
    check(&schema::json(), "");
}
