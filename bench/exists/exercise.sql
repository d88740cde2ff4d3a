\ir ../shop/exercise.sql
