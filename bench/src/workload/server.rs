//! Servers that fork: one to save its data, one to answer with.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Cost, sys::timed};

pub(super) fn prefork(operations: u64, folder: &Path) -> Result<Cost> {
    let script = folder.join("prefork.py");
    fs::write(&script, include_str!("prefork.py"))?;
    let mut command = Command::new("python3");
    command.arg(&script).arg(operations.to_string()).stdin(Stdio::null());
    timed(|| {
        let status = command.status()?;
        ensure!(status.success(), "{} ended with {status}", script.display());
        Ok(())
    })
}

/// Keys in the database, and bytes of each value.
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 4_000;
/// How long anything of Redis may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A BGSAVE, and as many writes as given while it runs. The server's own account of its CPU time is used.
pub(super) fn redis(operations: u64, folder: &Path) -> Result<Cost> {
    let mut server = Redis::start(folder)?;
    server.set(0..KEYS)?;
    // The child sleeps between keys, so that it is there for all of the writes.
    server.ask("CONFIG SET rdb-key-save-delay 20")?;
    let before = server.cpu_ns()?;
    let start = Instant::now();
    server.ask("BGSAVE")?;
    server.set((0..operations).map(|number| number * 7 % KEYS))?;
    ensure!(server.is_saving()?, "the BGSAVE ended before the writes: too few keys for this machine");
    server.ask("CONFIG SET rdb-key-save-delay 0")?;
    let wall_ns = start.elapsed().as_nanos() as u64;
    while server.is_saving()? {
        ensure!(start.elapsed() < LIMIT, "BGSAVE does not end");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Cost { cpu_ns: server.cpu_ns()? - before, wall_ns })
}

/// A server of our own, without any configuration of the machine's.
struct Redis {
    child: Child,
    stream: BufReader<UnixStream>,
}

impl Redis {
    fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("redis");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let end = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT))?;
                    return Ok(Self { child, stream: BufReader::new(stream) });
                }
                Err(error) if Instant::now() > end => {
                    return Err(error).context("redis-server does not answer");
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn send(&mut self, command: &str) -> Result<()> {
        Ok(self.stream.get_mut().write_all(command.as_bytes())?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("no answer of redis-server")?;
        ensure!(!line.is_empty() && !line.starts_with('-'), "redis-server says {line:?}");
        Ok(line)
    }

    /// Sends a command whose answer is one line.
    fn ask(&mut self, command: &str) -> Result<()> {
        self.send(&format!("{command}\r\n"))?;
        self.line().map(drop).context(command.to_owned())
    }

    /// Gives these keys new values, some at a time.
    fn set(&mut self, keys: impl Iterator<Item = u64>) -> Result<()> {
        const AT_A_TIME: usize = 100;
        let value = "v".repeat(VALUE_BYTES);
        let commands: Vec<String> = keys.map(|key| format!("SET key:{key} {value}\r\n")).collect();
        for commands in commands.chunks(AT_A_TIME) {
            self.send(&commands.concat())?;
            for _ in commands {
                self.line()?;
            }
        }
        Ok(())
    }

    /// A section of its `INFO`.
    fn info(&mut self, section: &str) -> Result<Vec<String>> {
        self.send(&format!("INFO {section}\r\n"))?;
        let length: usize = self.line()?.trim_end().trim_start_matches('$').parse()?;
        let mut text = vec![0; length + 2];
        std::io::Read::read_exact(&mut self.stream, &mut text)?;
        Ok(String::from_utf8(text)?.lines().map(str::to_owned).collect())
    }

    /// CPU time of the server and of its children that have ended.
    fn cpu_ns(&mut self) -> Result<u64> {
        const PARTS: [&str; 4] =
            ["used_cpu_sys:", "used_cpu_user:", "used_cpu_sys_children:", "used_cpu_user_children:"];
        let info = self.info("cpu")?;
        let seconds = |part: &str| info.iter().find_map(|line| line.strip_prefix(part)?.parse::<f64>().ok());
        let sum = PARTS.iter().map(|part| seconds(part)).sum::<Option<f64>>();
        Ok((sum.context("INFO cpu of redis-server")? * 1e9) as u64)
    }

    fn is_saving(&mut self) -> Result<bool> {
        Ok(self.info("persistence")?.iter().any(|line| line == "rdb_bgsave_in_progress:1"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // What it has is thrown away; a child that saves ends with it.
        let _ = self.send("SHUTDOWN NOSAVE FORCE\r\n");
        thread::sleep(Duration::from_millis(20));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
