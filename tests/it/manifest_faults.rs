//! A manifest that is wrong is refused with the file, the line and the nearest right thing.

use tandem_tests::Solution;

use crate::TANDEM;

#[test]
fn each_fault_is_told_with_its_place() {
    let node = TANDEM.node();
    let watch = Solution::uptime_watch;
    for (solution, marked, says) in [
        (
            watch().replace("timezone", "timezon"),
            "timezon =",
            "`timezon` is no key of [source[1]], did you mean `timezone`?",
        ),
        (
            watch().with("[limit]\ntime = \"1s\""),
            "[limit]",
            "`limit` is no key of this file, did you mean `limits`?",
        ),
        (
            watch().replace("max_body = \"4KiB\"", "max_body = true"),
            "max_body =",
            "expected a size",
        ),
        (watch().with("[limits]\ntime = 10"), "time = 10", "`10` has no unit"),
        (watch().replace("*/10 * * * * *", "*/10 * * 32 *"), "cron =", "32"),
        (
            watch().replace("name = \"look\"", "name = \"report\""),
            "name = \"report\"",
            "`report` is already on line",
        ),
        (watch().replace("version = \"0.1.0\"", ""), "", "`version` is missing, for example `"),
        (watch().replace("[grants]", "[grants"), "[grants", "this is no TOML"),
    ] {
        let line = match marked {
            "" => 1,
            // The second of two that are the same.
            _ => {
                solution.manifest.lines().count()
                    - solution.manifest.lines().rev().position(|l| l.contains(marked)).unwrap()
            }
        };
        let folder = tempfile::tempdir().unwrap();
        solution.write_to(folder.path());
        let path = folder.path().join("solution.toml");
        let path = path.to_str().unwrap();
        let checked = TANDEM.run(folder.path(), &["check", path]).expect(1);
        let detail = node.try_deploy(&solution).problem(422, "solution-refused");
        let place = |file: &str| format!("{file}:{line}:");
        assert!(checked.out.contains(&place(path)), "{}\n{checked}", place(path));
        assert!(detail.contains(&place("solution.toml")), "{}\n{detail}", place("solution.toml"));
        assert!(
            checked.out.contains(says) && detail.contains(says),
            "`{says}` is not in\n{checked}\n{detail}"
        );
    }
    assert_eq!(node.api("solutions"), serde_json::json!([]));
}

#[test]
fn all_faults_are_told_at_once() {
    let node = TANDEM.node();
    let solution = Solution::lean()
        .replace("kind = \"webhook\"", "kind = \"hook\"")
        .with("[retry]\nattempts = 0");
    let detail = node.try_deploy(&solution).problem(422, "solution-refused");
    assert!(detail.contains("`hook` is none of `webhook`, `schedule`, `message`"), "{detail}");
    assert!(detail.contains("`attempts` must be at least 1 and at most 100"), "{detail}");
}
