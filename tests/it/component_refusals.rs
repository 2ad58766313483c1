//! What is no solution is refused before it is deployed, offline and by the node, with what to do about it.

use tandem_tests::{NodeUnderTest, Solution};

use crate::TANDEM;

/// Checks that both `tandem check` and the deployment refuse it, with these texts, and that nothing is deployed.
#[track_caller]
fn refused(node: &NodeUnderTest, solution: &Solution, says: &[&str]) {
    refused_for(1, node, solution, says);
}

/// As [`refused`], with so many faults.
#[track_caller]
fn refused_for(faults: usize, node: &NodeUnderTest, solution: &Solution, says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    solution.write_to(folder.path());
    let path = folder.path().to_str().unwrap();

    let checked = TANDEM.run(folder.path(), &["check", path]).expect(1);
    assert_eq!(checked.err, "", "what was found is data");
    assert!(checked.out.contains(&format!("would be refused: {faults} fault")), "{checked}");
    let as_json = TANDEM.run(folder.path(), &["check", path, "--json"]).expect(1).json();
    assert_eq!(as_json["ok"], false);
    assert_eq!(as_json["faults"].as_array().map(Vec::len), Some(faults), "{as_json}");

    let detail = node.try_deploy(solution).problem(422, "solution-refused");
    let told = node.tandem(&["deploy", path]).expect(1);
    assert!(told.err.contains("[solution-refused]"), "{told}");
    for text in says {
        for said in [&checked.out, &detail, &told.err] {
            assert!(said.contains(text), "`{text}` is not in\n{said}");
        }
    }
    assert_eq!(node.api("solutions"), serde_json::json!([]));
}

#[test]
fn what_is_no_component_is_refused() {
    let node = TANDEM.node();
    let lean = Solution::lean();
    let precompiled = wasmtime::Engine::default()
        .precompile_component(&wat::parse_str("(component)").unwrap())
        .unwrap();
    let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat();
    for (component, says) in [
        (vec![], ["the file is empty", "tandem build"]),
        (
            b"hello".to_vec(),
            ["the file is no WebAssembly: it begins with [68, 65, 6c, 6c", "tandem build"],
        ),
        (b"(component)".to_vec(), ["in its text form", "wasm-tools parse"]),
        (wat::parse_str("(module)").unwrap(), ["is a core WebAssembly module", "wasm32-wasip2"]),
        (precompiled, ["compiled machine code", "name the .wasm file that it was compiled from"]),
        (elf, ["the file is no WebAssembly: it begins with [7f, 45, 4c, 46", "tandem build"]),
    ] {
        refused(&node, &lean.clone().component(component), &says);
    }
}

#[test]
fn a_component_of_something_else_is_refused() {
    let node = TANDEM.node();
    let lean = Solution::lean();
    for (faults, text, says) in [
        (
            1,
            "(component)",
            [
                "exports no `handle`; it exports nothing",
                "of the world `tandem:solution/solution@0.1.0`",
            ],
        ),
        (
            // It has no `handle` either.
            2,
            r#"(component (import "acme:gpu/compute@0.1.0" (instance (export "run" (func)))))"#,
            [
                "the component imports `acme:gpu/compute@0.1.0`, which Tandem does not have",
                "WASI 0.2 only",
            ],
        ),
    ] {
        let component = wat::parse_str(text).unwrap();
        refused_for(faults, &node, &lean.clone().component(component), &says);
    }
    let other_type = wat::parse_str(
        r#"(component
             (core module $m (func (export "h") (result i32) i32.const 0))
             (core instance $i (instantiate $m))
             (func (export "handle") (result u32) (canon lift (core func $i "h"))))"#,
    );
    let says =
        ["`handle` is not what a solution exports", "export `handle: func(message: message)"];
    refused(&node, &lean.clone().component(other_type.unwrap()), &says);
    let mut cut_off = Solution::lean().component;
    cut_off.truncate(cut_off.len() / 2);
    refused(&node, &lean.component(cut_off), &["the component does not compile"]);
}

#[test]
fn an_import_that_is_not_granted_is_refused_with_the_line_to_add() {
    let node = TANDEM.node();
    let line = "outbox = [\"setting:crm_url\"]";
    let ungranted = Solution::lead_router().replace(line, "");
    let says = [
        "but solution.toml grants no `outbox`",
        "add `outbox = [\"https://HOST\"]`",
        "under [grants]",
    ];
    refused(&node, &ungranted, &says);
    let says = ["but solution.toml grants no `publish`", "add `publish = [\"SOLUTION\"]`"];
    refused(&node, &Solution::uptime_watch().replace("publish = [\"alerts\"]", ""), &says);
    node.deploy(&ungranted.with(line));
}

#[test]
fn a_component_that_needs_more_memory_than_its_limit_is_refused() {
    let node = TANDEM.node();
    let says = ["begins with", "but [limits] memory is 1048576", "set memory = \""];
    refused(&node, &Solution::lean().with("[limits]\nmemory = \"1MiB\""), &says);
}

#[test]
fn a_refused_version_leaves_the_deployed_one_at_work() {
    let node = TANDEM.node();
    node.deploy(&Solution::lean());
    let broken = Solution::lean()
        .replace("version = \"0.1.0\"", "version = \"0.2.0\"")
        .component(b"broken".as_slice());
    node.try_deploy(&broken).problem(422, "solution-refused");
    let lean = node.api("solutions/lean");
    assert_eq!(
        (&lean["version"], lean["versions"].as_array().map(Vec::len)),
        (&"0.1.0".into(), Some(1))
    );
    let id = node.accept("lean/in", "");
    node.wait_for_status(&id, "done");
}
