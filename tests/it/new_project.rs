//! `tandem new` to a reply, as an author goes: new, test, build, check, deploy, send.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};

use tandem_tests::program::{Told, finish_slowly};

use crate::TANDEM;

/// What an author types, in a surrounding that says nothing of this workspace.
fn type_in(project: &Path, command: &mut Command) -> Told {
    for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env_remove(name);
    }
    finish_slowly(command.current_dir(project)).expect(0)
}

#[test]
fn a_new_project_tests_builds_deploys_and_answers() {
    // Always the same folder, so that what was compiled once stays; one run at a time.
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-project");
    fs::create_dir_all(place.join("target")).unwrap();
    let only_one = File::create(place.join("lock")).unwrap();
    only_one.lock().unwrap();
    let project = place.join("greeter");
    fs::remove_dir_all(&project).ok();

    let written = TANDEM.run(&place, &["new", "greeter"]).expect(0);
    assert!(written.err.contains("cargo test"), "it says what comes next: {written}");
    symlink("../target", project.join("target")).unwrap();
    let tested = type_in(&project, Command::new("cargo").arg("test"));
    assert!(tested.out.contains("test result: ok. 2 passed"), "{tested}");
    let built = type_in(&project, TANDEM.command(&project).arg("build"));
    assert!(built.out.contains("greeter 0.1.0 is ready to be deployed"), "{built}");
    TANDEM.run(&project, &["check"]).expect(0);

    let node = TANDEM.node();
    let path = project.to_str().unwrap();
    let deployed = node.tandem(&["deploy", path]).expect(0);
    assert!(
        deployed.out.contains("greeter 0.1.0") && deployed.out.contains("is revision 1"),
        "{deployed}"
    );
    for visit in 1..=2 {
        let reply = node
            .tandem(&["send", "greeter", "web", "--body", "{\"name\": \"Ada\"}", "--wait=30s"])
            .expect(0);
        assert!(reply.out.contains("Ada") && reply.out.contains(&visit.to_string()), "{reply}");
    }
    TANDEM.run(&place, &["new", "greeter"]).expect(1);
    TANDEM.run(&place, &["new", "No Name"]).expect(2);
}
