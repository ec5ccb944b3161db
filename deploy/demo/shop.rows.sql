INSERT INTO customers (full_name, email, phone, labels)
  SELECT first || ' ' || last, mail, tel, CASE WHEN i % 5 = 0 THEN '{newsletter}'::text[] ELSE '{}' END
  FROM generate_series(1, 2400) i, pg_temp.person(i);
INSERT INTO products (sku, retail_pence, launch_pence, web_pence, trade_pence, contract_pence, floor_pence, promo_pence, qty)
  SELECT 'SKU-' || i, p, p, p, p, p, p, p, 100 + i % 50 FROM generate_series(1, 1500) i, LATERAL (SELECT 500 + i % 900) v(p);
INSERT INTO customers (full_name, email, phone, labels) VALUES ('Ada Lovelace', 'ada@old.uk', '0001', '{vip}');
INSERT INTO products (sku, retail_pence, launch_pence, web_pence, trade_pence, contract_pence, floor_pence, promo_pence, qty)
  VALUES ('TEA', 4000, 4000, 4000, 4000, 4000, 4000, 4000, 100), ('COFFEE', 4000, 4000, 4000, 4000, 4000, 4000, 4000, 100);
