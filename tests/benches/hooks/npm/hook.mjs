// The web hook in front of graphile-worker: POST keeps the body as a job and answers 202, GET tells whether all are done.
//
// Its arguments are a port, and how jobs are kept: `alone`, each in a transaction of its own, or `together`.

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { makeWorkerUtils } from "graphile-worker";
import pg from "pg";

const [port, how] = process.argv.slice(2);
const keepBody = how === "together" ? keepTogether : keepAlone;
const pool = new pg.Pool({ max: 24 });
// A connection breaks when the bench stops the database.
pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
const utils = await makeWorkerUtils({ pgPool: pool });
await utils.migrate();
await pool.query(`
  create table state (key int primary key, count bigint not null);
  create table outbox (id bigserial primary key, url text not null, body json not null);
`);

const keep = {
  name: "keep",
  text: "select id from graphile_worker.add_job('handle', $1::json)",
};
// The sequence is looked at first: it costs nothing while jobs are still being done.
const idle = {
  name: "idle",
  text: `select case when (select last_value from outbox_id_seq) < $1 then false
         else not exists (select from graphile_worker._private_jobs) end as idle`,
};
let kept = 0;

async function keepAlone(body) {
  await pool.query({ ...keep, values: [body] });
}

let waiting = [];
let keeping = false;

/** All that came while the last were kept, in one transaction. */
async function keepTogether(body) {
  const { promise, resolve, reject } = Promise.withResolvers();
  waiting.push({ payload: JSON.parse(body), resolve, reject });
  if (!keeping) {
    keeping = true;
    while (waiting.length > 0) {
      const jobs = waiting.splice(0);
      const specs = jobs.map(({ payload }) => ({ identifier: "handle", payload }));
      await utils.addJobs(specs).then(
        () => jobs.forEach(({ resolve }) => resolve()),
        (error) => jobs.forEach(({ reject }) => reject(error)),
      );
    }
    keeping = false;
  }
  await promise;
}

async function answer(request) {
  if (request.method === "GET") {
    const { rows } = await pool.query({ ...idle, values: [kept] });
    return [200, { idle: rows[0].idle }];
  }
  await keepBody(await text(request));
  kept += 1;
  return [202, {}];
}

createServer(async (request, response) => {
  const [status, value] = await answer(request).catch((error) => [500, { error: error.message }]);
  const body = JSON.stringify(value);
  response.writeHead(status, { "content-length": Buffer.byteLength(body) }).end(body);
}).listen(Number(port), "127.0.0.1");
