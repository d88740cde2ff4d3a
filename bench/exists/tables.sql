\ir ../shop/tables.sql
