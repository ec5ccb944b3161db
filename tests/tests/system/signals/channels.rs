//! Signals by each channel: taken once, and a bad one is a warning.

use serde_json::json;
use syncline_tests::Stage;

use super::{ITEMS, captured, incremental, pipeline};

#[test]
fn a_signal_on_the_topic_is_taken_once() {
    let pipeline = pipeline("public.items", "signal.enabled.channels: kafka");
    captured("sig_kafka", ITEMS, &pipeline, |world| {
        let topic = format!("{}-signal", world.prefix("shop"));
        let value =
            json!({"type": "execute-snapshot", "data": {"data-collections": ["public.items"], "type": "INCREMENTAL"}});
        let record = |key: &str| {
            (
                Some(key.as_bytes().to_vec()),
                Some(value.to_string().into_bytes()),
                Vec::new(),
            )
        };
        let nonsense = (
            Some(world.prefix("shop").into_bytes()),
            Some(b"nonsense".to_vec()),
            Vec::new(),
        );
        world
            .topics
            .write(&topic, &[record("another"), nonsense, record(&world.prefix("shop"))])?;
        let finished = world.until_current(&Stage::Capture)?;
        assert!(
            finished.log.contains("SIGNAL_REFUSED") && finished.log.contains("at offset 1"),
            "{}",
            finished.log
        );
        assert_eq!(incremental(world, "items")?.len(), 25);
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        world.topics.write(&topic, &[record(&world.prefix("shop"))])?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 50);
        Ok(())
    });
}

#[test]
fn a_signal_in_the_file_is_taken_once_and_the_file_goes() {
    let properties =
        "signal.enabled.channels: file\n      signal.file: signals.txt\n      signal.data.collection: public.nowhere";
    let pipeline = pipeline("public.items", properties).replace("      signal.data.collection: public.signals\n", "");
    captured("sig_file", ITEMS, &pipeline, |world| {
        let line = json!({"id": "f1", "type": "execute-snapshot", "data": {"data-collections": ["public.items"]}});
        std::fs::write(world.path("signals.txt"), format!("{line}\nnonsense\n"))?;
        // Killed when what it asks for is on its way to Kafka: once all the same.
        world.set_env("SYNCLINE_FAILPOINTS", "capture.after_commit=kill@2");
        let finished = world.run(&Stage::Capture, &["--until-current"])?;
        assert_eq!(finished.code, None, "{}", finished.log);
        world.set_env("SYNCLINE_FAILPOINTS", "");
        let finished = world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25, "{}", finished.log);
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        assert!(!world.path("signals.txt").exists() && !world.path("signals.txt.taken").exists());
        Ok(())
    });
}
