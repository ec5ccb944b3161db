-- The CRM: first and last name apart, the limit as numeric, labels in one text separated by semicolons.
CREATE TABLE contacts (
  contact_id serial PRIMARY KEY,
  first      varchar(60) NOT NULL DEFAULT '',
  last       varchar(60) NOT NULL DEFAULT '',
  mail       varchar(120) NOT NULL,
  tel        varchar(30),
  limit_gbp  numeric(12,2),
  tags       text NOT NULL DEFAULT ''
);
