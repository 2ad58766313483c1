// The worker: each job reads and writes one row of state and adds one row to an outbox, in one transaction.
//
// Its argument is what the preset says beside the number of jobs at once, as JSON.

import { Logger, run } from "graphile-worker";

// As many as there are, a row is hardly ever waited for.
const ROWS = 1000;
const get = { name: "get", text: "select count from state where key = $1 for update" };
const set = {
  name: "set",
  text: `insert into state (key, count) values ($1, $2)
         on conflict (key) do update set count = excluded.count`,
};
const send = { name: "send", text: "insert into outbox (url, body) values ($1, $2::json)" };

async function handle(body, { job, withPgClient }) {
  const key = Number(job.id) % ROWS;
  await withPgClient(async (client) => {
    await client.query("begin");
    const { rows } = await client.query({ ...get, values: [key] });
    const count = BigInt(rows[0]?.count ?? 0) + 1n;
    await client.query({ ...set, values: [key, count] });
    await client.query({ ...send, values: ["http://127.0.0.1/", JSON.stringify(body)] });
    await client.query("commit");
  });
}

await run({
  preset: {
    worker: { concurrentJobs: 24, maxPoolSize: 25, ...JSON.parse(process.argv[2]) },
  },
  taskList: { handle },
  // Success is not told, job by job.
  logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
});
