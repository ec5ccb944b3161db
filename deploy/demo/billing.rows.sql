-- Every 50th has another credit limit than in the CRM: money, so that a person must decide.
INSERT INTO accounts (holder, invoice_to, credit_limit)
  SELECT first || ' ' || last, mail, CASE WHEN i % 50 = 0 THEN 9999.50 ELSE 500 + i % 20 * 100 END
  FROM generate_series(1201, 2700) i, pg_temp.person(i);
INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada Lovelace', 'ada@old.uk', 1000);
