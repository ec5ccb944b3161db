//! The frame that all three share: health, metrics, the end by SIGTERM, one log line for one reason.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use syncline_tests::{Stage, World, acme, in_world, until};

/// Status line and body of a page.
fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn serves_and_ends(world: &World, stage: &Stage) -> anyhow::Result<()> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let service = world.start_with(stage, &["--listen", &address], &[])?;
    until("readiness", 40, || {
        Ok(get(port, "/readyz").is_ok_and(|answer| answer.contains(" 200 ")))
    })?;
    assert!(get(port, "/healthz")?.contains(" 200 "), "{stage}");
    world
        .db("shop")
        .exec("INSERT INTO customers (full_name, email) SELECT 'P', gen_random_uuid() || '@x.org'")?;
    let upstream: &[Stage] = match stage {
        Stage::Capture => &[],
        Stage::Transform => &[Stage::Capture],
        _ => &[Stage::Capture, Stage::Transform],
    };
    world.work_off(upstream)?;
    until("metrics of the record", 40, || {
        Ok(get(port, "/metrics")?.contains("# TYPE syncline_"))
    })?;
    service.stop()
}

#[test]
fn each_service_answers_and_ends_on_sigterm_within_ten_seconds() {
    let pipeline = acme::pipeline();
    in_world("frame", &acme::APPS, &acme::files(&pipeline), |world| {
        world.settle()?;
        for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
            serves_and_ends(world, &stage)?;
        }
        Ok(())
    });
}

/// A sink that started when only one of its topics was there reads the others when they come.
#[test]
fn a_topic_made_after_the_sink_started_is_read() {
    let pipeline = acme::pipeline();
    in_world("late", &acme::APPS, &acme::files(&pipeline), |world| {
        let first = syncline_schemas::topic::canonical(&world.name, "customer", 1);
        world.topics.create_compacted(&first, 2)?;
        let sink = world.start(&Stage::sink("shop"))?;
        until("the sink to have its first topic", 40, || {
            Ok(sink.log()?.contains("took partitions over"))
        })?;
        world
            .db("wms")
            .exec("INSERT INTO items (sku, on_hand) SELECT 'S' || i, i FROM generate_series(1, 20) i")?;
        world.agree()?;
        let products = || world.db("shop").number("SELECT count(*) FROM products");
        until("the products in the shop", 40, || Ok(products()? == 20))?;
        sink.stop()
    });
}
