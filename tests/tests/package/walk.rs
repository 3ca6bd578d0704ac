//! A session of the documentation: what is typed, and what has to be answered.

use crate::machine::Machine;

/// A command, and what the documentation shows of its answer.
struct Step<'d> {
    line: usize,
    command: String,
    shown: Vec<&'d str>,
}

/// The commands of a section: in indented blocks the lines behind `$`, with those behind `>`
/// that go on, and between them the answers.
fn steps<'d>(document: &'d str, section: &str) -> Vec<Step<'d>> {
    let heading = format!("## {section}");
    let lines = (1..).zip(document.lines()).skip_while(|(_, line)| *line != heading).skip(1);
    let lines = lines.take_while(|(_, line)| !line.starts_with("## "));
    let mut steps: Vec<Step> = Vec::new();
    for (line, text) in lines.filter_map(|(line, text)| Some((line, text.strip_prefix("    ")?))) {
        if let Some(command) = text.strip_prefix("$ ") {
            steps.push(Step { line, command: command.to_string(), shown: vec![] });
            continue;
        }
        let step = steps.last_mut().unwrap_or_else(|| panic!("line {line} is of no command: {text}"));
        match text.strip_prefix("> ") {
            Some(more) => step.command += &format!("\n{more}"),
            None => step.shown.push(text),
        }
    }
    steps
}

/// Whether this is what was shown: a line of `...` stands for any lines.
fn fits(shown: &[&str], said: &[String]) -> bool {
    match (shown, said) {
        ([], said) => said.is_empty(),
        (["...", shown @ ..], said) => (0..=said.len()).any(|n| fits(shown, &said[n..])),
        ([line, shown @ ..], [first, said @ ..]) => line_fits(line, first) && fits(shown, said),
        (_, []) => false,
    }
}

/// The same of a line, in which `...` stands for anything, and any room for a space.
fn line_fits(shown: &str, said: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, said) = (words(shown), words(said));
    let Some((start, rest)) = shown.split_once("...") else { return shown == said };
    let Some(mut said) = said.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once("...").map_or((None, rest), |(middle, end)| (Some(middle), end));
    for part in middle.into_iter().flat_map(|middle| middle.split("...")) {
        let Some((_, behind)) = said.split_once(part) else { return false };
        said = behind;
    }
    said.ends_with(end)
}

/// Types all commands of a section of a document. Each is answered as it says there, entirely,
/// and succeeds, unless the next one asks for its status.
pub fn walk(machine: &mut Machine, name: &str, document: &str, section: &str) {
    let steps = steps(document, section);
    assert!(!steps.is_empty(), "{name} has no commands in a section {section:?}");
    for (at, step) in steps.iter().enumerate() {
        let Step { line, command, shown } = step;
        let (status, said) = machine.run(command);
        let text = format!("{name}:{line}: $ {command}\nsays:\n{}\nand ends with {status}", said.join("\n"));
        assert!(fits(shown, &said), "{text}\nbut by the documentation it says:\n{}", shown.join("\n"));
        let is_asked = steps.get(at + 1).is_some_and(|next| next.command == "echo $?");
        assert!(status == 0 || is_asked, "{text}");
    }
}

#[test]
fn answers_are_compared() {
    let said = ["", "GENERATION  TIME", "2  now", "1  then  x"].map(String::from);
    for shown in [
        &["", "GENERATION TIME", "2 now", "1 then x"][..],
        &["..."],
        &["", "...", "2 ...", "1 ... x"],
        &["...", "...ION T...", "2 ...ow", "..."],
        &["", "GENERATION TIME", "2 now", "1 then x", "..."],
    ] {
        assert!(fits(shown, &said), "{shown:?}");
    }
    for shown in [
        &[][..],
        &["", "GENERATION TIME", "2 now"],
        &["...", "GENERATION TIME", "3 ...", "..."],
        &["...", "1 then", "..."],
        &["...", "2 now ...", "..."],
        &["...", "1 then x", "2 now"],
        &["", "GENERATION TIME", "2 now", "1 then x", "more"],
        &["...", "1 ... then ... x ... x"],
    ] {
        assert!(!fits(shown, &said), "{shown:?}");
    }
    let document = "## A\n    $ no\n## B\nwords\n\n    $ one\n    1\n\n    $ two \\\n    > three\n      4\n## C\n    $ no\n";
    let steps = steps(document, "B");
    let read: Vec<_> = steps.iter().map(|s| (s.line, &*s.command, &*s.shown)).collect();
    assert_eq!(read, [(6, "one", &["1"][..]), (9, "two \\\nthree", &["  4"])]);
}
