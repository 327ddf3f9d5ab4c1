// pg-boss: fetched by 1,000; an inserting handler sends one statement a job.
//
//   pg_boss.js install | drain insert|nothing | serve

const PgBoss = require("pg-boss");
const { Pool } = require("pg");

const pool = new Pool({ max: 25 });
const insert = (job) =>
  pool.query("INSERT INTO handled VALUES ($1, clock_timestamp())", [job.data.id]);
const nothing = async () => {};

async function main(action, handler) {
  const boss = new PgBoss({
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    user: process.env.PGUSER,
    database: process.env.PGDATABASE,
    supervise: false,
    schedule: false,
  });
  await boss.start();

  if (action === "install") {
    await boss.createQueue("bench");
  } else if (action === "drain") {
    // its own worker waits half a second between two batches; this loop doesn't
    const handle = handler === "insert" ? insert : nothing;
    const start = process.hrtime.bigint();
    for (;;) {
      const jobs = await boss.fetch("bench", { batchSize: 1000 });
      if (jobs.length === 0) break;
      await Promise.all(jobs.map(handle));
      await boss.complete("bench", jobs.map((job) => job.id));
    }
    console.log(Number(process.hrtime.bigint() - start) / 1e6);
  } else {
    await boss.work("bench", { batchSize: 1000, pollingIntervalSeconds: 0.5 },
      (jobs) => Promise.all(jobs.map(insert)));
    console.log("ready");
    return; // its timers keep it alive
  }
  await boss.stop({ graceful: false });
  await pool.end();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
