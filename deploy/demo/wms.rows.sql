-- Every 100th product has another retail price than in the shop.
INSERT INTO items (sku, retail, launch, web, trade, contract, floor, promo, on_hand)
  SELECT 'SKU-' || i, CASE WHEN i % 100 = 0 THEN p + 1 ELSE p END, p, p, p, p, p, p, 100 + i % 50
  FROM generate_series(501, 2000) i, LATERAL (SELECT (500 + i % 900) / 100.0) v(p);
INSERT INTO items (sku, retail, launch, web, trade, contract, floor, promo, on_hand)
  VALUES ('TEA', 40, 40, 40, 40, 40, 40, 40, 100), ('COFFEE', 40, 40, 40, 40, 40, 40, 40, 100);
