//! How long the lines are.

use anyhow::Result;

use super::{DEFAULT, Finding};
use crate::{session::Session, tool::Tool, workload};

const TOOLS: [Tool; 2] = [DEFAULT, Tool::tracer("--compact", "full", &["--compact"])];

pub(super) fn run(session: &Session) -> Result<Finding> {
    let columns = ["workload", "lines", "timelines", "median", "90th percentile"];
    let mut finding = Finding::new("lines", "Bytes of a timeline", &columns);
    let mut longest = [0.0_f64; TOOLS.len()];
    for (tool, longest) in TOOLS.iter().zip(&mut longest) {
        if session.probe(*tool)?.is_none() {
            finding.note = format!("Not known to this tracer: {}.", tool.name);
            continue;
        }
        for name in ["fork-exit", "spawn-exec", "fork-exec"] {
            let workload = workload::find(name)?;
            let running = session.start(tool)?;
            session.slice(workload, (workload.operations / session.effort.one_in).max(1))?;
            let outcome = running.stop()?;
            let Some(bytes) = outcome.timeline_bytes else { continue };
            *longest = longest.max(bytes.median as f64);
            finding.rows.push(vec![
                name.to_owned(),
                tool.name.to_owned(),
                outcome.timelines.to_string(),
                bytes.median.to_string(),
                bytes.high.to_string(),
            ]);
        }
    }
    for (figure, longest) in ["default", "compact"].into_iter().zip(longest) {
        if longest > 0.0 {
            finding.figures.insert(figure, longest);
        }
    }
    Ok(finding)
}
