//! What an exec tells: who called it, under which name, what runs the file, and the environment.

use tracer::lifecycle::{Config, EnvMode};
use tracer_common::event::{FLAG_ENV_CUT, FLAG_ENV_UNREADABLE, FLAG_MISC, FLAG_PATH_CUT};

use super::{
    check,
    common::{Story, comm, full},
};

/// A process that another thread than its first runs a program in, twice; it was renamed before.
#[test]
fn exec_by_a_thread_with_a_name() {
    let mut s = Story::new(full());
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    let name = |name| move |exec: &mut tracer_common::event::Exec| exec.comm_before = comm(name);
    s.at(2001).exec_with(200, "/bin/one", "", b"one\0", name("sh"));
    s.exec_with(200, "/bin/two", "", b"two\0", |exec| {
        name("worker")(exec);
        exec.old_tid = 203;
    });
    s.at(2002).exit(200, 0).wait(100, 200);
    s.at(2003).fork(100, 201).exec_with(201, "/bin/three", "", b"three\0", name("renamed"));
    s.at(2004).exit(201, 0).wait(100, 201).tick();
    check("exec_names", s);
}

/// Scripts of scripts, and what binfmt_misc runs.
#[test]
fn interpreters_and_formats() {
    let mut s = Story::new(Config { misc_interpreters: Some(vec!["/usr/bin/qemu-arm".into()]), ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    let files: [(&str, &[u8]); 6] = [
        ("/bin/dash", b"/bin/dash\0./one\0"),
        ("/bin/dash", b"/bin/dash\0-e\0/opt/two\0./one\0"),
        ("/bin/dash", b"/bin/dash\0/opt/two\0./one\0x\0"),
        ("/usr/bin/env", b"/usr/bin/env\0python3\0./one\0"),
        ("/usr/bin/qemu-arm", b"/usr/bin/qemu-arm\0./one\0"),
        ("/usr/bin/qemu-arm", b"/usr/bin/qemu-arm\0/opt/arm\0./one\0"),
    ];
    for (at, (interp, args)) in (2001..).zip(files) {
        s.at(at).exec_with(200, "./one", interp, args, |_| {});
    }
    s.exec_with(200, "./one", "/opt/later", b"/opt/later\0./one\0", |exec| exec.header.flags |= FLAG_MISC);
    s.exec_with(200, "/bin/old", "", b"old\0", |exec| exec.header.flags = 0);
    s.at(2010).exit(200, 0).wait(100, 200).tick();
    check("interpreters", s);
}

/// A directory, the root, one that was removed, one that is cut, and none.
#[test]
fn directories() {
    let mut s = Story::new(Config { cwd: true, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200);
    for (names, flags, deleted) in
        [(&b"b\0srv\0"[..], 0, 0), (b"", 0, 0), (b"d\0tmp\0", 0, 1), (b"x\0", FLAG_PATH_CUT, 0)]
    {
        s.at(2001).cwd(200, names, |cwd| (cwd.header.flags, cwd.deleted) = (flags, deleted));
        s.exec(200, "/bin/true", "true");
    }
    s.exec(200, "/bin/true", "true");
    s.at(2002).exit(200, 0).wait(100, 200);
    s.fork(100, 300).cwd(300, b"srv\0", |_| {}).exec(300, "/bin/true", "true");
    s.at(2003).exit(300, 0).wait(100, 300).tick();
    check("directories", s);
}

/// The environment with values, cut by the kernel side and for the line, without, and when it cannot be read.
#[test]
fn environments() {
    let mut s = Story::new(Config { env: EnvMode::Values, ..full() });
    s.at(2000).snapshot(100, 1, "/bin/sh", "sh ").fork(100, 200).fork(100, 201);
    s.at(2001).exec_env(200, "/bin/true", b"PATH=/bin\0CAF\xc9=\xff\0", |_| {});
    let long: Vec<_> = (0..40).flat_map(|n| format!("NAME_{n}={}\0", "x".repeat(90)).into_bytes()).collect();
    s.exec_env(200, "/bin/long", &long, |_| {});
    s.exec_env(200, "/bin/cut", b"A=1\0B=", |exec| {
        (exec.env_count, exec.env_bytes) = (u32::MAX, 9_000);
        exec.header.flags |= FLAG_ENV_CUT;
    });
    s.exec_env(200, "/bin/none", b"", |_| {});
    s.exec_env(200, "/bin/unknown", b"", |exec| exec.header.flags |= FLAG_ENV_UNREADABLE);
    s.at(2002).exit(200, 0).wait(100, 200).exit(201, 0).wait(100, 201).tick();
    check("environments", s);
}
