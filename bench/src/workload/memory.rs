//! Page faults. Only the faults are timed, not the fork that shares the pages.

use std::path::Path;

use anyhow::Result;

use super::{
    Cost,
    sys::{Held, Pages, fork, timed, wait},
};

/// Pages of a storm.
const STORM: usize = 20_000;

/// Does `round` with `STORM` pages at a time until there were `operations` of them.
fn storm(operations: u64, mut round: impl FnMut(usize) -> Result<Cost>) -> Result<Cost> {
    let mut left = operations as usize;
    let mut sum = Cost::default();
    while left > 0 {
        let pages = left.min(STORM);
        sum.add(round(pages)?);
        left -= pages;
    }
    Ok(sum)
}

fn write(pages: &Pages) -> Result<Cost> {
    timed(|| {
        pages.write();
        Ok(())
    })
}

pub(super) fn cow_child(operations: u64, _: &Path) -> Result<Cost> {
    storm(operations, |count| {
        let pages = Pages::filled(count)?;
        let mut child = Held::fork(|| write(&pages))?;
        let cost = child.cost()?;
        child.release()?;
        Ok(cost)
    })
}

pub(super) fn cow_parent(operations: u64, _: &Path) -> Result<Cost> {
    storm(operations, |count| {
        let pages = Pages::filled(count)?;
        let child = Held::fork(|| Ok(Cost::default()))?;
        let cost = write(&pages)?;
        child.release()?;
        Ok(cost)
    })
}

pub(super) fn reuse(operations: u64, _: &Path) -> Result<Cost> {
    storm(operations, |count| {
        let pages = Pages::filled(count)?;
        wait(fork(|| Ok(()))?)?;
        write(&pages)
    })
}

pub(super) fn first_touch(operations: u64, _: &Path) -> Result<Cost> {
    storm(operations, |count| write(&Pages::untouched(count)?))
}

/// Each maps the page of zeros.
pub(super) fn zero_read(operations: u64, _: &Path) -> Result<Cost> {
    storm(operations, |count| {
        let pages = Pages::untouched(count)?;
        timed(|| {
            pages.read();
            Ok(())
        })
    })
}
