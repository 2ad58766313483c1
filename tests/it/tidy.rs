//! The code's own rules: imports go down the floors, and files look as they should.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The floors of `docs/architecture.md`, from the ground up. Who shares a floor does not import the other.
const FLOORS: [&[&str]; 8] = [
    &["model"],
    &["contract", "machine", "tasks", "metrics"],
    &["store", "net"],
    &["runtime", "durability", "lease", "witness"],
    &["ingress", "dispatch", "delivery", "replication", "takeover", "upkeep"],
    &["control"],
    &["node"],
    &["cli", "fuzz"],
];
/// Names that say nothing; such files take in everything.
const BANNED_NAMES: [&str; 10] = [
    "mod.rs",
    "util.rs",
    "utils.rs",
    "helper.rs",
    "helpers.rs",
    "common.rs",
    "misc.rs",
    "types.rs",
    "manager.rs",
    "managers.rs",
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn imports_go_down_the_floors() {
    let source = root().join("host/src");
    let mut faults = String::new();
    let files = rust_files(&source);
    assert!(files.len() > 100, "{} files only: is this the source?", files.len());
    for file in files {
        let path: Vec<_> =
            file.strip_prefix(&source).unwrap().with_extension("").iter().map(text).collect();
        if path != ["lib"] && path != ["main"] {
            for fault in climbing(&path, &fs::read_to_string(&file).unwrap()) {
                writeln!(faults, "{}: {fault}", file.display()).unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn a_climbing_import_is_found_wherever_it_hides() {
    let faults = |path: &[&str], code: &str| {
        let path: Vec<_> = path.iter().map(|&part| part.to_owned()).collect();
        climbing(&path, code)
    };
    // Down, and within.
    let fine = "
        //! Not `crate::cli`.
        use crate::{model::clock::{Clock, UnixMs}, contract::manifest, store::{self, row}};
        use super::row; /* crate::node */ /// [`crate::control`]
        fn f() { let _ = \"crate::cli\"; let _ = r#\"crate::\"cli\"#; let _ = '\\''; crate::model::x::<'a'>() }
        mod tests { use super::*; }";
    assert_eq!(faults(&["store", "open"], fine), Vec::<String>::new());
    for (climbs, module) in [
        ("use crate::dispatch::Dispatch;", "dispatch"),
        ("use crate::{model::clock::Clock, node::{config::{Log, Store}, Node}};", "node"),
        ("use crate::{self as all, model, {cli}};", "cli"),
        ("pub(in crate::control) fn f() {}", "control"),
        ("fn f() -> crate :: /* up */ runtime::Engine {}", "runtime"),
        ("use super::super::ingress;", "ingress"),
        ("mod tests { use super::super::super::{model, ingress}; }", "ingress"),
        ("use ::crate::delivery;", "delivery"),
        // A neighbour.
        ("use crate::net::problem::Problem;", "net"),
    ] {
        let found = faults(&["store", "open"], climbs);
        assert_eq!(found.len(), 1, "{climbs}: {found:?}");
        assert!(found[0].contains(&format!("`{module}`")), "{climbs}: {found:?}");
    }
    assert_eq!(
        faults(&["ingress"], "use crate::dispatch::x;"),
        ["`ingress` imports its neighbour `dispatch` (floor 4)"]
    );
    assert_eq!(
        faults(&["model", "id"], "use crate::cli::x;"),
        ["`model` (floor 0) imports `cli` (floor 7)"]
    );
    assert_eq!(
        faults(&["model", "id"], "use crate::attic::x;"),
        ["`attic` is on no floor; give it one in this test"]
    );
    assert_eq!(faults(&["attic"], "").len(), 1);
}

/// What the code of a module imports and must not; `path` is the module's, without `crate`.
fn climbing(path: &[String], code: &str) -> Vec<String> {
    let no_floor = |module: &str| format!("`{module}` is on no floor; give it one in this test");
    let Some(own) = floor(&path[0]) else { return vec![no_floor(&path[0])] };
    let mut faults = Vec::new();
    for module in imported(path.len(), code) {
        if module == path[0] {
            continue;
        }
        match floor(&module) {
            Some(theirs) if theirs < own => {}
            Some(theirs) if theirs == own => {
                faults
                    .push(format!("`{}` imports its neighbour `{module}` (floor {own})", path[0]));
            }
            Some(theirs) => {
                faults.push(format!(
                    "`{}` (floor {own}) imports `{module}` (floor {theirs})",
                    path[0]
                ));
            }
            None => faults.push(no_floor(&module)),
        }
    }
    faults
}

/// Modules at the top of the crate that code `depth` modules below it names, by `crate::` or by enough `super::`.
fn imported(depth: usize, code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut modules = Vec::new();
    let (mut braces, mut inline) = (0, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match token(at) {
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                inline.pop_if(|opened| *opened == braces);
            }
            "mod" if token(at + 2) == "{" => inline.push(braces),
            "crate" if token(at + 1) == "::" => modules.extend(heads(&tokens, at + 2)),
            "super" if token(at + 1) == "::" && (at == 0 || token(at - 1) != "::") => {
                let is_super =
                    |n: &usize| token(at + 2 * n) == "super" && token(at + 2 * n + 1) == "::";
                let supers = (0..tokens.len()).take_while(is_super).count();
                // As many as the module is deep lead to the crate itself.
                if supers == depth + inline.len() {
                    modules.extend(heads(&tokens, at + 2 * supers));
                }
                at += 2 * supers - 1;
            }
            _ => {}
        }
        at += 1;
    }
    modules.retain(|module| module != "self");
    modules
}

/// The first names of a path or of a tree of them: of `a::b` it is `a`, of `{a::{b, c}, {d}}` they are `a` and `d`.
fn heads(tokens: &[String], from: usize) -> Vec<String> {
    let Some(first) = tokens.get(from) else { return Vec::new() };
    if first != "{" {
        return vec![first.clone()];
    }
    let mut heads_found = Vec::new();
    let (mut braces, mut begins) = (1, true);
    for at in from + 1..tokens.len() {
        match tokens[at].as_str() {
            "{" if begins => heads_found.extend(heads(tokens, at)),
            _ if begins && braces == 1 && is_word(&tokens[at]) => {
                heads_found.push(tokens[at].clone());
            }
            _ => {}
        }
        match tokens[at].as_str() {
            "{" => braces += 1,
            "}" => braces -= 1,
            _ => {}
        }
        if braces == 0 {
            break;
        }
        begins = braces == 1 && tokens[at] == ",";
    }
    heads_found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words, `::` and single other characters; comments and what is in quotes are left out.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if let Some(skipped) = comment(rest).or_else(|| quoted(rest)) {
            skipped
        } else {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                c.len_utf8()
            };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment that the text begins with; block comments nest.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of the string or character that the text begins with; a lifetime is neither.
fn quoted(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let after = &text[prefix.min(1)..];
    if let Some(raw) = after.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(text.len() - inside.len() + length);
    }
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = &after[1..];
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            // 'x' has one character; 'a in front of anything else is a lifetime.
            _ if quote == '\'' && at == 0 && !inside[c.len_utf8()..].starts_with('\'') => {
                return None;
            }
            _ if c == quote && (quote == '"' || at > 0) => {
                return Some(text.len() - inside.len() + at + 1);
            }
            _ => {}
        }
    }
    None
}

#[test]
fn files_look_as_they_should() {
    let mut faults = String::new();
    let mut files: Vec<_> = ["host", "plugin-sdk", "example-plugins", "tests"]
        .iter()
        .flat_map(|part| rust_files(&root().join(part)))
        .collect();
    // This file names what it forbids.
    files.retain(|file| !file.ends_with("tests/it/tidy.rs"));
    for file in files {
        for fault in untidy(&file, &fs::read_to_string(&file).unwrap()) {
            writeln!(faults, "{}: {fault}", file.display()).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn an_untidy_file_is_found() {
    assert_eq!(untidy(Path::new("a/backoff.rs"), "//! How long to wait.\n"), Vec::<String>::new());
    for (name, code) in [
        ("a/mod.rs", "//! x\n"),
        ("a/utils.rs", "//! x\n"),
        ("a/b.rs", "use x;\n"),
        ("a/b.rs", "//! x\n#[allow(dead_code)]\n"),
        ("a/b.rs", "//! x\n#![allow(dead_code)]\n"),
        ("a/b.rs", "//! x\nfn f() { todo!() }\n"),
        ("a/b.rs", "//! x\nfn f() { unimplemented!(\"later\") }\n"),
    ] {
        assert_eq!(untidy(Path::new(name), code).len(), 1, "{name}: {code}");
    }
}

fn untidy(file: &Path, code: &str) -> Vec<&'static str> {
    let name = file.file_name().map(text).unwrap_or_default();
    let mut faults = Vec::new();
    if BANNED_NAMES.contains(&name.as_str()) {
        faults.push("its name says nothing");
    }
    // The tests of a file are about that file, and say so by their name.
    if !code.starts_with("//!") && name != "tests.rs" {
        faults.push("it does not begin with `//!` and what it is for");
    }
    // Of what a macro generates nobody knows which lints it meets.
    let generated = code.contains("reason = \"generated\"");
    if !generated && (code.contains("#[allow(") || code.contains("#![allow(")) {
        faults.push("use `expect`, with its reason, rather than `allow`");
    }
    for (text, fault) in
        [("todo!(", "it is not finished"), ("unimplemented!(", "it is not finished")]
    {
        if code.contains(text) {
            faults.push(fault);
        }
    }
    faults
}

#[test]
fn documents_name_tests_that_exist() {
    let mut faults = String::new();
    for document in ["docs/guarantees.md", "docs/testing.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let named = named_tests(&text);
        assert!(named.len() > 30, "{document} names {} tests only", named.len());
        for (file, test) in named {
            if !is_there(&file, &test) {
                writeln!(faults, "{document}: {file}::{test}").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "no such tests:\n{faults}");
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    let text = "holds: `it/a.rs::one`, `::two` and `b/c.rs::three`. See `b/c.rs`, `x::y` and ```sh `d.rs::no` ```";
    let named = named_tests(text);
    let named: Vec<_> = named.iter().map(|(file, test)| (file.as_str(), test.as_str())).collect();
    assert_eq!(
        named,
        [("it/a.rs", "one"), ("it/a.rs", "two"), ("b/c.rs", "three"), ("b/c.rs", "")]
    );
    assert!(is_there("it/tidy.rs", "a_test_that_does_not_exist_is_found"));
    assert!(is_there("it/tidy.rs", ""));
    assert!(!is_there("it/tidy.rs", "a_test_that_does_not_exist"));
    assert!(!is_there("it/tidy.rs", "is_there"), "it is no test");
    assert!(!is_there("it/untidy.rs", ""));
}

/// Tests between backticks, as `file::test`, and files alone, without a test; after a file, `::test` is one of the same file.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let mut named: Vec<(String, String)> = Vec::new();
    for quoted in text.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2)) {
        let (file, test) = quoted.split_once("::").unwrap_or((quoted, ""));
        let is_file = Path::new(file).extension().is_some_and(|extension| extension == "rs")
            && !file.contains('*');
        let before = named.last().map(|(file, _)| file.clone());
        match before {
            // A file alone, without a folder, may be spoken of for another reason.
            _ if is_file && (file.contains('/') || !test.is_empty()) => {
                named.push((file.to_owned(), test.to_owned()));
            }
            Some(file) if quoted.starts_with("::") => named.push((file, test.to_owned())),
            _ => {}
        }
    }
    named
}

/// Whether that file is there, and has that test. `it/` is in `tests/`, `simulate/` in `host/examples/`; what is not the host's says where it is.
fn is_there(file: &str, test: &str) -> bool {
    let places =
        ["host/src", "host/examples", "tests", ""].map(|place| root().join(place).join(file));
    let Some(code) = places.iter().find_map(|path| fs::read_to_string(path).ok()) else {
        return false;
    };
    let is_test = |(at, _): (usize, &str)| {
        let before = &code[..at];
        let from = before.rfind("\n\n").unwrap_or(0).max(before.rfind('}').unwrap_or(0));
        // A test's own attribute, or, of a property, that of the macro it stands in.
        ["test]", "test("].iter().any(|attribute| before[from..].contains(attribute))
            || before.contains("proptest! {")
    };
    test.is_empty() || code.match_indices(&format!("fn {test}(")).any(is_test)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .to_path_buf()
}

fn text(part: &std::ffi::OsStr) -> String {
    part.to_string_lossy().into_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
