//! What an exec tells: names before it, the thread that calls it, chains of scripts, formats, environments.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};

use super::{
    tree::{count, each, processes, take, test},
    trial,
};
use crate::{
    cases,
    check::Outcome,
    harness::Plan,
    stream::{at, number},
    temp::TempDir,
    workload::{SECRET, many_variables, variables},
};

/// All of them.
pub(super) fn all() -> Vec<Trial> {
    vec![
        trial("execs::names", names),
        trial("execs::interpreters", interpreters),
        Trial::ignorable_test("execs::binfmt_misc", binfmt_misc),
        trial("execs::directory", directory),
        trial("execs::environment", environment),
        trial("execs::long_environment", long_environment),
    ]
}

fn names() -> Outcome {
    const ROW: &str = "exec: after renames";
    let plan = Plan::workload("exec-names")?.option("--events");
    let program = plan.dir.link_self("true")?;
    test(ROW, plan.arg(program), |check, run| {
        let before = take("/process/previous/0/name");
        each(check, run, &format!("{ROW}: name before"), take("/before"), before);
        each(check, run, &format!("{ROW}: name at the end"), take("/name"), take("/process/name"));
        let same = count(check, run, |check, line, fact| {
            check.field(line, "/tracer/exec/from_tid", at(fact, "/from_tid").clone());
        });
        check.row(&format!("{ROW}: thread that called it: processes"), same, processes(run).len());
        for fact in processes(run).iter().filter(|fact| number(fact, "/execs") > 0) {
            let is_of = |step: &&Value| at(step, "/process/pid") == at(fact, "/pid");
            let Some(step) = run.stream.of("exec").find(is_of) else {
                check.fail(format!("no exec record of {fact}"));
                continue;
            };
            check.field(step, "/process/previous/0/name", at(fact, "/before").clone());
            check.field(step, "/tracer/exec/from_tid", at(fact, "/from_tid").clone());
        }
    })
}

fn directory() -> Outcome {
    const ROW: &str = "exec: in six directories";
    let plan = Plan::workload("exec-in")?.option("--cwd").option("--events");
    let (program, base) = (plan.dir.link_self("true")?, plan.dir.path().to_owned());
    test(ROW, plan.arg(program).arg(base), |check, run| {
        let same = count(check, run, |check, line, fact| {
            check.field(line, "/process/working_directory", at(fact, "/directory").clone());
            let is_of = |step: &&Value| at(step, "/process/pid") == at(fact, "/pid");
            let step = run.stream.of("exec").find(is_of).unwrap_or(&Value::Null);
            check.field(step, "/process/working_directory", at(fact, "/directory").clone());
        });
        check.row(&format!("{ROW}: as /proc tells it, or too deep: processes"), same, processes(run).len());
    })
}

/// Makes an executable file.
fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), Failed> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Scripts, each with its interpreter, one of them or the program `true`, and an argument for it; whether all of that
/// can be told from the arguments.
const SCRIPTS: [(&str, &str, &str, bool); 8] = [
    ("one", "true", "", true),
    ("one-option", "true", " -x", true),
    ("one-word", "true", " word", true),
    ("two", "one", "", false),
    ("two-options", "one-option", " -y", true),
    ("two-option", "one-option", "", true),
    ("three", "two", "", false),
    ("three-options", "two-options", " -z /a", true),
];

/// The interpreters of a script by name, as its lines say.
fn truth(script: &str) -> String {
    let mut names = Vec::new();
    let mut of = script;
    while let Some((_, interpreter, ..)) = SCRIPTS.iter().find(|(name, ..)| *name == of) {
        names.push(*interpreter);
        of = interpreter;
    }
    shown(&names)
}

fn shown(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(" then ") }
}

fn interpreters() -> Outcome {
    const ROW: &str = "exec: #! of #! of #!";
    let mut plan = Plan::workload("exec-each")?;
    let program = plan.dir.link_self("true")?;
    for (name, interpreter, argument, _) in SCRIPTS {
        let path = plan.dir.file(name);
        write(&path, format!("#!{}{argument}\n", plan.dir.file(interpreter).display()))?;
        plan = plan.arg(path);
    }
    test(ROW, plan.arg(program), |check, run| {
        let mut told = Vec::new();
        let mut exact = Vec::new();
        let mut formats = Vec::new();
        for fact in processes(run) {
            let line = check.timeline(number(fact, "/pid")).unwrap_or(&Value::Null);
            let list = at(line, "/tracer/exec/interpreters").as_array().cloned().unwrap_or_default();
            let names = list.iter().filter_map(|path| Path::new(path.as_str()?).file_name()?.to_str());
            told.push(Value::from(shown(&names.collect::<Vec<_>>())));
            exact.push(Value::from(at(line, "/tracer/exec/interpreters_exact").is_null()));
            formats.push(at(line, "/tracer/exec/format").clone());
        }
        let with_elf = |scripts: Vec<Value>, elf: Value| scripts.into_iter().chain([elf]).collect::<Vec<_>>();
        let lists = SCRIPTS.iter().map(|(name, ..)| truth(name).into()).collect();
        check.row(&format!("{ROW}: interpreters"), told, with_elf(lists, "none".into()));
        let can_be_told = SCRIPTS.iter().map(|(.., exact)| (*exact).into()).collect();
        check.row(&format!("{ROW}: exact"), exact, with_elf(can_be_told, true.into()));
        let scripts = vec!["script".into(); SCRIPTS.len()];
        check.row(&format!("{ROW}: format"), formats, with_elf(scripts, "elf".into()));
    })
}

const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";

/// An entry of binfmt_misc, taken back when this is dropped; so is the mount if it was made for it.
struct Entry {
    path: PathBuf,
    is_mounted: bool,
}

impl Entry {
    /// Files that begin with `magic` are run by `interpreter` from now on; `None` when this kernel has no binfmt_misc, or
    /// it cannot be mounted.
    fn new(name: &str, magic: &str, interpreter: &Path) -> Result<Option<Self>, Failed> {
        let is_mounted = !Path::new(BINFMT_MISC).join("register").exists();
        if is_mounted && !mount_binfmt_misc() {
            return Ok(None);
        }
        let entry = Self { path: Path::new(BINFMT_MISC).join(name), is_mounted };
        let line = format!(":{name}:M::{magic}::{}:", interpreter.display());
        fs::write(Path::new(BINFMT_MISC).join("register"), line)?;
        Ok(Some(entry))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, "-1");
        if self.is_mounted {
            // SAFETY: a NUL-terminated path.
            unsafe { libc::umount(c"/proc/sys/fs/binfmt_misc".as_ptr()) };
        }
    }
}

fn mount_binfmt_misc() -> bool {
    let (name, path) = (c"binfmt_misc".as_ptr(), c"/proc/sys/fs/binfmt_misc".as_ptr());
    // SAFETY: NUL-terminated strings, no data.
    unsafe { libc::mount(name, path, name, 0, std::ptr::null()) == 0 }
}

fn binfmt_misc() -> Result<Completion, Failed> {
    const ROW: &str = "exec: by binfmt_misc";
    let plan = Plan::workload("exec-each")?;
    let name =
        plan.dir.path().file_name().ok_or("a directory without a name")?.to_string_lossy().into_owned();
    let program = plan.dir.link_self("true")?;
    let magic = format!("!{}!", std::process::id());
    let Some(entry) = Entry::new(&name, &magic, &program)? else {
        const WHY: &str = "no binfmt_misc";
        for row in ["processes", "format", "arguments"] {
            cases::no_row(&format!("{ROW}: {row}"), WHY);
        }
        return Ok(Completion::ignored_with(WHY));
    };
    let file = plan.dir.file("file");
    write(&file, &magic)?;
    // A script whose interpreter is such a file.
    let script = plan.dir.file("script");
    write(&script, format!("#!{} -x\n", file.display()))?;
    test(ROW, plan.arg(&file).arg(&script), |check, run| {
        let formats = ["binfmt_misc", "script"];
        let mut expected = formats.into_iter();
        let seen = take("/tracer/exec/format");
        let lines: Vec<_> = processes(run).iter().map(|fact| check.timeline(number(fact, "/pid"))).collect();
        check.row(
            &format!("{ROW}: format"),
            lines.iter().flatten().map(|line| seen(line)).collect::<Vec<_>>(),
            expected.by_ref().map(Value::from).collect::<Vec<_>>(),
        );
        let (program, file, script) =
            (program.to_string_lossy(), file.to_string_lossy(), script.to_string_lossy());
        let args = [json!([program, file]), json!([program, file, "-x", script])];
        let chains = [json!([program]), json!([file, program])];
        let mut same = 0;
        for ((line, args), chain) in lines.into_iter().flatten().zip(&args).zip(&chains) {
            same += usize::from(at(line, "/process/args") == args);
            check.field(line, "/tracer/exec/interpreters", chain.clone());
        }
        check.row(&format!("{ROW}: arguments"), same, args.len());
    })?;
    drop(entry);
    Ok(Completion::Completed)
}

/// Runs a program in an environment that has a secret, with `--env` as given, and a recording of it: the strings told in
/// the record and in the timeline, and whether the secret is anywhere.
fn environment_of(row: &str, how: &str, expected: Value, is_told: bool) -> Outcome {
    let kept = TempDir::new()?;
    let recording = kept.file("recording");
    let plan = Plan::workload("exec-env")?.option("--events").option("--env").option(how);
    let plan = plan.option("--record").option(&recording);
    let program = plan.dir.link_self("true")?;
    test(row, plan.arg(program), |check, run| {
        let unnamed = Value::from("without a name");
        let [fact] = processes(run) else { return check.fail("not one process") };
        let is_of = |step: &&Value| at(step, "/process/pid") == at(fact, "/pid");
        let size = json!({"count": at(fact, "/count"), "bytes": at(fact, "/bytes"), "truncated": false});
        for line in [check.timeline(number(fact, "/pid")), run.stream.of("exec").find(is_of)] {
            let Some(line) = line else { return check.fail("no line") };
            let size = if expected.is_null() { Value::Null } else { size.clone() };
            check.field(line, "/tracer/exec/env", size);
            check.field(line, "/process/env_vars", expected.clone());
        }
        let shown = |variables: &Value| match variables.as_array() {
            Some(variables) => {
                let shown = variables.iter().map(|variable| if variable == "" { &unnamed } else { variable });
                shown.cloned().collect()
            }
            None => variables.clone(),
        };
        let seen = |line: &Value| shown(at(line, "/process/env_vars"));
        each(check, run, &format!("{row}: variables"), |_| shown(&expected), seen);
        let lines: String = run.stream.lines.iter().map(Value::to_string).collect();
        check.same("the secret is in the lines", lines.contains(SECRET), is_told);
        let bytes = fs::read(&recording).unwrap_or_default();
        check.that(!bytes.is_empty(), "no recording");
        let is_recorded = bytes.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        check.row(&format!("{row}: has the secret"), is_recorded, is_told);
    })
}

fn environment() -> Outcome {
    let values: Vec<_> = variables().iter().map(|variable| variable.to_string_lossy().into_owned()).collect();
    environment_of("exec: --env values", "values", json!(values), true)?;
    environment_of("exec: --env names", "names", json!(["A", "PASSWORD", "EMPTY", ""]), false)?;
    environment_of("exec: --env off", "off", Value::Null, false)
}

fn long_environment() -> Outcome {
    const ROW: &str = "exec: --env values, 500 variables";
    let plan = Plan::workload("exec-long-env")?.option("--env").option("values");
    let program = plan.dir.link_self("true")?;
    test(ROW, plan.arg(program), |check, run| {
        each(check, run, &format!("{ROW}: number"), take("/count"), take("/tracer/exec/env/count"));
        each(check, run, &format!("{ROW}: bytes"), take("/bytes"), take("/tracer/exec/env/bytes"));
        each(check, run, &format!("{ROW}: truncated"), |_| true.into(), take("/tracer/exec/env/truncated"));
        let truth = many_variables();
        let whole = |line: &Value| {
            let told = at(line, "/process/env_vars").as_array().cloned().unwrap_or_default();
            told.iter().zip(&truth).filter(|(told, truth)| told.as_str() == truth.to_str()).count().into()
        };
        let fit = truth.iter().scan(0, |bytes, variable| {
            *bytes += variable.len() + 1;
            Some(*bytes)
        });
        let fit = fit.take_while(|&bytes| bytes <= 4_096).count();
        each(check, run, &format!("{ROW}: told"), |_| fit.into(), whole);
    })
}
