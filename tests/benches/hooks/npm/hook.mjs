// The web hook in front of graphile-worker: POST keeps the body as a job and answers 202, GET tells whether all are done.

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { makeWorkerUtils } from "graphile-worker";
import pg from "pg";

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

async function answer(request) {
  if (request.method === "GET") {
    const { rows } = await pool.query({ ...idle, values: [kept] });
    return [200, { idle: rows[0].idle }];
  }
  const { rows } = await pool.query({ ...keep, values: [await text(request)] });
  kept += 1;
  return [202, { id: rows[0].id }];
}

createServer(async (request, response) => {
  const [status, value] = await answer(request).catch((error) => [500, { error: error.message }]);
  const body = JSON.stringify(value);
  response.writeHead(status, { "content-length": Buffer.byteLength(body) }).end(body);
}).listen(Number(process.argv[2]), "127.0.0.1");
