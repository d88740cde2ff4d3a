-- One round of test/random: new tables and definitions, then transactions on them. :seed decides all of it.
SELECT setseed((:seed % 1000003) / 1000003.0);
CALL random.round(definitions => 3, transactions => 15);
