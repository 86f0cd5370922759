//! Medians: what other work on the machine does to single measurements does not reach them.

use serde::Serialize;

/// The middle of some measurements, and where the middle half of them lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` when nothing was measured.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = share * (values.len().checked_sub(1)? as f64);
            let (below, above) = (values.get(place.floor() as usize)?, values.get(place.ceil() as usize)?);
            Some(below + (above - below) * place.fract())
        };
        Some(Self { median: quantile(0.5)?, low: quantile(0.25)?, high: quantile(0.75)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_few_and_many() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).map(|s| s.median), Some(2.5));
        let five = Spread::of([50.0, 10.0, 30.0, 20.0, 40.0]);
        assert_eq!(five, Some(Spread { median: 30.0, low: 20.0, high: 40.0 }));
    }

    #[test]
    fn one_wild_value_moves_nothing() {
        let calm = Spread::of([1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(Spread::of([1.0, 2.0, 3.0, 4.0, 5e9]), calm);
    }
}
