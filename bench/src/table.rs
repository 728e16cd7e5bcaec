//! Tables for people and for programs.

use std::fmt;

use comfy_table::{CellAlignment, Table as Grid, presets};
use indicatif::HumanCount;
use serde_json::{Map, Value, json};

/// A table with a title, columns with units, and rows.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: &'static str,
    title: String,
    /// What a column is called in JSON, and above it.
    columns: &'static [(&'static str, &'static str)],
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A count.
    Count(u64),
    /// A figure, and how many digits after the point people see.
    Figure(f64, usize),
    /// There is none.
    Nothing,
}

/// Prints tables: for people, or as one JSON object with the tables' names.
pub(crate) fn print(tables: &[Table], json: bool) {
    if json {
        println!("{}", Value::Object(tables.iter().map(Table::to_json).collect::<Map<_, _>>()));
        return;
    }
    tables.iter().for_each(|t| println!("{t}"));
}

impl Table {
    /// Without rows.
    pub(crate) fn new(
        name: &'static str,
        title: impl Into<String>,
        columns: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Adds a line below.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Its name, and its value in JSON.
    pub(crate) fn to_json(&self) -> (String, Value) {
        let row = |cells: &Vec<Cell>| -> Value {
            let pairs = self.columns.iter().zip(cells).map(|((key, _), cell)| ((*key).to_owned(), cell.to_json()));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        (self.name.to_owned(), json!({ "title": self.title, "rows": rows, "notes": self.notes }))
    }
}

impl Cell {
    /// A figure if there is one.
    pub(crate) fn maybe(figure: Option<f64>, digits: usize) -> Self {
        figure.map_or(Cell::Nothing, |x| Cell::Figure(x, digits))
    }

    fn to_json(&self) -> Value {
        match self {
            Cell::Text(t) => json!(t),
            Cell::Count(n) => json!(n),
            Cell::Figure(x, digits) => {
                let scale = 10f64.powi(*digits as i32 + 2);
                json!((x * scale).round() / scale)
            }
            Cell::Nothing => Value::Null,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(t) => f.write_str(t),
            Cell::Count(n) => HumanCount(*n).fmt(f),
            Cell::Figure(x, 0) if *x >= 0.0 => HumanCount(x.round() as u64).fmt(f),
            Cell::Figure(x, digits) => write!(f, "{x:.digits$}"),
            Cell::Nothing => f.write_str("-"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grid = Grid::new();
        grid.load_preset(presets::ASCII_MARKDOWN);
        grid.set_header(self.columns.iter().map(|(_, title)| *title));
        for row in &self.rows {
            grid.add_row(row.iter().map(ToString::to_string));
        }
        for (n, column) in grid.column_iter_mut().enumerate() {
            let words = self.rows.first().is_some_and(|row| matches!(row[n], Cell::Text(_)));
            column.set_cell_alignment(if words { CellAlignment::Left } else { CellAlignment::Right });
        }
        writeln!(f, "{}\n\n{grid}", self.title)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_for_people_and_names_its_columns_for_programs() {
        let mut t = Table::new("x", "What x costs", &[("what", "what"), ("rate_per_s", "rate (/s)")]);
        t.row(vec![Cell::Text("one".into()), Cell::Figure(12_345.6, 0)]);
        t.note("measured once");
        let text = t.to_string();
        assert!(text.contains("| one  |    12,346 |"), "{text}");
        assert!(text.starts_with("What x costs\n") && text.ends_with("measured once\n"));
        let (name, json) = t.to_json();
        assert_eq!((name.as_str(), &json["rows"][0]["rate_per_s"]), ("x", &json!(12_345.6)));
    }
}
