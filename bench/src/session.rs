//! The order of things: slices without anything, with empty programs and with a tool, side by side.

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use aya_obj::btf::Btf;
use serde::Serialize;

use crate::{
    bpf::{self, Empty, Program, Runs},
    output::{self, Hello},
    statistics::Spread,
    tool::{Kind, Outcome, Place, Running, Tool},
    workload::{Cost, Workload},
};

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds, each with all kinds of slices; an even number.
    pub(crate) rounds: u32,
    /// The part of a workload's operations in a slice.
    pub(crate) one_in: u64,
}

/// What one workload costs with one tool.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) workload: &'static str,
    pub(crate) about: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) operations: u64,
    pub(crate) rounds: Vec<Round>,
    /// One for each two rounds, which a tool sees without a break.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) hooks: Vec<HookCost>,
}

/// Slices that follow each other: in every other round the bare one is the first, in the rest the last.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) bare: Cost,
    /// With empty programs on the tool's hooks. Only the tracer says which these are.
    pub(crate) empty: Option<Cost>,
    pub(crate) traced: Cost,
}

/// What a program costs where it hangs, and what an empty one costs there.
#[derive(Debug, Serialize)]
pub(crate) struct HookCost {
    pub(crate) hook: String,
    pub(crate) runs: u64,
    pub(crate) ns_per_run: f64,
    pub(crate) empty_ns_per_run: Option<f64>,
}

/// Slices in which the time of programs is taken.
const TIMED_SLICES: u32 = 3;

/// What a hook has shown in each of these.
#[derive(Default)]
struct Seen {
    runs: Vec<f64>,
    own: Vec<f64>,
    empty: Vec<f64>,
}

/// A tool that works here.
pub(crate) struct Subject {
    pub(crate) tool: Tool,
    /// Tracepoints that the tracer puts programs on.
    pub(crate) hooks: Vec<String>,
}

/// What stays the same for all measurements.
pub(crate) struct Session {
    pub(crate) place: Place,
    pub(crate) effort: Effort,
    btf: Btf,
    this: PathBuf,
}

impl Session {
    pub(crate) fn new(place: Place, effort: Effort) -> Result<Self> {
        fs::create_dir_all(&place.folder).with_context(|| place.folder.display().to_string())?;
        let btf = Btf::from_sys_fs().context("the kernel's types")?;
        Ok(Self { place, effort, btf, this: env::current_exe()? })
    }

    /// Whether it is only to be seen that all works.
    pub(crate) const fn is_quick(&self) -> bool {
        self.effort.one_in > 1
    }

    /// The same with another effort.
    pub(crate) fn with_effort(&self, effort: Effort) -> Self {
        let Self { place, effort: _, btf, this } = self;
        Self { place: place.clone(), effort, btf: btf.clone(), this: this.clone() }
    }

    /// Starts a tool once, to see whether it works here; `None` when this tracer does not know the level.
    pub(crate) fn probe(&self, tool: Tool) -> Result<Option<Subject>> {
        let Some(running) = tool.start(&self.place)? else { return Ok(None) };
        let hooks = match tool.kind {
            Kind::Tracer { .. } => {
                let Hello { cow_level: _, hooks } = output::hello(running.output())?;
                hooks
            }
            Kind::Peer(_) => Vec::new(),
        };
        running.stop()?;
        Ok(Some(Subject { tool, hooks }))
    }

    /// Measures all of `subjects` under a workload.
    pub(crate) fn compare(
        &self,
        workload: &'static Workload,
        subjects: &[Subject],
    ) -> Result<Vec<Comparison>> {
        let operations = (workload.operations / self.effort.one_in).max(1);
        let subjects: Vec<_> = subjects.iter().filter(|s| s.tool.matters_to(workload.name)).collect();
        let comparison = |subject: &&Subject| Comparison {
            workload: workload.name,
            about: workload.about,
            unit: workload.unit,
            tool: subject.tool.name,
            operations,
            rounds: Vec::new(),
            outcomes: Vec::new(),
            hooks: Vec::new(),
        };
        let mut comparisons: Vec<_> = subjects.iter().map(comparison).collect();
        // Files are made and programs are read in before anything is measured.
        self.slice(workload, operations)?;
        for _ in 0..self.effort.rounds.div_ceil(2) {
            for (subject, comparison) in subjects.iter().copied().zip(&mut comparisons) {
                let pair = self.two_rounds(workload, operations, subject);
                let (rounds, outcome) = pair.with_context(|| subject.tool.name)?;
                comparison.rounds.extend(rounds);
                comparison.outcomes.push(outcome);
            }
        }
        for (subject, comparison) in subjects.iter().copied().zip(&mut comparisons) {
            comparison.hooks = self.hook_costs(workload, operations, subject)?;
        }
        Ok(comparisons)
    }

    /// Bare, empty, traced, and the way back. Starting a tool takes longer than a slice, so both rounds share it.
    fn two_rounds(
        &self,
        workload: &Workload,
        operations: u64,
        subject: &Subject,
    ) -> Result<([Round; 2], Outcome)> {
        let slice = || self.slice(workload, operations);
        let empty = || match &*subject.hooks {
            [] => Ok(None),
            hooks => {
                let _attached = self.attach_empty(hooks)?;
                slice().map(Some)
            }
        };
        let (bare, before) = (slice()?, empty()?);
        let running = self.start(&subject.tool)?;
        let traced = [slice()?, slice()?];
        let outcome = running.stop()?;
        let (after, last) = (empty()?, slice()?);
        let [first, second] = traced;
        let there = Round { bare, empty: before, traced: first };
        let back = Round { bare: last, empty: after, traced: second };
        Ok(([there, back], outcome))
    }

    /// More slices of each kind, in which the kernel takes the time of each program. This costs time
    /// itself, so these slices are not compared.
    fn hook_costs(&self, workload: &Workload, operations: u64, subject: &Subject) -> Result<Vec<HookCost>> {
        let Kind::Tracer { .. } = subject.tool.kind else { return Ok(Vec::new()) };
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        // The long workloads are for the whole, not for single programs.
        let times = if self.is_quick() || !workload.one_cpu { 1 } else { TIMED_SLICES };
        for _ in 0..times {
            let empty = self.attach_empty(&subject.hooks)?;
            let stats = bpf::enable_stats()?;
            self.slice(workload, operations)?;
            for (hook, program) in subject.hooks.iter().zip(&empty) {
                let floor = &mut seen.entry(hook.clone()).or_default().empty;
                floor.extend(program.runs()?.ns_per_run());
            }
            drop((stats, empty));

            let running = self.start(&subject.tool)?;
            let programs = self.programs(&running, &subject.hooks)?;
            let stats = bpf::enable_stats()?;
            let before = runs(&programs)?;
            self.slice(workload, operations)?;
            let after = runs(&programs)?;
            drop(stats);
            running.stop()?;
            // The tracer may hold more than one program for a hook: it calibrates with some that are detached by now.
            let mut spent: BTreeMap<&str, Runs> = BTreeMap::new();
            for ((hook, _), (before, after)) in programs.iter().zip(before.iter().zip(&after)) {
                spent.entry(hook).or_default().add(after.since(*before));
            }
            for (hook, spent) in spent {
                let seen = seen.entry(hook.to_owned()).or_default();
                seen.runs.push(spent.count as f64);
                seen.own.extend(spent.ns_per_run());
            }
        }
        let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
        let cost = |(hook, Seen { runs, own, empty })| {
            let (runs, ns_per_run) = (median(runs)? as u64, median(own)?);
            Some(HookCost { hook, runs, ns_per_run, empty_ns_per_run: median(empty) })
        };
        Ok(seen.into_iter().filter_map(cost).collect())
    }

    /// Starts a tool that has worked before.
    pub(crate) fn start(&self, tool: &Tool) -> Result<Running> {
        tool.start(&self.place)?.with_context(|| format!("{}: not known any more", tool.name))
    }

    fn attach_empty(&self, hooks: &[String]) -> Result<Vec<Empty>> {
        hooks.iter().map(|hook| Empty::attach(&self.btf, hook)).collect()
    }

    /// The programs that a tracer holds.
    pub(crate) fn programs_of(&self, running: &Running) -> Result<Vec<(String, Program)>> {
        let Hello { cow_level: _, hooks } = output::hello(running.output())?;
        self.programs(running, &hooks)
    }

    /// What programs have taken so far, together.
    pub(crate) fn total_ns(programs: &[(String, Program)]) -> Result<u64> {
        Ok(runs(programs)?.iter().map(|runs| runs.ns).sum())
    }

    /// The programs that a tracer holds, with the tracepoint of each.
    fn programs(&self, running: &Running, hooks: &[String]) -> Result<Vec<(String, Program)>> {
        let mut types = BTreeMap::new();
        for hook in hooks {
            types.insert(bpf::tracepoint_id(&self.btf, hook)?, hook.as_str());
        }
        let mut programs = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", running.pid()))? {
            let info = fs::read_to_string(entry?.path())?;
            let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
            let Some(id) = id else { continue };
            let program = Program::open(id)?;
            let hook = match types.get(&program.type_id()?) {
                Some(hook) => (*hook).to_owned(),
                None => program.name()?,
            };
            programs.insert(id, (hook, program));
        }
        ensure!(!programs.is_empty(), "the tracer holds no programs");
        Ok(programs.into_values().collect())
    }

    /// Runs a slice in a process of its own.
    pub(crate) fn slice(&self, workload: &Workload, operations: u64) -> Result<Cost> {
        let mut command = Command::new(&self.this);
        command.args(["slice", workload.name, &operations.to_string()]).arg(&self.place.folder);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "a slice of {} ended with {}", workload.name, output.status);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("what a slice of {} wrote", workload.name))
    }
}

fn runs(programs: &[(String, Program)]) -> Result<Vec<Runs>> {
    programs.iter().map(|(_, program)| program.runs()).collect()
}
