//! The demo's apps and pipeline (`deploy/demo`), so that what a newcomer sees is what the tests test.

use crate::world::App;

/// Tables of the web shop.
pub const SHOP: &str = include_str!("../../deploy/demo/shop.sql");
/// Tables of the CRM.
pub const CRM: &str = include_str!("../../deploy/demo/crm.sql");
/// Tables of billing.
pub const BILLING: &str = include_str!("../../deploy/demo/billing.sql");
/// Tables of the warehouse.
pub const WMS: &str = include_str!("../../deploy/demo/wms.sql");
/// The customer's schema.
pub const CUSTOMER: &str = include_str!("../../deploy/demo/customer.avsc");
/// The product's schema.
pub const PRODUCT: &str = include_str!("../../deploy/demo/product.avsc");
/// The pipeline, under the name `acme` and with topics named after its systems.
pub const PIPELINE: &str = include_str!("../../deploy/demo/acme.yaml");

/// The four apps.
pub const APPS: [App<'static>; 4] = [("shop", SHOP), ("crm", CRM), ("billing", BILLING), ("wms", WMS)];

/// The demo's pipeline under a name and topic prefixes of its own, for [`crate::World`].
pub fn pipeline() -> String {
    let named = PIPELINE.replace("pipeline: acme", "pipeline: \"${env:PIPELINE}\"");
    APPS.iter().fold(named, |text, (app, _)| {
        let app = app.to_uppercase();
        let dsn = format!("\"${{env:{app}_DSN}}\"");
        text.replace(&dsn, &format!("{dsn}, topic_prefix: \"${{env:{app}_PREFIX}}\""))
    })
}

/// The files of [`crate::World`]; `pipeline` is what [`pipeline`] gives.
pub fn files(pipeline: &str) -> [(&str, &str); 3] {
    [
        ("pipeline.yaml", pipeline),
        ("customer.avsc", CUSTOMER),
        ("product.avsc", PRODUCT),
    ]
}
