//! The tables in `docs/cow.md` and `docs/conformance.md`: what was true and what tracer said, for each kernel; and that
//! in `docs/verifier.md`: how large the programs are.
//!
//! The live tests tell the cells (`tests/live/src/cases.rs`). They are compared with the table, or written to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

const BEGIN: &str = "<!-- cases: made by cargo xtask test --write-cases -->\n";
const END: &str = "<!-- end of the cases -->\n";

/// The first word of a table's lines, also of its head, and the file in `docs` that has it.
pub(crate) const TABLES: [(&str, &str); 3] =
    [("case", "cow.md"), ("row", "conformance.md"), (SIZE, "verifier.md")];

/// The table of sizes, whose cells are numbers that may be exceeded a little.
pub(crate) const SIZE: &str = "program";

/// By how much of what is written, in percent.
const ROOM_PERCENT: u64 = 10;

/// Major and minor number of a kernel's version.
type Release = (u32, u32);

/// What the tests told on one kernel for one table: its cells by case.
#[derive(Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) word: &'static str,
    release: Release,
    cells: BTreeMap<String, String>,
}

impl Column {
    /// From what the tests on the kernel of this version printed; none of a table of which they told nothing.
    pub(crate) fn read(version: &str, printed: &str) -> Vec<Self> {
        let Some(release) = release(version) else { return Vec::new() };
        let columns = TABLES.map(|(word, _)| {
            let cells = printed.lines().filter_map(|line| cell(word, line)).collect();
            Self { word, release, cells }
        });
        columns.into_iter().filter(|column| !column.cells.is_empty()).collect()
    }
}

/// `6.1` of `6.1.0-42-amd64`.
fn release(version: &str) -> Option<Release> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `case NAME | TRUTH | SEEN` or `program NAME | NUMBER`, perhaps after the words with which a test begins.
fn cell(word: &str, line: &str) -> Option<(String, String)> {
    let line = line.trim_end();
    let told = match line.split_once(&format!("... {word} ")) {
        Some((_, rest)) => rest,
        None => line.strip_prefix(word)?.strip_prefix(' ')?,
    };
    let (name, rest) = told.split_once(" | ")?;
    if word == SIZE {
        return Some((name.to_owned(), rest.to_owned()));
    }
    let (truth, seen) = rest.split_once(" | ")?;
    let cell = if seen == "-" { format!("null: {truth}") } else { format!("{truth} / {seen}") };
    Some((name.to_owned(), cell))
}

/// Compares the columns of a table with the file, or writes them to it. `whole`: all tests ran.
pub(crate) fn settle(word: &str, file: &Path, columns: &[&Column], whole: bool, write: bool) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (before, table, after) = split(&text).with_context(|| file.display().to_string())?;
    let mut table = Table::parse(table)?;
    if write {
        for column in columns {
            table.replace(column, whole);
        }
        return Ok(fs::write(file, [before, &table.print(word), after].concat())?);
    }
    let mut differences = Vec::new();
    for column in columns {
        if table.releases.contains(&column.release) {
            differences.extend(table.differences(column, whole));
        } else {
            let (major, minor) = column.release;
            for (name, cell) in &column.cells {
                println!("{major}.{minor}: {name}: {cell}");
            }
        }
    }
    if !differences.is_empty() {
        bail!("{} says otherwise:\n{}", file.display(), differences.join("\n"));
    }
    Ok(())
}

/// The text before, between and after the markers; these are not in the middle.
fn split(text: &str) -> Result<(&str, &str, &str)> {
    let begin = text.find(BEGIN).context("the mark before the table is missing")? + BEGIN.len();
    let length = text[begin..].find(END).context("the mark after the table is missing")?;
    Ok((&text[..begin], &text[begin..begin + length], &text[begin + length..]))
}

/// A line for each case, a column for each kernel.
#[derive(Debug, Default, PartialEq)]
struct Table {
    releases: BTreeSet<Release>,
    rows: BTreeMap<String, BTreeMap<Release, String>>,
}

impl Table {
    fn parse(text: &str) -> Result<Self> {
        let mut table = Self::default();
        let mut lines = text.lines().filter(|line| !line.is_empty()).map(|line| {
            let line = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
            line.map(|line| line.split(" | ").map(str::trim))
        });
        let Some(head) = lines.next() else { return Ok(table) };
        let head = head.context("the table has no head")?;
        let releases: Vec<_> =
            head.skip(1).map(|name| release(name).context("no version")).collect::<Result<_>>()?;
        table.releases.extend(&releases);
        // After the head, the line that makes it one.
        for line in lines.skip(1) {
            let mut cells = line.context("a line of the table is none")?;
            let name = cells.next().unwrap_or_default().to_owned();
            let cells = releases.iter().copied().zip(cells.map(str::to_owned));
            table.rows.insert(name, cells.filter(|(_, cell)| !cell.is_empty()).collect());
        }
        Ok(table)
    }

    /// As a text whose head begins with `word`.
    fn print(&self, word: &str) -> String {
        let line = |name: &str, cells: Vec<&str>| format!("| {name} | {} |\n", cells.join(" | "));
        let names: Vec<_> = self.releases.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
        let mut text = line(word, names.iter().map(String::as_str).collect());
        text.push_str(&format!("|-|{}\n", "-|".repeat(names.len())));
        for (name, cells) in &self.rows {
            let cell = |release| cells.get(release).map_or("", String::as_str);
            text.push_str(&line(name, self.releases.iter().map(cell).collect()));
        }
        text
    }

    /// Takes the cells of a column; if it is a whole one, no other stays.
    fn replace(&mut self, column: &Column, whole: bool) {
        self.releases.insert(column.release);
        for cells in self.rows.values_mut().filter(|_| whole) {
            cells.remove(&column.release);
        }
        for (name, cell) in &column.cells {
            self.rows.entry(name.clone()).or_default().insert(column.release, cell.clone());
        }
        self.rows.retain(|_, cells| !cells.is_empty());
    }

    fn differences(&self, column: &Column, whole: bool) -> Vec<String> {
        let (major, minor) = column.release;
        let written = |name: &String| self.rows.get(name).and_then(|cells| cells.get(&column.release));
        let told = column.cells.keys();
        let names: BTreeSet<_> = told.chain(self.rows.keys().filter(|_| whole)).collect();
        names
            .into_iter()
            .filter(|name| !agrees(column.word, column.cells.get(*name), written(name)))
            .map(|name| {
                let [told, written] = [column.cells.get(name), written(name)]
                    .map(|cell| cell.map_or("nothing", String::as_str));
                format!("  {major}.{minor}: {name}: told: {told}; written: {written}")
            })
            .collect()
    }
}

/// Whether what was told is what is written.
fn agrees(word: &str, told: Option<&String>, written: Option<&String>) -> bool {
    let number = |cell: Option<&String>| cell.and_then(|cell| cell.parse::<u64>().ok());
    match (word, number(told), number(written)) {
        (SIZE, Some(told), Some(written)) => told * 100 <= written * (100 + ROOM_PERCENT),
        _ => told == written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "running 2 tests\n\
        test cow::child_writes ... case a1 child writes | new frames 64 | anon 64\r\nok\r\n\
        case j2 soft-dirty | not here | -\nignored\nin case | of | doubt\n";

    fn column(version: &str) -> Column {
        Column::read(version, PRINTED).swap_remove(0)
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.replace(&column("6.1.0-42-amd64"), true);
        table.replace(&column("5.10.0-30-amd64"), true);
        table
    }

    #[test]
    fn cells_are_found_in_what_was_printed() {
        let cells = column("6.18.44-fc").cells.into_iter().collect::<Vec<_>>();
        let want = [("a1 child writes", "new frames 64 / anon 64"), ("j2 soft-dirty", "null: not here")];
        assert_eq!(cells, want.map(|(name, cell)| (name.to_owned(), cell.to_owned())));
        assert_eq!(Column::read("6.18.44", "test result: ok\n"), []);
    }

    #[test]
    fn each_table_has_lines_of_its_own() {
        let printed =
            "test life::fork ... row fork | 10 | 10\nok\ncase a1 | 64 | 64\nrow core | no file | -\n";
        let printed = [printed, "test verifier::sizes ... program sys_exit | 2823\n"].concat();
        let [cases, rows, sizes] = Column::read("6.1.0", &printed).try_into().unwrap();
        assert!(sizes.cells.into_iter().eq([("sys_exit".to_owned(), "2823".to_owned())]));
        assert_eq!((cases.word, cases.cells.len()), ("case", 1));
        let cells = [("core", "null: no file"), ("fork", "10 / 10")];
        assert_eq!(rows.word, "row");
        assert!(rows.cells.into_iter().eq(cells.map(|(name, cell)| (name.to_owned(), cell.to_owned()))));
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(release("6.12.107+deb13-amd64"), Some((6, 12)));
        assert_eq!(release("7.2-rc1"), Some((7, 2)));
        assert_eq!(release("next"), None);
        assert!((6, 2) < release("6.12").unwrap());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = table().print("case");
        assert!(
            text.starts_with("| case | 5.10 | 6.1 |\n|-|-|-|\n| a1 child writes | new frames 64 / anon 64 |")
        );
        assert_eq!(Table::parse(&text).unwrap(), table());
        assert_eq!(Table::parse("").unwrap(), Table::default());
    }

    #[test]
    fn a_cell_that_differs_is_named() {
        let mut other = column("6.1.0");
        assert!(table().differences(&other, true).is_empty());
        other.cells.insert("a1 child writes".into(), "new frames 64 / anon 65".into());
        assert_eq!(
            table().differences(&other, false),
            ["  6.1: a1 child writes: told: new frames 64 / anon 65; written: new frames 64 / anon 64"]
        );
        other.cells.remove("a1 child writes");
        assert!(table().differences(&other, false).is_empty());
        assert_eq!(table().differences(&other, true).len(), 1);
        other.cells.insert("z9 new".into(), "x / y".into());
        assert_eq!(table().differences(&other, false).len(), 1);
    }

    #[test]
    fn a_program_may_grow_a_little_and_shrink() {
        let cell = |text: &str| Some(text.to_owned());
        let agrees = |told: &str, written| agrees(SIZE, cell(told).as_ref(), cell(written).as_ref());
        assert!(agrees("1100", "1000") && agrees("1", "1000") && !agrees("1101", "1000"));
        assert!(
            !super::agrees(SIZE, cell("7").as_ref(), None)
                && !super::agrees("row", cell("7").as_ref(), cell("8").as_ref())
        );
    }

    #[test]
    fn a_whole_column_leaves_no_old_cell() {
        let mut table = table();
        let mut column = column("6.1.0");
        column.cells.remove("j2 soft-dirty");
        table.replace(&column, false);
        assert_eq!(table.rows["j2 soft-dirty"].len(), 2);
        table.replace(&column, true);
        assert_eq!(table.rows["j2 soft-dirty"].len(), 1);
    }

    #[test]
    fn the_table_is_between_the_marks() {
        let text = format!("a\n{BEGIN}b\n{END}c\n");
        let (before, table, after) = split(&text).unwrap();
        assert_eq!((table, [before, table, after].concat()), ("b\n", text.clone()));
        assert!(split("a\n").is_err() && split(BEGIN).is_err());
    }
}
