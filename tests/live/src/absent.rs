//! What a line leaves out, as `docs/records.md` has it: what is 0, false, empty or the same as something else, and what
//! does not apply.
//!
//! The tests compare with all of it, so that a field that is missing for any other reason is found.

use serde_json::{Value, json};

/// The objects of a line that leave something out, and what that is; outer ones first.
fn table() -> Vec<(&'static str, Value)> {
    let copies = json!({ "copies": 0, "reuses": 0, "bytes": 0 });
    let memory =
        json!({ "anon_bytes": 0, "file_bytes": 0, "shmem_bytes": 0, "swap_bytes": 0, "pgtable_bytes": 0 });
    vec![
        ("/process", json!({ "tty": null, "previous": [] })),
        ("/tracer", json!({ "missing": [], "children": {}, "namespaces": {} })),
        (
            "/tracer/fork",
            json!({
                "shares_mm": false, "pgtable_bytes": 0, "vmas": 0, "ns_per_mib": null, "shared_anon_bytes": 0,
                "shared_file_bytes": 0, "shared_shmem_bytes": 0, "parent_blocked_ns": null, "released_by": null,
                "before_exec": copies, "by_parent": null, "eager_copies": 0, "wasted": null
            }),
        ),
        ("/tracer/fork/by_parent", json!({ "overlapped": false })),
        (
            "/tracer/exec",
            json!({
                "interpreters": [], "args_truncated": false, "secure": false, "threads_killed": 0, "failures": 0,
                "tries": null, "load_ns": null, "start": null
            }),
        ),
        ("/tracer/exec/file", json!({ "kind": "file" })),
        ("/tracer/exec/dropped", memory.clone()),
        ("/tracer/exec/start", json!({ "minor": 0, "major": 0 })),
        (
            "/tracer/cow",
            json!({
                "huge_reuses": 0, "zero_upgrades": 0, "huge_zero_upgrades": 0, "by": {}, "by_page": {},
                "by_region": {}, "after_exec": copies
            }),
        ),
        ("/tracer/cow/by", json!({ "user": 0, "kernel": 0, "gup": 0, "remote_candidates": 0, "eager": 0 })),
        (
            "/tracer/cow/by_page",
            json!({ "anon": 0, "ksm": 0, "file": 0, "file_first": 0, "swap": 0, "huge": 0 }),
        ),
        ("/tracer/cow/by_region", json!({ "heap": 0, "stack": 0, "data": 0, "file": 0, "anon": 0 })),
        (
            "/tracer/faults",
            json!({
                "demand_zero": 0, "file": 0, "write_notify": 0, "segv": 0, "spurious": 0, "uffd": 0, "failed": 0,
                "lost_races": 0, "splits": 0, "unsure": 0
            }),
        ),
        (
            "/tracer/children",
            json!({
                "forks": 0, "vforks": 0, "spawns": 0, "clones": 0, "execs_followed": 0, "threads": 0,
                "paid": copies
            }),
        ),
        ("/tracer/exit", json!({ "signal": null, "core_dumped": false })),
        ("/tracer/exit/memory", memory),
        ("/tracer/reap", json!({ "auto": false, "exact": false })),
    ]
}

/// Puts in what a line left out. Lines about the tracing leave nothing out.
pub(crate) fn fill_in(line: &mut Value) {
    if line["process"].is_null() {
        return;
    }
    for (object, absent) in table() {
        let fields = line.pointer_mut(object).and_then(Value::as_object_mut);
        if let (Some(fields), Value::Object(absent)) = (fields, absent) {
            for (name, value) in absent {
                fields.entry(name).or_insert(value);
            }
        }
    }
    fill_in_the_same(line);
}

/// What is the same as something else in the line.
fn fill_in_the_same(line: &mut Value) {
    let process = line["process"].clone();
    if let Some(fields) = line["process"].as_object_mut() {
        fields.entry("vpid").or_insert_with(|| process["pid"].clone());
    }
    let args = process["args"].as_array().map_or(&[][..], Vec::as_slice);
    let bytes = match line.pointer("/tracer/args_b64").and_then(Value::as_str) {
        Some(text) => text.len() / 4 * 3 - text.bytes().filter(|&byte| byte == b'=').count(),
        None => args.iter().filter_map(Value::as_str).map(|arg| arg.len() + 1).sum(),
    };
    let Some(exec) = line.pointer_mut("/tracer/exec").and_then(Value::as_object_mut) else { return };
    exec.entry("path").or_insert_with(|| process["executable"].clone());
    exec.entry("args_bytes").or_insert_with(|| bytes.into());
    // Of memory that was not its own nothing was dropped, or copied for nothing.
    let nothing = match exec.contains_key("dropped") {
        true => json!({ "copies": 0, "reuses": 0, "bytes": 0 }),
        false => Value::Null,
    };
    exec.entry("wasted").or_insert(nothing);
    exec.entry("dropped").or_insert(Value::Null);
}
