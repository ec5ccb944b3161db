//! The demo: four apps with databases of their own are brought into agreement, edited behind each other's backs, decided
//! about, killed under load, and compared. Every figure it shows is also checked; the exit code is 0 only if all are right.
//!
//! `deploy/demo.sh` builds everything, starts the services and then this program. It knows the binaries by their command
//! lines and the apps by SQL, as any user would.

use std::path::PathBuf;
use std::process::ExitCode;

use syncline_tests::acme;

/// What the apps hold, and whether they agree.
mod apps;

/// The three processes as services of the demo.
mod cast;

/// The customer in nine steps.
mod customer;

/// A load, and every process killed under it.
mod kills;

/// The price under seven rules, and the stock.
mod product;

/// What is written on the terminal, and the figures that were checked.
mod show;

use cast::Cast;
use show::Show;

fn main() -> ExitCode {
    let mut show = Show::new();
    match demo(&mut show) {
        Ok(()) => show.verdict(),
        Err(error) => {
            show.failed(&error);
            ExitCode::FAILURE
        }
    }
}

fn demo(show: &mut Show) -> anyhow::Result<()> {
    let directory = std::env::var_os("SYNCLINE_DEMO_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    show.act("Four apps, four databases, no two alike");
    let world = apps::make(&directory, show)?;
    show.act("Capture, transform and a sink for each app");
    let mut cast = Cast::start(&world, show)?;
    apps::wait_until_agreed(&world, &mut cast, show, 180)?;
    apps::report(&world, show)?;

    customer::nine_steps(&world, &mut cast, show)?;
    product::prices(&world, &mut cast, show)?;
    product::stock(&world, &mut cast, show)?;
    customer::conflicts(&world, show)?;
    kills::under_load(&world, &mut cast, show)?;

    show.act("All apps compared, row by row, field by field");
    apps::report(&world, show)?;
    apps::dead_letters(&world, show)?;
    show.summary();
    if std::env::var_os("SYNCLINE_DEMO_KEEP").is_some() {
        cast.leave_running();
        keep(&world, show)
    } else {
        cast.stop(show)
    }
}

fn keep(world: &syncline_tests::World, show: &mut Show) -> anyhow::Result<()> {
    show.act("It keeps running");
    for (app, _) in acme::APPS {
        show.line(&format!("  psql {}", world.dsn(app)?));
    }
    show.line(&format!(
        "  pipeline file, logs and state: {}",
        world.path("").display()
    ));
    show.line("  change a row in one app and look at the others");
    Ok(())
}
