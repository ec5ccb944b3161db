-- The warehouse: products under their own numbers, prices in pounds, stock as it is on the shelf.
CREATE TABLE items (
  item_no  serial PRIMARY KEY,
  sku      text NOT NULL UNIQUE,
  retail   numeric(10,2),
  launch   numeric(10,2),
  web      numeric(10,2),
  trade    numeric(10,2),
  contract numeric(10,2),
  floor    numeric(10,2),
  promo    numeric(10,2),
  on_hand  integer NOT NULL DEFAULT 0
);
