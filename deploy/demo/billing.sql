-- Billing: other names for everything, and it knows neither phones nor labels.
CREATE TABLE accounts (
  account_no   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  holder       text NOT NULL DEFAULT '',
  invoice_to   text NOT NULL,
  credit_limit numeric(14,2)
);
