-- Every 40th has another phone than in the shop, every 60th another spelling of the name, every 7th a label of its own.
INSERT INTO contacts (first, last, mail, tel, limit_gbp, tags)
  SELECT CASE WHEN i % 60 = 7 THEN left(first, 1) || '.' ELSE first END, last, mail,
         CASE WHEN i % 40 = 0 THEN '+44 161 ' || i ELSE tel END, 500 + i % 20 * 100, CASE WHEN i % 7 = 0 THEN 'vip' ELSE '' END
  FROM generate_series(601, 3000) i, pg_temp.person(i);
INSERT INTO contacts (first, last, mail, tel, limit_gbp, tags) VALUES ('Ada', 'Lovelace', 'ada@old.uk', '0001', 1000, 'vip');
