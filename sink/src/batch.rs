//! Records gathered for one transaction.

use syncline_runtime::telemetry;
use tracing::Span;

use crate::target::Delivery;

const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Records gathered for one transaction.
pub struct Batch<C> {
    /// In the order of their topics.
    pub deliveries: Vec<Delivery<C>>,
    bytes: usize,
    /// What the batch is a consequence of, as far as that is traced.
    pub span: Span,
}

impl<C> Batch<C> {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self {
            deliveries: Vec::new(),
            bytes: 0,
            span: Span::none(),
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Links the batch to where its records come from: one link of each batch before, a record of which begins it here.
    pub(crate) fn caused_by(&mut self, headers: &[(String, Vec<u8>)]) {
        if self.deliveries.is_empty() {
            self.span = tracing::info_span!("sink.batch");
            telemetry::extract(&self.span, headers);
        }
    }

    /// Adds a record, which weighs so much.
    pub(crate) fn push(&mut self, delivery: Delivery<C>, bytes: usize) {
        self.bytes += bytes;
        self.deliveries.push(delivery);
    }

    pub(crate) fn is_full(&self, rows_max: usize) -> bool {
        self.deliveries.len() >= rows_max || self.bytes >= BATCH_BYTES_MAX
    }
}
