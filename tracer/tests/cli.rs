//! The real program, without any privilege: what it says, and the exit status.

use std::{
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tracer::{
    config,
    decode::Event,
    lifecycle,
    record::Hello,
    replay::{Head, Recorder},
};
use tracer_common::{
    bytes,
    event::{Fork, Header, Kind},
};

/// Enough births for several writes of the output's buffer.
const BIRTHS: u32 = 3000;

fn tracer() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tracer"))
}

fn run(args: &[&str]) -> Output {
    tracer().args(args).output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("the program writes UTF-8")
}

/// An error is one line of the form `tracer: WHAT: WHY; WHAT TO DO`, and nothing on stdout.
fn assert_error(output: &Output, status: i32, says: &str) {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("tracer: ") && line.contains("; "), "{line}");
    assert!(line.contains(says), "{line} does not say {says}");
    assert_eq!(text(&output.stdout), "");
}

fn path(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// Some births, as `run --events --record` keeps them.
fn recording(directory: &TempDir) -> PathBuf {
    let path = path(directory, "recording");
    let head = Head {
        config: lifecycle::Config { steps: true, ..lifecycle::Config::default() },
        hello: Hello {
            hostname: "here".into(),
            boot_id: "00000000-0000-0000-0000-000000000000".into(),
            ..Hello::default()
        },
    };
    let mut recorder = Recorder::new(fs::File::create(&path).unwrap(), &head).unwrap();
    for birth in 0..BIRTHS {
        let ktime_ns = 1_000_000_000 + u64::from(birth) * 1000;
        let fork = Fork {
            header: Header {
                kind: Kind::Fork as u32,
                tgid: 100 + birth,
                tid: 100 + birth,
                size: size_of::<Fork>() as u32,
                ktime_ns,
                start_time_ns: ktime_ns,
                ..Header::default()
            },
            parent_tgid: 1,
            real_parent_tgid: 1,
            syscall: 57,
            ..Fork::default()
        };
        recorder.kernel(bytes(&fork)).unwrap();
    }
    recorder.event(&Event::Tick { ktime_ns: 2_000_000_000 }).unwrap();
    recorder.flush().unwrap();
    path
}

/// Each line is JSON, numbered without a hole.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let lines: Vec<Value> =
        text(bytes).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["event"]["sequence"], number);
    }
    lines
}

fn action(line: &Value) -> &str {
    line["event"]["action"].as_str().unwrap_or_default()
}

#[test]
fn help_and_version_are_no_errors() {
    for (args, says) in [
        (&["--help"][..], "Exit status:"),
        (&["run", "--help"], "--cow-interval"),
        (&["run", "--help"], &format!("at a time [default: {}]", config::MAX_PROCESSES)),
        (&["replay", "--help"], "--output"),
        (&["verify", "--help"], "it is refuted"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(says));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    assert_error(&run(&[]), 2, "no command was given");
    assert_error(&run(&["run", "--bogus"]), 2, "--bogus");
    assert_error(&run(&["run", "ls"]), 2, "ls");
    assert_error(&run(&["run", "--pid", "0"]), 2, "--pid");
    assert_error(&run(&["run", "--pid", "x"]), 2, "--pid");
    assert_error(&run(&["run", "--pid", "1", "--", "true"]), 2, "--pid");
    assert_error(&run(&["run", "--uid", "no such user"]), 2, "no such user");
    assert_error(&run(&["run", "--cgroup", "no/such/group"]), 2, "--cgroup");
    assert_error(&run(&["run", "--ring-bytes", "3M"]), 2, "power of two");
    assert_error(&run(&["run", "--heartbeat", "often"]), 2, "often");
    assert_error(&run(&["run", "--wait-all"]), 2, "--wait-all");
    assert_error(&run(&["replay"]), 2, "FILE");
}

#[test]
fn an_error_does_not_need_stderr() {
    let mut command = tracer();
    command.args(["run", "--bogus"]);
    // SAFETY: close may be called between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::close(2) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    assert_eq!(command.status().unwrap().code(), Some(2));
}

#[test]
fn the_schema_is_json() {
    let output = run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn a_process_to_follow_must_be_there() {
    assert_error(&run(&["run", "--pid", "4194304"]), 1, "4194304");
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_starts() {
    assert_error(&run(&["run", "--output", "/nowhere/at/all"]), 1, "/nowhere/at/all");
    assert_error(&run(&["run", "--output", "/"]), 1, "open /");
    assert_error(&run(&["run", "--record", "/nowhere/at/all"]), 1, "/nowhere/at/all");
}

/// As nobody, when we are root.
fn unprivileged() -> Command {
    let mut command = tracer();
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn without_privilege_nothing_starts_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let output = path(&directory, "out");
    fs::write(&output, "kept\n").unwrap();
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } == 0 {
        std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534)).unwrap();
    }
    let ran = unprivileged().args(["run", "--output", shown(&output), "--", "true"]).output();
    let ran = match ran {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: nobody may not execute what was built here");
            return;
        }
        ran => ran.unwrap(),
    };
    match ran.status.code() {
        Some(69) => assert_error(&ran, 69, "cargo xtask build"),
        _ => assert_error(&ran, 77, "CAP_BPF"),
    }
    assert_eq!(fs::read(&output).unwrap(), b"kept\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn a_recording_is_replayed_into_lines() {
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(&directory);
    let output = run(&["replay", shown(&recording)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = lines(&output.stdout);
    assert_eq!(lines.first().map(action), Some("hello"));
    assert_eq!(lines.last().map(action), Some("bye"));
    assert_eq!(lines.iter().filter(|line| action(line) == "fork").count(), BIRTHS as usize);
    let bye = &lines.last().unwrap()["tracer"];
    assert_eq!(bye["reason"], "end");
    assert_eq!(bye["received"], BIRTHS);
    assert_eq!(bye["records"]["fork"]["submitted"], BIRTHS);
}

#[test]
fn a_stream_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (recording, good, bad) = (recording(&directory), path(&directory, "good"), path(&directory, "bad"));
    assert_eq!(run(&["replay", shown(&recording), "--output", shown(&good)]).status.code(), Some(0));
    let proven = run(&["verify", shown(&good)]);
    let numbers = format!(
        "{}: proven; runs: 1, lines: {}, timelines: 0, events declared lost: 0\n",
        shown(&good),
        BIRTHS + 2
    );
    assert_eq!(
        (proven.status.code(), text(&proven.stdout), text(&proven.stderr)),
        (Some(0), &numbers[..], "")
    );

    // Without its third line.
    let lines = fs::read_to_string(&good).unwrap();
    let without: String = lines
        .split_inclusive('\n')
        .enumerate()
        .filter(|(index, _)| *index != 2)
        .map(|(_, line)| line)
        .collect();
    fs::write(&bad, without).unwrap();
    for refuted in [
        run(&["verify", shown(&bad)]),
        tracer().args(["verify", "-"]).stdin(fs::File::open(&bad).unwrap()).output().unwrap(),
    ] {
        assert_eq!(refuted.status.code(), Some(1));
        let (reasons, error) = (text(&refuted.stdout), text(&refuted.stderr));
        assert!(reasons.contains(": line 3: event.sequence is 4, not 3"), "{reasons}");
        assert_eq!(reasons.lines().count(), 1, "{reasons}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("refuted; reasons: 1, runs: 1"), "{error}");
    }
    assert_error(&run(&["verify", "/nowhere/at/all"]), 2, "/nowhere/at/all");
    assert_error(&run(&["verify", "/"]), 2, "read /");
    assert_error(&run(&["verify"]), 2, "FILE");
}

#[test]
fn a_replay_into_a_file_keeps_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let (recording, output) = (recording(&directory), path(&directory, "out"));
    fs::write(&output, "first\n").unwrap();
    let ran = run(&["replay", shown(&recording), "--output", shown(&output)]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert_eq!(fs::read(path(&directory, "out.old")).unwrap(), b"first\n");
    assert_eq!(fs::read(&output).unwrap(), run(&["replay", shown(&recording)]).stdout);
}

#[test]
fn a_recording_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(&directory);
    let whole = fs::read(&recording).unwrap();
    for damaged in [&b""[..], b"not a recording", &whole[..20]] {
        fs::write(&recording, damaged).unwrap();
        assert_error(&run(&["replay", shown(&recording)]), 1, "recording");
    }
    assert_error(&run(&["replay", "/nowhere/at/all"]), 1, "/nowhere/at/all");
    assert_error(&run(&["replay", "x", "--output", "x"]), 2, "--output");
}

#[test]
fn what_came_before_the_damage_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let recording = recording(&directory);
    let whole = fs::read(&recording).unwrap();
    fs::write(&recording, &whole[..whole.len() - 50]).unwrap();
    let output = run(&["replay", shown(&recording)]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr).lines().count(), 1);
    let lines = lines(&output.stdout);
    assert!(lines.len() > BIRTHS as usize);
    assert_eq!(lines.last().unwrap()["tracer"]["reason"], "error");
}

#[test]
fn a_reader_that_goes_early_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = tracer()
        .args(["replay", shown(&recording(&directory))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_full_device_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(&["replay", shown(&recording(&directory)), "--output", "/dev/full"]);
    assert_error(&ran, 1, "No space left");
}

#[test]
fn a_file_that_cannot_grow_ends_in_a_whole_line() {
    let directory = tempfile::tempdir().unwrap();
    let (recording, output) = (recording(&directory), path(&directory, "out"));
    let mut command = tracer();
    command.args(["replay", shown(&recording), "--output", shown(&output)]);
    // SAFETY: these may be called between fork and exec; the struct is valid.
    unsafe {
        command.pre_exec(|| {
            // Without the signal, a write beyond the limit is cut short, then fails.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    assert_error(&command.output().unwrap(), 1, "File too large");
    let written = fs::read(&output).unwrap();
    assert!(written.len() > 90_000 && written.ends_with(b"\n"), "{}", written.len());
    assert!(!lines(&written).is_empty());
}
