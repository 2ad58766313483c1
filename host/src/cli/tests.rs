//! The command line as a whole: what it takes, what it refuses, what its help says.

use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tandem").chain(line.split_whitespace()))
}

/// Each command with its whole name, those below it included.
fn commands() -> Vec<(String, clap::Command)> {
    fn below(command: &clap::Command, name: &str, all: &mut Vec<(String, clap::Command)>) {
        all.push((name.to_owned(), command.clone()));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            below(sub, &format!("{name} {}", sub.get_name()), all);
        }
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = Vec::new();
    below(&root, "tandem", &mut all);
    all
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_examples_that_it_takes() {
    for (name, command) in commands() {
        let help = command.clone().render_long_help().to_string();
        let (_, examples) =
            help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}:\n{help}"));
        let examples = examples.split("\n\n").next().unwrap();
        let lines: Vec<&str> = examples.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert!((2..=4).contains(&lines.len()), "{name} has {} examples", lines.len());
        for line in lines {
            // What a shell would leave of it.
            let start = line.find("tandem ").unwrap_or_else(|| panic!("{line}"));
            let words = shell_words(&line[start..]);
            if let Err(e) = Cli::try_parse_from(&words) {
                panic!("the example `{line}` of `{name}` is not taken: {e}");
            }
        }
    }
}

/// The words of the first command of a line: quotes are honoured, pipes and the like end it.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => words.last_mut().unwrap().extend(chars.next()),
            (None, '|' | '>' | '&') => break,
            // Two blanks: what follows says what it is for.
            (None, ' ') if chars.peek() == Some(&' ') => break,
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn help_is_as_it_was_meant() {
    for (name, mut command) in commands() {
        insta::assert_snapshot!(name.replace(' ', "_"), command.render_long_help());
    }
}

#[test]
fn json_node_and_token_may_stand_anywhere() {
    for line in [
        "--json messages --node http://a list",
        "messages list --json --node http://a --token t",
        "messages --node http://a --token t list --json",
        "solutions --node http://a",
        "settings --json",
    ] {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn wrong_usage_is_refused_before_anything_is_tried() {
    for (line, kind) in [
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("fly", ErrorKind::InvalidSubcommand),
        ("send a", ErrorKind::MissingRequiredArgument),
        ("send a b --file x --body y", ErrorKind::ArgumentConflict),
        ("send a b --wait=1h", ErrorKind::ValueValidation),
        ("send a b --header novalue", ErrorKind::ValueValidation),
        ("messages list --limit 0", ErrorKind::ValueValidation),
        ("messages list --limit 1001", ErrorKind::ValueValidation),
        ("messages list --status lost", ErrorKind::InvalidValue),
        ("state get s k --raw --json", ErrorKind::ArgumentConflict),
        ("demo --rate 0", ErrorKind::ValueValidation),
        ("run --listen nowhere", ErrorKind::ValueValidation),
        ("completions tcsh", ErrorKind::InvalidValue),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), kind, "{line}");
        assert_eq!(error.exit_code(), i32::from(exit::Exit::Usage.code()), "{line}");
    }
}

#[test]
fn a_wait_has_a_default_and_takes_a_time() {
    let wait = |line: &str| match parse(line).unwrap().command {
        Command::Send(args) => args.wait(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait("send a b"), None);
    assert_eq!(wait("send a b --wait"), Some(std::time::Duration::from_secs(10)));
    assert_eq!(wait("send a b --wait=500ms"), Some(std::time::Duration::from_millis(500)));
}

#[test]
fn completions_know_every_command() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "tandem", &mut script);
        let script = String::from_utf8(script).unwrap();
        for (name, _) in commands().into_iter().skip(1) {
            let last = name.rsplit(' ').next().unwrap();
            assert!(script.contains(last), "{shell}: {name}");
        }
    }
}

#[test]
fn the_page_names_every_command_and_every_exit_code() {
    let page = include_str!("../../../docs/cli.md");
    for (name, command) in commands() {
        if command.get_subcommands().all(|sub| sub.get_name() == "help") {
            assert!(page.contains(&format!("`{name}")), "docs/cli.md leaves out `{name}`");
        }
    }
    for exit in exit::Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(page.contains(&row), "docs/cli.md leaves out: {row}");
    }
}
