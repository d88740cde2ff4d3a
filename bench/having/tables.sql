\ir ../cascade/tables.sql
