//! What a workload knows about the processes it made; a file that the test compares with the stream.

use std::{ffi::OsString, fs, path::PathBuf};

use serde_json::{Map, Value, json};

use super::sys;

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process(Map<String, Value>);

impl Process {
    /// A child of the caller that the caller reaped with `status`.
    pub(crate) fn new(kind: &str, pid: i32, status: i32) -> Self {
        let Value::Object(fields) = json!({
            "pid": pid, "parent": sys::pid(), "kind": kind, "status": status, "execs": 0, "reaper": sys::pid(),
        }) else {
            unreachable!("an object was written above")
        };
        Self(fields)
    }

    /// Sets one field.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}

/// All processes of a workload, its first one included, and other numbers it wants to tell.
pub(crate) struct Facts {
    path: PathBuf,
    processes: Vec<Value>,
    values: Map<String, Value>,
}

impl Facts {
    /// To be written to `path`.
    pub(crate) fn new(path: &OsString) -> Self {
        Self { path: path.into(), processes: Vec::new(), values: Map::new() }
    }

    /// Where they will be.
    pub(crate) fn path(&self) -> OsString {
        self.path.clone().into_os_string()
    }

    /// Adds a process.
    pub(crate) fn push(&mut self, process: Process) {
        self.processes.push(Value::Object(process.0));
    }

    /// Sets one field of the process that was added last.
    pub(crate) fn amend(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(process) = self.processes.last_mut() {
            process[key] = value.into();
        }
    }

    /// Adds a value.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// Writes the file whole, under its name only when it is complete.
    pub(crate) fn write(&self) {
        let text =
            json!({"root": sys::pid(), "processes": self.processes, "values": self.values}).to_string();
        let new = self.path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)).expect("write the facts");
    }
}
