// graphile-worker, set as its own guide to performance says: jobs are fetched
// by 500, handled 24 at a time and completed in batches.
//
//   graphile_worker.js install | drain insert|nothing | serve

const { run, runMigrations, runOnce, Logger } = require("graphile-worker");

const insert = async (payload, helpers) => {
  await helpers.query("INSERT INTO handled VALUES ($1, clock_timestamp())", [payload.id]);
};
const nothing = async () => {};
const quiet = new Logger(() => () => {});

const options = {
  connectionString: `postgresql:///${process.env.PGDATABASE}?host=${process.env.PGHOST}&port=${process.env.PGPORT}&user=${process.env.PGUSER}`,
  logger: quiet,
  noHandleSignals: false,
  preset: {
    worker: {
      connectionString: undefined,
      concurrentJobs: 24,
      maxPoolSize: 25,
      pollInterval: 2000,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      localQueue: { size: 500 },
    },
  },
};

async function main(action, handler) {
  if (action === "install") {
    await runMigrations(options);
  } else if (action === "drain") {
    const start = process.hrtime.bigint();
    await runOnce({ ...options, taskList: { insert: handler === "insert" ? insert : nothing } });
    console.log(Number(process.hrtime.bigint() - start) / 1e6);
  } else {
    const { localQueue, completeJobBatchDelay, ...direct } = options.preset.worker;
    const runner = await run({
      ...options,
      preset: { worker: direct }, // for latency: no batches
      taskList: { stamp: insert, insert },
    });
    await runner.promise;
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
