//! `--check`: a good file is code 0, a bad one is code 2 with every error, its place, its reason and its remedy.

use std::process::Command;

use syncline_tests::{Stage, World, acme, in_world, process};

fn with(pipeline: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    in_world("check", &acme::APPS, &acme::files(pipeline), test);
}

/// The 1-based line of the file that has `text`.
fn line_of(pipeline: &str, text: &str) -> usize {
    pipeline
        .lines()
        .position(|line| line.contains(text))
        .map_or(0, |index| index + 1)
}

#[test]
fn the_demo_pipeline_is_valid_for_all_three() {
    with(&acme::pipeline(), |world| {
        for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
            world.run(&stage, &["--check"])?.expect_code(0)?;
        }
        Ok(())
    });
}

#[test]
fn all_errors_of_a_file_are_shown_at_once() {
    let broken = acme::pipeline()
        .replace("topic_prefix: \"${env:CRM_PREFIX}\"", "topic_prefx: crm")
        .replace("money:    { on_conflict: hold }", "money:    { on_conflict: hodl }")
        .replace("phone: tel", "phoen: tel");
    with(&broken, |world| {
        for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
            let finished = world.run(&stage, &["--check"])?.expect_code(2)?;
            let places = [("topic_prefx", "topic_prefix"), ("hodl", "hold")];
            for (wrong, right) in places {
                let finished = &finished;
                assert!(
                    finished.log.contains(wrong) && finished.log.contains(right),
                    "{wrong}: {}",
                    finished.log
                );
                let place = format!("pipeline.yaml:{}:", line_of(&broken, wrong));
                assert!(finished.log.contains(&place), "{place} {}", finished.log);
            }
            assert!(finished.log.contains("error[H"), "{}", finished.log);
        }
        Ok(())
    });
}

#[test]
fn a_two_way_mapping_that_loses_information_is_refused_with_an_example() {
    let lossy = acme::pipeline().replace("last: \"rest(name)\"", "last: \"word(name, 2)\"");
    with(&lossy, |world| {
        let finished = world
            .run(&Stage::Transform, &["--check"])?
            .expect_code(2)?
            .expect_log("H214")?;
        let place = format!("pipeline.yaml:{}:", line_of(&lossy, "word(name, 2)"));
        finished
            .expect_log(&place)?
            .expect_log("Ana de la Cruz")?
            .expect_log("help")?;
        Ok(())
    });
}

#[test]
fn a_missing_variable_and_a_wrong_command_are_code_2() {
    let pipeline = acme::pipeline().replace("${env:SHOP_DSN}", "${env:NO_SUCH_VARIABLE}");
    with(&pipeline, |world| {
        world
            .run(&Stage::Sink, &["--check"])?
            .expect_code(2)?
            .expect_log("NO_SUCH_VARIABLE")?;
        world.set_env("NO_SUCH_VARIABLE", &world.dsn("shop")?);
        world.run(&Stage::Sink, &["--no-such-flag"])?.expect_code(2)?;
        world
            .run(&Stage::capture("nobody"), &["--check"])?
            .expect_code(2)?
            .expect_log("nobody")?;
        Ok(())
    });
}

/// Secrets never appear, whatever goes wrong.
#[test]
fn a_password_is_never_shown() {
    with(&acme::pipeline(), |world| {
        world.set_env(
            "CRM_DSN",
            "postgres://somebody:c4n4ry@127.0.0.1:1/nowhere?connect_timeout=1",
        );
        let mut service = world.start_with(&Stage::sink("crm"), &[], &[("RUST_LOG", "debug")])?;
        syncline_tests::until("the sink to say that it cannot connect", 30, || {
            Ok(service.log()?.contains("127.0.0.1") || service.log()?.contains("refused"))
        })?;
        service.kill()?;
        assert!(!service.log()?.contains("c4n4ry"));
        Ok(())
    });
}

#[test]
fn what_a_connectors_configuration_says_without_effect_is_told() -> anyhow::Result<()> {
    let examples = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../capture/src/debezium/connector/examples"
    );
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(process::binary("syncline-capture")?);
    command
        .arg("--check")
        .args(["--debezium", &format!("{examples}/tutorial.json")]);
    command.args(["--worker", &format!("{examples}/worker.properties")]);
    process::run(command, &directory.path().join("check.log"), 30)?
        .expect_code(0)?
        .expect_log("tasks.max has no effect here: one slot is read by one thread")?
        .expect_log("group.id (of the worker) has no effect here")?;
    Ok(())
}
