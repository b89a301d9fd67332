//! Columns of text.

/// Lays rows out in columns: as wide as their widest cell, two spaces apart. Columns named in `right` are
/// aligned to the right; the last one is not filled up.
pub fn lay_out(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let between = if column == 0 { "" } else { "  " };
            let (before, after) =
                if right.contains(&column) { (gap, String::new()) } else { (String::new(), gap) };
            line.extend([between, &before, cell, &after]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a number with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Writes a number with its noun: `1 item`, `2 items`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_beneath_each_other() {
        let row = |cells: &str| cells.split(' ').map(str::to_owned).collect();
        let rows = [row("ID SIZE STATE"), row("äb 12345 ok"), row("c 7")];
        assert_eq!(lay_out(&rows, &[1]), "ID   SIZE  STATE\näb  12345  ok\nc       7\n");
        assert_eq!(lay_out(&[], &[]), "");
    }

    #[test]
    fn numbers_are_readable() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), shown);
        }
        assert_eq!((counted(1, "item"), counted(2, "item")), ("1 item".into(), "2 items".into()));
    }
}
