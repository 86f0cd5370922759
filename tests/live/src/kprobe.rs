//! The kernel's own count, for kernels that allow probes: who called the function that maps a new anonymous page.
//!
//! A probe of tracefs writes one record a call into a ring of its own. Nothing of tracer is used.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

const TRACEFS: &str = "/sys/kernel/tracing";
const GROUP: &str = "tracer_live";
const EVENT: &str = "new_anon";
/// The function by its names, newest first (mm/rmap.c).
const FUNCTIONS: [&str; 2] = ["folio_add_new_anon_rmap", "page_add_new_anon_rmap"];
/// Of the ring of each CPU: some 400,000 records.
const RING_KIB: u32 = 16 << 10;

/// A probe that counts until it is dropped.
pub(crate) struct NewPages {
    instance: PathBuf,
    function: &'static str,
    symbols: Symbols,
}

/// One call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Name of the thread.
    pub(crate) comm: String,
    /// Its id.
    pub(crate) tid: i64,
    /// The function that called.
    pub(crate) caller: String,
}

impl NewPages {
    /// Starts to count; an error says why this kernel does not let us.
    pub(crate) fn start() -> io::Result<Self> {
        let symbols = Symbols::load()?;
        let function = FUNCTIONS
            .into_iter()
            .find(|name| symbols.has(name))
            .ok_or_else(|| io::Error::other(format!("the kernel has none of the functions {FUNCTIONS:?}")))?;
        let instance = Path::new(TRACEFS).join("instances").join(GROUP);
        append(Path::new(TRACEFS), &format!("p:{GROUP}/{EVENT} {function} caller=$stack0:x64"))?;
        // From here on, the drop of it removes what was made.
        let probe = Self { instance, function, symbols };
        fs::create_dir(&probe.instance)?;
        fs::write(probe.instance.join("buffer_size_kb"), RING_KIB.to_string())?;
        fs::write(probe.switch(), "1")?;
        Ok(probe)
    }

    fn switch(&self) -> PathBuf {
        self.instance.join("events").join(GROUP).join(EVENT).join("enable")
    }

    /// Ends it and gives every call; an error if one was missed.
    pub(crate) fn stop(self) -> io::Result<Vec<Call>> {
        fs::write(self.switch(), "0")?;
        let profile = fs::read_to_string(Path::new(TRACEFS).join("kprobe_profile"))?;
        let line = profile.lines().find(|line| line.split_whitespace().next() == Some(EVENT));
        let missed = line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("unknown");
        if missed != "0" {
            return Err(io::Error::other(format!("{}: calls missed: {missed}", self.function)));
        }
        for cpu in fs::read_dir(self.instance.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            for what in ["overrun: ", "dropped events: "] {
                let lost = stats.lines().find_map(|line| line.strip_prefix(what));
                if lost.is_some_and(|count| count.trim() != "0") {
                    return Err(io::Error::other(format!("the ring of tracefs lost records: {stats}")));
                }
            }
        }
        let trace = fs::read_to_string(self.instance.join("trace"))?;
        trace.lines().filter(|line| !line.starts_with('#')).map(|line| self.parse(line)).collect()
    }

    /// `comm-tid [cpu] flags time: new_anon: (function+0x0/0x1) caller=0x1`
    fn parse(&self, line: &str) -> io::Result<Call> {
        let call = || {
            let (task, _) = line.split_once(" [")?;
            let (comm, tid) = task.trim().rsplit_once('-')?;
            let (_, caller) = line.rsplit_once("caller=0x")?;
            let caller = u64::from_str_radix(caller.trim(), 16).ok()?;
            Some(Call {
                comm: comm.to_owned(),
                tid: tid.parse().ok()?,
                caller: self.symbols.name(caller)?.to_owned(),
            })
        };
        call().ok_or_else(|| io::Error::other(format!("not understood: {line}")))
    }
}

impl Drop for NewPages {
    fn drop(&mut self) {
        // What is not there needs no removal.
        let _ = fs::write(self.switch(), "0");
        let _ = fs::remove_dir(&self.instance);
        let _ = append(Path::new(TRACEFS), &format!("-:{GROUP}/{EVENT}"));
    }
}

fn append(tracefs: &Path, line: &str) -> io::Result<()> {
    let file = tracefs.join("kprobe_events");
    let done =
        OpenOptions::new().append(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
    done.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// Functions of the kernel by address.
struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    fn load() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/kallsyms")?;
        let symbols = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let function = matches!(words.next()?, "t" | "T");
            // What the compiler appends to the names of its variants.
            let name = words.next()?.split('.').next()?;
            (function && address != 0).then(|| (address, name.to_owned()))
        });
        Ok(Self(symbols.collect()))
    }

    fn has(&self, name: &str) -> bool {
        self.0.values().any(|known| known == name)
    }

    /// The function that has the instruction before a return address.
    fn name(&self, after: u64) -> Option<&str> {
        self.0.range(..after).next_back().map(|(_, name)| name.as_str())
    }
}
