//! A load on all apps, every process killed under it, and every unit of stock accounted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use syncline_tests::{Db, World};

use crate::apps;
use crate::cast::Cast;
use crate::show::Show;

const ROUNDS: usize = 2;
const BETWEEN_KILLS: Duration = Duration::from_millis(1800);
const PAUSE: Duration = Duration::from_millis(20);
const AGREE_S: u64 = 120;

/// Makes changes in one app until it is told to stop; gives how many rows it changed.
type Worker = JoinHandle<anyhow::Result<i64>>;

/// A statement, how many rows it changes, and by how much the total stock.
type Change = (String, i64, i64);

/// What the workers share.
#[derive(Clone, Default)]
struct Shared {
    stop: Arc<AtomicBool>,
    stock: Arc<AtomicI64>,
}

fn worker(db: Db, shared: &Shared, change: impl Fn(i64) -> Change + Send + 'static) -> Worker {
    let shared = shared.clone();
    std::thread::spawn(move || {
        let mut changed = 0;
        for turn in 0.. {
            if shared.stop.load(Ordering::SeqCst) {
                break;
            }
            let (sql, rows, stock) = change(turn);
            match db.exec(&sql) {
                Ok(()) => {
                    changed += rows;
                    shared.stock.fetch_add(stock, Ordering::SeqCst);
                }
                // A deadlock with the sink is the app's to lose now and then; nothing was changed.
                Err(error) if format!("{error:?}").contains("deadlock") => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(changed)
    })
}

/// Sales in the shop, goods-in at the warehouse, phones in the CRM, labels and phones in the shop.
fn start(world: &World, shared: &Shared) -> anyhow::Result<Vec<Worker>> {
    let range = |from: i64, step: i64, count: i64, turn: i64, rows: i64| {
        let first = from + turn * step % count;
        format!("BETWEEN {first} AND {}", first + rows - 1)
    };
    let sales = move |turn| {
        (
            format!(
                "UPDATE products SET qty = qty - 1 WHERE id {}",
                range(501, 7, 900, turn, 5)
            ),
            5,
            -5,
        )
    };
    let goods_in = move |turn| {
        (
            format!(
                "UPDATE items SET on_hand = on_hand + 3 WHERE item_no {}",
                range(1, 11, 900, turn, 5)
            ),
            5,
            15,
        )
    };
    let phones = move |turn| {
        (
            format!(
                "UPDATE contacts SET tel = 'c-{turn}' WHERE contact_id {}",
                range(1, 3, 2000, turn, 3)
            ),
            3,
            0,
        )
    };
    let labels = move |turn| {
        let rows = range(1, 5, 2000, turn, 3);
        (
            format!("UPDATE customers SET labels = '{{load}}', phone = 's-{turn}' WHERE id {rows}"),
            3,
            0,
        )
    };
    Ok(vec![
        worker(world.connect("shop")?, shared, sales),
        worker(world.connect("wms")?, shared, goods_in),
        worker(world.connect("crm")?, shared, phones),
        worker(world.connect("shop")?, shared, labels),
    ])
}

fn total_stock(world: &World) -> anyhow::Result<[i64; 2]> {
    Ok([
        world.db("shop").number("SELECT sum(qty) FROM products")?,
        world.db("wms").number("SELECT sum(on_hand) FROM items")?,
    ])
}

/// Kills everything, several times, under load.
pub fn under_load(world: &World, cast: &mut Cast<'_>, show: &mut Show) -> anyhow::Result<()> {
    show.act("Every process killed without warning, under load");
    let [before, _] = total_stock(world)?;
    let shared = Shared::default();
    let (workers, started) = (start(world, &shared)?, Instant::now());
    for stage in (0..ROUNDS).flat_map(|_| cast.stages()).collect::<Vec<_>>() {
        std::thread::sleep(BETWEEN_KILLS);
        cast.look()?;
        let pid = cast.kill(&stage)?;
        show.line(&format!("  kill -9 {pid:<8} {stage}, and started again"));
    }
    std::thread::sleep(BETWEEN_KILLS);
    shared.stop.store(true, Ordering::SeqCst);
    let mut changes = 0;
    for worker in workers {
        changes += worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    let per_s = changes / i64::try_from(started.elapsed().as_secs().max(1))?;
    show.line(&format!(
        "  {changes} rows changed by the apps meanwhile, {per_s} a second"
    ));
    apps::wait_until_agreed(world, cast, show, AGREE_S)?;
    let [shop, wms] = total_stock(world)?;
    let expected = before + shared.stock.load(Ordering::SeqCst);
    show.check("total stock in the shop", shop, expected);
    show.check("total stock in the warehouse", wms, expected);
    show.fact(
        &format!("total stock {before} → {expected}: every sale and every delivery counted once, in both apps"),
        shop == expected && wms == expected,
    );
    Ok(())
}
