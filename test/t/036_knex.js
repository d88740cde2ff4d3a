// The migrations of 036_knex.pl, run by Knex one at a time: node 036_knex.js STEP. Prints what came of it as JSON. What is
// required is found in the directory where it runs.
const need = require('node:module').createRequire(process.cwd() + '/');
const knex = need('knex')({ client: 'pg', connection: { host: process.env.PGHOST, port: process.env.PGPORT, user: process.env.PGUSER, database: 'postgres' } });

// A table is altered as Knex would write it, with the projections in its way taken off.
const alterSource = (db, table, build, definitions) =>
	db.raw('SELECT * FROM projections.alter_source(?, ?, ?::jsonb)', [table, db.schema.alterTable(table, build).toString(), definitions ? JSON.stringify(definitions) : null]);

const nothing = async () => {};
const steps = {
	async create(db) {
		await db.schema.createTable('customers', (t) => { t.increments(); t.string('name').notNullable(); });
		await db.schema.createTable('orders', (t) => {
			t.increments();
			t.integer('customer_id').notNullable().references('customers.id');
			t.integer('amount').notNullable();
			t.string('note');
			t.date('made').notNullable().defaultTo('2026-01-01');
		});
		await db('customers').insert([{ name: 'ann' }, { name: 'bob' }, { name: 'eve' }]);
		await db('orders').insert(Array.from({ length: 60 }, (_, i) => ({ customer_id: (i % 3) + 1, amount: i, note: 'n' + (i % 2) })));
		await db.raw(`SELECT projections.create('sales', 'SELECT customer_id, sum(amount) AS amount, count(*) AS n FROM orders GROUP BY customer_id')`);
		await db.raw(`SELECT projections.create('named', 'SELECT c.name, max(o.amount) AS most FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY c.name')`);
		await db.raw(`SELECT projections.create('large', 'SELECT id, amount FROM orders WHERE amount > 30')`);
		await db.raw(`SELECT projections.create('busy', 'SELECT customer_id FROM sales WHERE n > 10')`);
	},
	add: (db) => db.schema.alterTable('orders', (t) => t.integer('quantity').notNullable().defaultTo(1)),
	rename: (db) => db.schema.alterTable('orders', (t) => { t.renameColumn('amount', 'total'); t.renameColumn('note', 'remark'); }),
	retype_unused: (db) => db.schema.alterTable('orders', (t) => t.text('remark').alter()),
	retype: (db) => db.schema.alterTable('orders', (t) => t.decimal('total', 12, 2).notNullable().alter()),
	retype_source: (db) => alterSource(db, 'orders', (t) => t.decimal('total', 12, 2).notNullable().alter()),
	drop_unused: (db) => db.schema.alterTable('orders', (t) => t.dropColumn('remark')),
	drop: (db) => db.schema.alterTable('orders', (t) => t.dropColumn('total')),
	drop_source_undefined: (db) => alterSource(db, 'orders', (t) => t.dropColumn('total')),
	async replace_source(db) {
		await db.schema.alterTable('orders', (t) => t.bigInteger('cents').notNullable().defaultTo(0));
		await db('orders').update({ cents: db.raw('total * 100') });
		await alterSource(db, 'orders', (t) => t.dropColumn('total'), {
			sales: 'SELECT customer_id, sum(cents) AS amount, count(*) AS n FROM orders GROUP BY customer_id',
			named: 'SELECT c.name, max(o.cents) AS most FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY c.name',
			large: 'SELECT id, cents AS amount FROM orders WHERE cents > 3000',
		});
	},
	key: (db) => db.schema.alterTable('orders', (t) => t.dropPrimary()),
	drop_table: (db) => db.schema.dropTable('orders'),
	partition_source: (db) => db.raw('SELECT * FROM projections.alter_source(?, ?)', ['orders', `
		ALTER TABLE orders RENAME TO whole;
		CREATE TABLE orders (LIKE whole INCLUDING DEFAULTS, CONSTRAINT orders_key PRIMARY KEY (id, made)) PARTITION BY RANGE (made);
		CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
		INSERT INTO orders SELECT * FROM whole;
		ALTER SEQUENCE orders_id_seq OWNED BY orders.id;
		DROP TABLE whole`]),
	// The second command fails: the first is undone with it.
	async half(db) {
		await alterSource(db, 'orders', (t) => t.integer('cents').notNullable().alter());
		await db.raw('SELECT 1 / 0');
	},
	async rename_tables(db) {
		await db.schema.renameTable('orders', 'purchases');
		await db.schema.alterTable('purchases', (t) => t.renameColumn('customer_id', 'buyer_id'));
		await alterSource(db, 'purchases', (t) => t.bigInteger('buyer_id').notNullable().alter());
	},
};

const name = process.argv[2];
const names = Object.keys(steps);
const until = names.slice(0, names.indexOf(name) + 1);
// One that has failed was never run: Knex runs what comes before it, so it is taken for empty.
const failed = (process.argv[3] || '').split(',');
const source = {
	getMigrations: async () => until,
	getMigrationName: (each) => each,
	getMigration: async (each) => ({ up: failed.includes(each) ? nothing : steps[each], down: nothing }),
};
(async () => {
	let said = {};
	try {
		await knex.migrate.latest({ migrationSource: source });
	} catch (error) {
		said = { code: error.code, message: error.message, detail: error.detail, hint: error.hint };
	}
	console.log(JSON.stringify(said));
	await knex.destroy();
})();
