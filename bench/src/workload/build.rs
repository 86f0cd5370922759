//! A real make and a real compiler, over files that are generated: no source tree is needed.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use super::{Cost, sys::timed};

/// Functions in each file.
const FUNCTIONS: u64 = 10;

pub(super) fn make(operations: u64, folder: &Path) -> Result<Cost> {
    let tree = folder.join("make");
    generate(&tree, operations)?;
    let mut command = Command::new("make");
    command.arg("-C").arg(&tree).args(["--always-make", "--jobs=2", "--silent"]).stdin(Stdio::null());
    timed(|| {
        let status = command.status()?;
        ensure!(status.success(), "make ended with {status}");
        Ok(())
    })
}

fn generate(tree: &Path, files: u64) -> Result<()> {
    fs::create_dir_all(tree)?;
    let mut objects = String::new();
    for file in 0..files {
        let mut source = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
        for function in 0..FUNCTIONS {
            writeln!(
                source,
                "int f{file}_{function}(int n) {{ char b[64]; int s = {function}; \
                 for (int i = 0; i < n; i++) s += (i * {file}) ^ s; \
                 snprintf(b, sizeof b, \"%d\", s); return (int)strlen(b) + atoi(b); }}"
            )?;
        }
        fs::write(tree.join(format!("f{file}.c")), source)?;
        write!(objects, " f{file}.o")?;
    }
    fs::write(tree.join("Makefile"), format!("CFLAGS = -O1\nlibbench.a:{objects}\n\t$(AR) rcs $@ $^\n"))?;
    Ok(())
}
