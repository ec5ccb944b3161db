-- Three thousand people, of whom each app knows some; what two apps know of one person is not always the same.
-- Run in each of the four databases before its own part: pg_temp.person(i) is the same person everywhere.
CREATE FUNCTION pg_temp.person(i int, OUT first text, OUT last text, OUT mail text, OUT tel text) LANGUAGE sql AS $$
  SELECT f, l, lower(f || '.' || replace(l, ' ', '')) || i || '@example.org', '+44 20 ' || lpad((i * 7919 % 10000000)::text, 7, '0')
  FROM (SELECT (ARRAY['Ada','Grace','Alan','Edsger','Barbara','Ken','Ana','Noor','Li','Tove','Omar','Chiara','Jan','Yuki'])[1 + i % 14] f,
               (ARRAY['Lovelace','Hopper','Turing','Liskov','de la Cruz','Thompson','van Dijk','Ito','Okafor','Rossi','Nilsson'])[1 + i % 11] l) n
$$;
