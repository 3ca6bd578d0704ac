//! Answers for people: tables that fit the terminal, or the tree as it is.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use crossterm::terminal;
use serde_json::Value;

use crate::cli::Output;

/// How the word before an error looks; what cannot be styled is stripped of it.
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// The same before a notice.
const NOTICE: Style = AnsiColor::Yellow.on_default().bold();

/// Prints a tree as JSON or YAML.
pub fn print_tree(output: Output, value: &Value) {
    let text = match output {
        Output::Yaml => serde_yaml_ng::to_string(value).unwrap_or_default(),
        Output::Json | Output::Table => format!("{value:#}\n"),
    };
    write(std::io::stdout().lock(), &text);
}

/// Prints to standard output, in colour on a terminal where NO_COLOR is not set.
pub fn print(text: &str) {
    write(anstream::stdout().lock(), text);
}

/// That nobody reads on, as behind `| head`, is no error.
fn write(mut out: impl Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// What may not be meant as it is written, one a line.
pub fn notices(notices: &[Value]) -> String {
    let line = |notice: &Value| {
        format!("{NOTICE}notice:{NOTICE:#} {}: {}\n", cell(&notice["path"]), cell(&notice["message"]))
    };
    notices.iter().map(line).collect()
}

/// Errors, one a line, each with its place.
pub fn errors(body: &Value) -> String {
    let mut text = String::new();
    for error in body["errors"].as_array().map_or(&[][..], Vec::as_slice) {
        let part = |key: &str| error[key].as_str().unwrap_or_default();
        let path = match part("path") {
            "" => String::new(),
            path => format!("{path}: "),
        };
        match part("code") {
            // As EC2's documentation has the line (D15).
            "CannotDelete" => text.push_str(&format!("Client.CannotDelete: {}\n", part("message"))),
            code => text.push_str(&format!("{ERROR}sgctl:{ERROR:#} {path}{} ({code})\n", part("message"))),
        }
        if let Some(file) = error["file"].as_str() {
            text.push_str(&format!("{ERROR}sgctl:{ERROR:#}   in {file}\n"));
        }
    }
    match body["not_listed"].as_u64() {
        None | Some(0) => {}
        Some(more) => text.push_str(&format!("{ERROR}sgctl:{ERROR:#} and {more} more errors\n")),
    }
    text
}

/// Of a terminal that does not say: columns and lines.
pub const SIZE: (u16, u16) = (80, 24);

/// A table with these columns, or a word that there is nothing.
pub fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.style_text_only();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .enforce_styling()
        .set_header(headers.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    // Serial lines are terminals that do not know their size.
    if table.is_tty() && terminal::size().is_ok_and(|(width, _)| width == 0) {
        table.set_width(SIZE.0);
    }
    for row in rows {
        table.add_row(row);
    }
    match table.is_empty() {
        true => "none\n".to_string(),
        false => table.trim_fmt() + "\n",
    }
}

/// A value in a cell.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_string(),
        Value::Bool(false) => "no".to_string(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The items under a key of an answer.
pub fn items<'v>(answer: &'v Value, key: &str) -> &'v [Value] {
    answer[key].as_array().map_or(&[], Vec::as_slice)
}

/// A table of plain columns: for each its title and the key of the items.
pub fn plain(answer: &Value, list: &str, columns: &[(&str, &str)]) -> String {
    let headers: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let rows =
        items(answer, list).iter().map(|item| columns.iter().map(|(_, key)| cell(&item[*key])).collect());
    table(&headers, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstream::adapter::strip_str;
    use serde_json::json;

    #[test]
    fn errors_name_place_and_code() {
        let body = json!({ "errors": [
            { "code": "MissingParameter", "message": "no name", "path": "SecurityGroups[0].GroupName" },
            { "code": "X", "message": "y", "path": "Z[3]", "file": "a.json: Z[1]" },
        ], "not_listed": 7 });
        assert_eq!(
            strip_str(&errors(&body)).to_string(),
            "sgctl: SecurityGroups[0].GroupName: no name (MissingParameter)\n\
             sgctl: Z[3]: y (X)\nsgctl:   in a.json: Z[1]\nsgctl: and 7 more errors\n"
        );
    }

    #[test]
    fn tables_have_columns_or_say_that_they_are_empty() {
        let answer = json!({ "Items": [{ "A": 1 }, { "A": "two", "B": false }] });
        let shown = plain(&answer, "Items", &[("FIRST", "A"), ("SECOND", "B")]);
        let shown = strip_str(&shown).to_string();
        let lines: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines, [["FIRST", "SECOND"], ["1", "-"], ["two", "no"]]);
        assert_eq!(plain(&json!({ "Items": [] }), "Items", &[("FIRST", "A")]), "none\n");
    }

    #[test]
    fn cells_are_for_people() {
        assert_eq!(cell(&json!(null)), "-");
        assert_eq!(cell(&json!(["a", 1, true])), "a, 1, yes");
    }
}
