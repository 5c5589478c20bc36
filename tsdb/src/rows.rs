//! Bringing rows that were read from several places into one order.

use model::Columns;

/// Sorts the rows from `start` on and leaves one for each time: that which was read first. Parts of a store rarely overlap, so this rarely
/// does more than look.
pub(crate) fn put_in_order(columns: &mut Columns, start: usize) {
    if columns.times()[start..].windows(2).all(|pair| pair[0] < pair[1]) {
        return;
    }
    let mut rows: Vec<usize> = (start..columns.len()).collect();
    rows.sort_by_key(|&row| columns.times()[row]);
    rows.dedup_by_key(|row| columns.times()[*row]);
    let mut sorted = Columns::with_capacity(rows.len());
    for row in rows {
        sorted.push_row(columns, row);
    }
    columns.truncate(start);
    for row in 0..sorted.len() {
        columns.push_row(&sorted, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_time_stays() {
        let mut columns = Columns::new();
        for (t, v) in [(9, 0.0), (3, 1.0), (5, 2.0), (3, 3.0), (4, 4.0)] {
            columns.push(t, v);
        }
        put_in_order(&mut columns, 1);
        assert_eq!(
            (columns.times(), columns.floats()),
            (&[9, 3, 4, 5][..], &[0.0, 1.0, 4.0, 2.0][..])
        );
    }
}
